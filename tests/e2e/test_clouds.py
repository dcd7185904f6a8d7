"""A task whose snapshots lie with Google or Azure; and what a store that can't be used is answered with."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.clouds import azurite, fake_gcs, gcp_emulator
from tests.e2e.conftest import MakeScenario
from tests.e2e.harness import WORKLOADS, Scenario, assert_same, printed
from tests.servers import BucketServer

pytestmark = pytest.mark.criu

STORE_FAILED = 174


def on(task: Scenario, server: BucketServer, bucket: str | None = None) -> Scenario:
    task.env |= server.environment() | {"BLOCKS": "8"}
    task.flags += ["--store", f"{server.scheme}://{bucket or server.bucket}/some/prefix"]
    return task


@pytest.fixture(params=[fake_gcs, azurite], ids=["gs", "az"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BucketServer]:
    start: Callable[[Path], AbstractContextManager[BucketServer]] = request.param
    with start(tmp_path_factory.mktemp("server")) as running:
        yield running


def test_a_task_goes_on_from_the_bucket(scenario: MakeScenario, server: BucketServer) -> None:
    task = on(scenario([sys.executable, WORKLOADS / "heap.py"]), server)
    expected = task.baseline()
    assert_same(task.run_through(printed("step 6 ")), expected)
    assert "restores snapshot" in task.attempts[-1].log
    assert not task.store.exists()


def test_a_missing_bucket_starts_nothing(scenario: MakeScenario, server: BucketServer) -> None:
    task = on(scenario([sys.executable, WORKLOADS / "heap.py"]), server, bucket="no-such-bucket")
    attempt = task.start()
    attempt.finish(STORE_FAILED)
    assert bytes(attempt.stdout.data) == b""
    assert len(attempt.stderr.data.splitlines()) == 1
    assert b"fsnap makes no" in attempt.stderr.data


def test_a_store_that_ignores_the_condition_starts_nothing(scenario: MakeScenario, tmp_path: Path) -> None:
    """gcp-storage-emulator is known to be wrong."""
    with gcp_emulator(tmp_path / "server") as server:
        attempt = on(scenario([sys.executable, WORKLOADS / "heap.py"]), server).start()
        attempt.finish(STORE_FAILED)
    assert bytes(attempt.stdout.data) == b""
    assert b"ignores the create-only condition" in attempt.stderr.data
