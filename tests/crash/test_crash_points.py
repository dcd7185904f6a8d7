"""The agent is killed at every crash point, with real CRIU and a real store; the task goes on.

A life has a start, a periodic checkpoint, a reclaim and a restore, so that each point is
met.  The agent dies at one visit of one point; then the same command is started again,
on the same node or, the whole node being gone, on another.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fsnap.core.model import State
from fsnap.crashpoints import CrashPoint
from fsnap.snapshots.fetch import Snapshot
from fsnap.stores.file import FileStore
from tests.e2e.harness import LIMIT_S, Attempt
from tests.protocol.conftest import MakeTask
from tests.protocol.support import Task

pytestmark = pytest.mark.criu

KILLER = Path(__file__).with_name("killer.py")
LEASE_S = 1.0
MOST_ATTEMPTS = 8
RECLAIM_AT, STEPS = 6, 12
AGAIN = (0, 177, 175, 176)
"""What an attempt after the crash may end with; all but 0 mean: start me again."""

SEVERAL_VISITS = {
    CrashPoint.DECIDED: 5,
    CrashPoint.RECORDED: 5,
    CrashPoint.BATCH_KEPT: 3,
    CrashPoint.BATCH_PUT: 3,
    CrashPoint.DURABLE: 5,
    CrashPoint.EFFECT_BEGUN: 5,
    CrashPoint.TREE_STORED: 3,
}
"""Points that an attempt meets again and again (started, checkpointed, reclaimed: five records at least); the
others are tried at their first visit."""

CASES = [(point, visit) for point in CrashPoint for visit in range(1, SEVERAL_VISITS.get(point, 1) + 1)]
IN_CI = [(point, visit) for point, visit in CASES if visit == 1 or point is CrashPoint.DURABLE]


class Life:
    """One task from its start to its end, with one crash in it."""

    def __init__(self, task: Task, point: CrashPoint, visit: int, *, lose_node: bool) -> None:
        self.task = task
        self.mark = task.control / "killed"
        self.killer = (sys.executable, str(KILLER), point.name, str(visit), str(self.mark))
        self.lose_node = lose_node
        self.number = 0

    def attempt(self, *, fresh: bool) -> Attempt:
        self.number += 1
        self.task.node = self.killer if not self.mark.exists() else ()
        flags = ["--attempt", str(self.number), "--lease", str(LEASE_S), "--interval", "0.4"]
        return self.task.start(*flags, fresh=fresh)

    def run(self) -> None:
        """Until the task has ended well; reclaimed once on the way."""
        fresh, reclaimed = True, False
        for _ in range(MOST_ATTEMPTS):
            attempt = self.attempt(fresh=fresh)
            if not reclaimed:
                reclaimed = self.reclaim(attempt)
            code = attempt.finish()
            if reclaimed:
                self.task.go(RECLAIM_AT)
            if code == -signal.SIGKILL:
                fresh = self.lose_node
                if fresh:
                    self.task.lose_node(attempt)
                continue
            assert code in AGAIN, attempt.told()
            if code == 0:
                return
            fresh = True
        raise AssertionError(f"not at its end after {MOST_ATTEMPTS} attempts: {attempt.told()}")

    def reclaim(self, attempt: Attempt) -> bool:
        """Give the notice once the task is far enough; false when the attempt ended before."""
        while attempt.process.poll() is None:
            if f"{RECLAIM_AT}\n" in self.written() and "checkpointed" in self.task.triggers():
                self.task.give_notice()
                return True
            try:
                attempt.process.wait(0.02)
            except subprocess.TimeoutExpired:
                continue
        return False

    def written(self) -> str:
        out = self.task.state / "out"
        return out.read_text() if out.exists() else ""


def check(task: Task) -> None:
    """What must hold after any crash."""
    assert (task.state / "out").read_text() == task.expected_file()
    task.assert_never_two()
    store = FileStore(str(task.store), create=False)
    records = task.records()
    assert records[-1].dest is State.COMPLETED
    for record in records:
        if record.trigger in ("commit", "checkpointed"):
            ref = record.event.ref  # type: ignore[attr-defined]
            snapshot = Snapshot.open(
                store=store, prefix="tasks/T", snapshot_id=ref.id, manifest_digest=ref.manifest
            )
            assert snapshot.verify().ok, ref.id
    resumed = [record.epoch for record in records if record.trigger == "restored"]
    assert len(resumed) == len(set(resumed)), "two resumes in one epoch"


def live(make_task: MakeTask, point: CrashPoint, visit: int, *, lose_node: bool) -> None:
    task = make_task(STEPS, RECLAIM_AT)
    life = Life(task, point, visit, lose_node=lose_node)
    life.run()
    check(task)
    assert life.mark.exists(), f"{point.name} was not reached {visit} times"


def name(case: tuple[CrashPoint, int]) -> str:
    return f"{case[0].value:02d}-{case[0].name.lower()}-{case[1]}"


@pytest.mark.timeout(4 * LIMIT_S)
@pytest.mark.parametrize("case", IN_CI, ids=name)
def test_same_node(make_task: MakeTask, case: tuple[CrashPoint, int]) -> None:
    live(make_task, *case, lose_node=False)


@pytest.mark.slow
@pytest.mark.timeout(4 * LIMIT_S)
@pytest.mark.parametrize("case", [case for case in CASES if case not in IN_CI], ids=name)
def test_same_node_later_visits(make_task: MakeTask, case: tuple[CrashPoint, int]) -> None:
    live(make_task, *case, lose_node=False)


@pytest.mark.slow
@pytest.mark.timeout(4 * LIMIT_S)
@pytest.mark.parametrize("case", CASES, ids=name)
def test_node_lost(make_task: MakeTask, case: tuple[CrashPoint, int]) -> None:
    live(make_task, *case, lose_node=True)


@pytest.mark.timeout(4 * LIMIT_S)
@pytest.mark.parametrize(
    "point",
    [CrashPoint.RECORDED, CrashPoint.INDEX_STORED, CrashPoint.MANIFEST_STORED, CrashPoint.TREE_RESTORED],
    ids=lambda point: point.name.lower(),
)
def test_node_lost_in_short(make_task: MakeTask, point: CrashPoint) -> None:
    live(make_task, point, 1, lose_node=True)
