"""Scratch places, scheduling and clocks of a task are on the next node what they were on the last."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from tests.e2e import leftovers
from tests.e2e.conftest import MakeScenario
from tests.e2e.harness import NEW_NODE, WORKLOADS, assert_same, printed

pytestmark = pytest.mark.criu


@pytest.mark.parametrize("node", [(), NEW_NODE], ids=["here", "own-namespaces"])
def test_scratch_scheduling_and_clock(scenario: MakeScenario, tmp_path: Path, node: tuple[str, ...]) -> None:
    name = f"fsnap-e2e-{uuid4().hex}"
    host, removed = tmp_path / "host.txt", tmp_path / "removed.txt"

    def put() -> None:
        host.write_text("from the host\n")
        removed.write_text("x")

    def cleanup() -> None:
        shutil.rmtree(Path("/tmp", name))
        Path("/dev/shm", name).unlink()
        put()

    put()
    task = scenario([sys.executable, WORKLOADS / "scratch.py", name, host, removed])
    expected = task.baseline(cleanup)
    task.node = node
    assert_same(task.run_through(printed("step 4 "), printed("step 14 ")), expected)
    assert not Path("/tmp", name).exists()
    assert not Path("/dev/shm", name).exists()
    assert host.read_text() == "from the host\n"
    assert removed.exists()


def test_no_network_lock_is_left(scenario: MakeScenario) -> None:
    """A node may live on after its task has gone elsewhere."""
    task = scenario([sys.executable, WORKLOADS / "heap.py"])
    task.env["BLOCKS"] = "2"
    task.node = (sys.executable, str(WORKLOADS / "netlock.py"))
    attempt = task.reclaim(printed("step 3 "))
    assert "fsnap-test tables: []" in attempt.log


def test_a_scratch_directory(scenario: MakeScenario, var_tmp: Path) -> None:
    """``--scratch`` does for another directory what is always done for /tmp."""
    task = scenario([sys.executable, WORKLOADS / "spool.py", var_tmp])
    expected = task.baseline(lambda: [path.unlink() for path in var_tmp.iterdir()])
    task.flags += ["--scratch", str(var_tmp)]
    assert_same(task.run_through(printed("step 3 "), printed("step 10 ")), expected)
    assert list(var_tmp.iterdir()) == []


def test_nothing_is_left_after_a_failed_start(scenario: MakeScenario) -> None:
    task = scenario(["/no/such/command"])
    before = leftovers.mounts()
    task.finish(expected=127)
    assert leftovers.mounts() == before
