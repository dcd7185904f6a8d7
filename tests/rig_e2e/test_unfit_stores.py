"""A store that can't keep the task: 174 and one line that says why, before anything of the task has run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rig_e2e.cloud import STATE, STORE_FAILED, Attempt, Cloud
from tests.rig_e2e.roads import s3_cloud
from tests.servers import has_nanio, nanio, seaweedfs
from tools.rig import Rig

pytestmark = pytest.mark.criu


def assert_refused(attempt: Attempt, *words: str) -> None:
    """It ended with 174 and said why in one line; the task has left nothing, since it has not run."""
    attempt.finish(STORE_FAILED)
    lines = bytes(attempt.stderr.data).decode().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("fsnap: ")
    for word in words:
        assert word in lines[0]
    assert not attempt.stdout.data
    assert not list(attempt.machine.path(STATE).iterdir())
    attempt.machine.assert_idle()


def run(cloud: Cloud, **env: str) -> Attempt:
    machine = cloud.machine(metadata=False)
    return machine.run("--provider", "none", env=env)


def test_no_credentials(cloud: Cloud) -> None:
    assert_refused(run(cloud, AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY=""), "credentials")


def test_an_unknown_bucket(cloud: Cloud) -> None:
    cloud.store = "s3://no-such-bucket/p"
    assert_refused(run(cloud), "no-such-bucket")


def test_a_wrong_secret(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with seaweedfs(tmp_path / "weed") as server:
        cloud = s3_cloud(rig, server, monkeypatch)
        assert_refused(run(cloud, AWS_SECRET_ACCESS_KEY="wrong"), server.bucket)


def test_nobody_listens(cloud: Cloud) -> None:
    assert_refused(run(cloud, AWS_ENDPOINT_URL=f"http://{cloud.rig.address}:1"), "fsnap-tests")


def test_a_server_that_ignores_conditions(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two nodes could both take the task."""
    if not has_nanio():
        pytest.skip("needs nanio, a server that ignores conditions")
    with nanio(tmp_path / "nanio") as server:
        assert_refused(run(s3_cloud(rig, server, monkeypatch)), "create-only condition")


def test_a_full_directory(rig: Rig, shared: Path) -> None:
    """A file store on a file system that has no room."""
    cloud = Cloud(rig, "file:///srv/store", {}, {})
    machine = cloud.machine(metadata=False)
    mount = "mount -t tmpfs -o size=4k tmpfs /srv/store && head -c 4096 /dev/zero >/srv/store/full"
    machine.node.exec(["sh", "-c", f"mkdir /srv/store && {mount}"])
    assert_refused(machine.run("--provider", "none"), "/srv/store", "No space left")
