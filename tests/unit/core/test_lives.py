"""Whole lives of tasks: decisions and their fold, from the claim to the end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fsnap.core.effects import (
    Dump,
    Exit,
    Kill,
    Predump,
    Release,
    Restore,
    SaveFiles,
    Start,
)
from fsnap.core.events import (
    CheckpointAsked,
    DumpFailed,
    RenewAsked,
    RestoreReady,
    SnapshotSaved,
    TaskExited,
    Tick,
)
from fsnap.core.model import Attempt, Basis, Config, Facts, State, TaskState
from fsnap.errors import IllegalTransition
from tests.unit.core.support import (
    AT,
    AWS,
    HOLDER,
    HOUR_MS,
    NOTICE,
    OTHER,
    SLURM,
    choose,
    claim,
    failed,
    ref,
    saved,
    started,
)

# -- the straight way


def test_a_task_that_is_never_reclaimed() -> None:
    life = started()
    assert (life.state.state, life.state.epoch, life.state.held) == (State.RUNNING, 1, True)
    assert (life.state.command, life.state.cwd, life.state.holder) == (("cmd", "é"), "/data", HOLDER)
    ended = life.happens(TaskExited(exit_code=0))
    assert ended.effects == (SaveFiles(snapshot_id="000001-0000000002"),)
    assert (life.state.finishing, life.state.exit_code, life.state.held) == (True, 0, True)
    done = life.happens(SnapshotSaved(ref=ref("files", "files")))
    assert done.effects == (Exit(exit_code=0, outcome="exited"),)
    assert (life.state.state, life.state.outcome, life.state.exit_code) == (State.COMPLETED, "exited", 0)
    assert not life.state.held and not life.state.finishing
    assert life.state.usable == ()
    with pytest.raises(IllegalTransition):
        life.happens(claim(Basis.NEW))


def test_files_that_are_shared_are_not_saved() -> None:
    life = started(Config(shared_state=True))
    assert life.happens(TaskExited(exit_code=0)).effects == (Exit(exit_code=0, outcome="exited"),)
    assert life.state.state is State.COMPLETED


def test_a_task_that_fails_by_itself_begins_anew_when_asked() -> None:
    life = started()
    assert life.happens(TaskExited(exit_code=137)).effects == (Exit(exit_code=137, outcome="exited"),)
    assert (life.state.state, life.state.exit_code) == (State.FAILED, 137)
    life.happens(RenewAsked(reason="it had failed"))
    assert life.state == TaskState(
        task="t", seq=3, epoch=1, digest=life.records[-1].digest, since=AT, note="begins anew (it had failed)"
    )
    life.happens(claim(Basis.NEW), Facts(started=False))
    assert (life.state.state, life.state.epoch) == (State.RUNNING, 2)


def test_a_completed_task_is_begun_anew_by_the_user_alone() -> None:
    life = started(Config(shared_state=True))
    life.happens(TaskExited(exit_code=0))
    with pytest.raises(IllegalTransition):
        life.happens(RenewAsked(reason="it had failed"))
    life.happens(RenewAsked(reason="fresh"))
    assert life.state.state is State.NEW and life.state.snapshots == ()


# -- reclaimed, and on another node


def test_a_reclaimed_task_goes_on_elsewhere() -> None:
    life = started()
    dump = life.happens(NOTICE)
    assert dump.effects == (Dump(snapshot_id="000001-0000000002"),)
    assert life.state.pending is not None and life.state.pending.deadline_at == ""
    commit = life.happens(SnapshotSaved(ref=ref("000001-0000000002", "final", run_ms=90_000)))
    assert commit.effects == (Kill(), Exit(exit_code=177, outcome="checkpointed"))
    assert life.state.state is State.UPLOADED
    taken = life.happens(replace(claim(Basis.UPLOADED), holder=OTHER), Facts(started=False))
    assert taken.effects == (Restore(snapshot_id="000001-0000000002", hold_ms=0),)
    assert (life.state.epoch, life.state.holder, life.state.pending) == (2, OTHER, None)
    assert life.records[-1].folded is not None and life.records[-1].folded.state is State.UPLOADED
    assert life.happens(RestoreReady(snapshot_id="000001-0000000002", holder=OTHER)).effects == (Release(),)
    assert (life.state.state, life.state.restored) == (State.RESUMED, True)
    assert (life.state.reclaims_survived, life.state.work_saved_ms, life.state.run_base_ms) == (
        1,
        90_000,
        90_000,
    )
    life.happens(Tick(), Facts(since_snapshot_ms=HOUR_MS))
    assert saved(life) and life.state.state is State.RESUMED
    life.happens(TaskExited(exit_code=0))
    assert (life.state.state, life.state.finishing) == (State.RESUMED, True)
    saved(life, "files")
    assert life.state.state is State.COMPLETED


def test_no_two_snapshots_have_one_id() -> None:
    life = started()
    names = set()
    for _ in range(3):
        decision = life.happens(CheckpointAsked(reason="r"))
        assert isinstance(decision.effects[0], Predump)
        names.add(decision.effects[0].snapshot_id)
        life.happens(DumpFailed(code="criu", message="no"))
    life.happens(claim(Basis.HOLDER_GONE), Facts(started=False))
    decision = life.happens(CheckpointAsked(reason="r"))
    assert isinstance(decision.effects[0], Predump)
    names.add(decision.effects[0].snapshot_id)
    assert len(names) == 4


@pytest.mark.parametrize("state", ["running", "predumping", "dumping"])
def test_a_death_without_notice_goes_on_from_the_last_commit_or_from_nothing(state: str) -> None:
    for commits in (0, 1):
        life = started()
        newest = None
        for _ in range(commits):
            life.happens(CheckpointAsked(reason="r"))
            newest = saved(life)
        if state == "predumping":
            life.happens(CheckpointAsked(reason="r"))
        if state == "dumping":
            life.happens(NOTICE)
        assert life.state.state.value == state
        decision = life.happens(claim(Basis.HOLDER_GONE), Facts(started=False))
        if newest is None:
            assert decision.effects == (Start(hold_ms=0),)
            assert "starts from nothing" in decision.note
        else:
            assert decision.effects == (Restore(snapshot_id=newest, hold_ms=0),)
        assert life.state.pending is None


@pytest.mark.parametrize(
    ("basis", "attempt", "hold_ms"),
    [
        (Basis.LATER_ATTEMPT, SLURM, 60_000),
        (Basis.LATER_ATTEMPT, Attempt(scheduler="flag", job="j", number=2), 60_000),
        (Basis.LATER_ATTEMPT, AWS, 0),
        (Basis.LEASE_EXPIRED, SLURM, 60_000),
        (Basis.HOLDER_GONE, SLURM, 0),
    ],
)
def test_a_claim_that_proves_nothing_waits_for_the_earlier_holders_lease(
    basis: Basis, attempt: Attempt, hold_ms: int
) -> None:
    life = started(Config(lease_ms=60_000))
    asked = claim(basis, attempt=replace(attempt, number=2), config=Config(lease_ms=1))
    assert choose(life.state, asked).effects == (Start(hold_ms=hold_ms),)
    life.happens(CheckpointAsked(reason="r"))
    name = saved(life)
    assert choose(life.state, asked).effects == (Restore(snapshot_id=name, hold_ms=hold_ms),)


@pytest.mark.parametrize("snapshots", [1, 2])
def test_a_restore_that_fails_early_does_not_shorten_the_wait(snapshots: int) -> None:
    life = started(Config(lease_ms=60_000, on_restore_failure="restart"))
    for _ in range(snapshots):
        life.happens(CheckpointAsked(reason="r"))
        saved(life)
    life.happens(claim(Basis.LATER_ATTEMPT, attempt=replace(SLURM, number=2)), Facts(started=False))
    (effect,) = life.happens(failed(life, corrupt=True)).effects
    assert isinstance(effect, Start | Restore) and effect.hold_ms == 60_000
