"""An S3 server that dies in the middle of an upload, and one whose answers can't be trusted."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from fsnap.core.fold import fold_all
from fsnap.core.model import TaskState
from fsnap.core.records import Record
from fsnap.journal.mirror import read_records
from fsnap.snapshots.fetch import Snapshot
from fsnap.stores.urls import open_store
from tests.e2e.harness import LIMIT_S
from tests.faulty_proxy import Fault, FaultyProxy, faulty_proxy
from tests.protocol.conftest import MakeTask
from tests.protocol.support import CHECKPOINTED, Task, wait_until
from tests.servers import S3Server, ministack, seaweedfs

pytestmark = [pytest.mark.criu, pytest.mark.server]


@contextmanager
def in_bucket(
    task: Task, server: S3Server, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The task's store is in *server*, reached through *proxy*; the test itself goes straight there."""
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    task.env |= server.environment(endpoint=proxy.endpoint)
    url = server.url("p")
    task.flags += ["--store", url]
    yield url


def audit(url: str) -> list[Record]:
    """Every snapshot that the journal names can be read to its last byte."""
    store = open_store(url, create=False)
    records = read_records(store, "T")
    for ref in fold_all(TaskState(task="T"), records).snapshots:
        snapshot = Snapshot.open(
            store=store, prefix="tasks/T", snapshot_id=ref.id, manifest_digest=ref.manifest
        )
        assert snapshot.verify().ok, ref.id
    return records


@contextmanager
def restarted(server: S3Server) -> Iterator[None]:
    """The same server again, on the same ports and with what is on its disk."""
    arguments = server.process.args
    assert isinstance(arguments, list)
    with server.log.open("ab") as log:
        again = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=server.log.parent
        )
    try:
        wait_until("answer of the server", lambda: _answers(server))
        yield
    finally:
        again.kill()
        again.wait()


def _answers(server: S3Server) -> bool:
    try:
        server.client().list_objects_v2(Bucket=server.bucket)
    except (BotoCoreError, ClientError):
        return False
    return True


def test_a_server_killed_in_the_middle_of_an_upload(
    make_task: MakeTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit waits for it, and what it then names is there."""
    task = make_task(30, 8)
    task.env["BALLAST_MIB"] = "40"
    with (
        seaweedfs(tmp_path / "s3") as server,
        faulty_proxy(server.endpoint, {Fault.DELAYED: 1.0}, seed=1) as proxy,
        in_bucket(task, server, proxy, monkeypatch) as url,
    ):
        first = task.start()
        first.wait_stdout("line 8\n")
        before = len(proxy.put_headers)
        task.give_notice()
        first.wait_stderr("dumping: ")
        first.wait("put of a pack", lambda: len(proxy.put_headers) > before + 2)
        server.process.kill()
        server.process.wait()
        time.sleep(1.0)
        assert first.process.poll() is None, "it waits for the server"
        with restarted(server):
            first.finish(CHECKPOINTED)
            records = audit(url)
            assert [record.trigger for record in records].count("commit") == 1
            task.go(8)
            task.finish()
            task.assert_whole()
            audit(url)


def test_a_notice_does_not_wait_for_the_checkpoint_on_its_way(
    make_task: MakeTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task(30, 8)
    task.env["BALLAST_MIB"] = "100"
    with (
        seaweedfs(tmp_path / "s3") as server,
        faulty_proxy(server.endpoint, {Fault.DELAYED: 1.0}, seed=1) as proxy,
        in_bucket(task, server, proxy, monkeypatch) as url,
    ):
        first = task.start("--interval", "0.5")
        first.wait_stderr("predumping: ")
        first.wait("put of a pack", lambda: proxy.asked("PUT", "/packs/") > 0)
        proxy.delay_s = 2 * LIMIT_S
        task.give_notice()
        first.wait("freeze", lambda: task.still(0.3))
        proxy.delay_s = 0.0
        first.finish(CHECKPOINTED)
        (committed,) = fold_all(TaskState(task="T"), audit(url)).snapshots
        stored = [info.key for info in open_store(url).list("tasks/T/snapshots/")]
        assert all(committed.id in key for key in stored), "the checkpoint was not called off"
        task.go(8)
        task.finish()
        task.assert_whole()


LIES = {
    Fault.FLIPPED_IN: 0.06,
    Fault.FLIPPED_OUT: 0.09,  # few answers have a body
    Fault.CUT: 0.06,
    Fault.DEAF: 0.06,
    Fault.LATE: 0.06,
    Fault.DELAYED: 0.1,
}


def hand_on(make_task: MakeTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Reclaimed twice, with periodic checkpoints, while nothing that travels can be trusted."""
    task = make_task(60, 16, 32)
    with (
        ministack(tmp_path / "s3") as server,
        faulty_proxy(server.endpoint, LIES, seed=seed) as proxy,
        in_bucket(task, server, proxy, monkeypatch) as url,
    ):
        for pause in (16, 32):
            task.notice_path.unlink(missing_ok=True)
            attempt = task.start("--interval", "0.5")
            attempt.wait_stdout(f"line {pause}\n")
            task.give_notice()
            attempt.finish(CHECKPOINTED)
            task.go(pause)
        task.finish()
        proxy.settle()
        task.assert_whole()
        records = audit(url)
        assert [record.trigger for record in records].count("restored") == 2
        assert all(proxy.done[fault.name] for fault in LIES)


def test_flipped_cut_and_lost_answers(
    make_task: MakeTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand_on(make_task, tmp_path, monkeypatch, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 12))
def test_more_flipped_cut_and_lost_answers(
    make_task: MakeTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    hand_on(make_task, tmp_path, monkeypatch, seed)
