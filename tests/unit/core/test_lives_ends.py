"""Restores that fail, and ends that cross something else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fsnap.core.effects import (
    Exit,
    Kill,
    Release,
    Restore,
    Rollback,
    SaveFiles,
    Signal,
    Start,
)
from fsnap.core.events import (
    CancelAsked,
    CapsuleLost,
    CheckpointAsked,
    RestoreReady,
    SnapshotSaved,
    TaskExited,
    Tick,
)
from fsnap.core.model import Basis, Config, Facts, State
from fsnap.errors import IllegalTransition
from tests.unit.core.support import (
    NOTICE,
    OTHER,
    claim,
    evacuated,
    failed,
    ref,
    saved,
    started,
)

# -- restores that fail


def test_a_restore_is_tried_twice_then_the_older_snapshot_then_it_gives_up() -> None:
    life = started()
    life.happens(CheckpointAsked(reason="r"))
    older = saved(life)
    life.happens(CheckpointAsked(reason="r"))
    newer = saved(life)
    life.happens(claim(Basis.HOLDER_GONE), Facts(started=False))
    tried = [life.state.restoring_from]
    for _ in range(3):
        life.happens(failed(life))
        tried.append(life.state.restoring_from)
    assert tried == [newer, newer, older, older]
    assert life.state.quarantined == (newer,)
    end = life.happens(failed(life))
    assert end.effects == (Kill(), Exit(exit_code=176, outcome="restore-failed"))
    assert (life.state.held, life.state.state) == (False, State.RESTORING)


def test_what_one_node_could_not_restore_the_next_one_tries() -> None:
    """A retry after 176 must not start from nothing."""
    life = evacuated()
    life.happens(claim(Basis.UPLOADED), Facts(started=False))
    life.happens(failed(life))
    assert life.happens(failed(life)).trigger == "give_up"
    again = life.happens(claim(Basis.GAVE_UP), Facts(started=False))
    assert again.trigger == "claim"
    assert isinstance(again.effects[0], Restore)
    assert life.happens(failed(life)).trigger == "retry_restore"


def test_a_damaged_snapshot_stays_out_when_a_node_gives_up() -> None:
    life = started()
    life.happens(CheckpointAsked(reason="r"))
    older = saved(life)
    life.happens(CheckpointAsked(reason="r"))
    damaged = saved(life)
    life.happens(claim(Basis.HOLDER_GONE), Facts(started=False))
    life.happens(failed(life, corrupt=True))
    life.happens(failed(life))
    assert life.happens(failed(life)).trigger == "give_up"
    assert life.state.quarantined == (damaged, older), "for status, until the next claim"
    assert [each.id for each in life.state.usable] == [older]


def test_a_damaged_snapshot_is_not_tried_twice() -> None:
    life = started()
    life.happens(CheckpointAsked(reason="r"))
    damaged = saved(life)
    life.happens(claim(Basis.HOLDER_GONE), Facts(started=False))
    decision = life.happens(failed(life, corrupt=True))
    assert decision.trigger == "restart", "no snapshot is left that anybody could restore"
    assert isinstance(decision.effects[0], Start)
    assert "STARTS FROM NOTHING" in life.state.note
    assert (life.state.state, life.state.quarantined, life.state.usable) == (State.RUNNING, (damaged,), ())


def test_the_user_may_prefer_to_begin_anew() -> None:
    life = started(Config(on_restore_failure="restart"))
    life.happens(CheckpointAsked(reason="r"))
    saved(life)
    life.happens(claim(Basis.HOLDER_GONE, config=Config(on_restore_failure="restart")), Facts(started=False))
    life.happens(failed(life))
    assert life.happens(failed(life)).trigger == "restart"


def test_snapshots_of_files_alone_are_never_restored_as_a_tree() -> None:
    state = replace(started().state, snapshots=(ref("a"), ref("b", "files")))
    assert [each.id for each in state.usable] == ["a"]


def test_a_snapshot_that_the_journal_does_not_know_is_not_restored() -> None:
    life = evacuated()
    life.happens(claim(Basis.UPLOADED), Facts(started=False))
    before = life.state
    life.happens(RestoreReady(snapshot_id="unheard-of", holder=OTHER))
    assert life.state.reclaims_survived == before.reclaims_survived


def test_what_was_given_up_is_not_released() -> None:
    life = evacuated()
    life.happens(claim(Basis.UPLOADED), Facts(started=False))
    life.happens(replace(NOTICE, notice_id="n2"), Facts(started=False))
    assert not life.state.held
    late = RestoreReady(snapshot_id=life.state.usable[0].id, holder=OTHER)
    try:
        assert Release() not in life.happens(late, Facts(started=False)).effects
    except IllegalTransition:
        pass


# -- the end, and what may cross it


@pytest.mark.parametrize("kind", ["predump", "dump"])
def test_a_task_that_ends_during_a_capture_has_ended(kind: str) -> None:
    life = started()
    life.happens(NOTICE if kind == "dump" else CheckpointAsked(reason="r"))
    assert isinstance(life.happens(TaskExited(exit_code=0)).effects[0], SaveFiles)
    saved(life, "files")
    assert life.state.state is State.COMPLETED
    assert (life.state.pending, life.state.exit_code) == (None, 0)


def test_a_notice_while_the_files_are_saved_does_not_stop_that() -> None:
    life = started()
    life.happens(TaskExited(exit_code=0))
    assert (life.happens(NOTICE).trigger, life.state.finishing) == ("note", True)
    assert life.happens(Tick(), Facts(left_ms=-1)).trigger is None
    saved(life, "files")
    assert life.state.state is State.COMPLETED


def test_a_capsule_that_ends_after_its_task_takes_nothing_back() -> None:
    life = started()
    life.happens(TaskExited(exit_code=0))
    life.happens(CapsuleLost(message="init died"))
    assert (life.state.held, life.state.finishing, life.state.outcome) == (True, True, None)
    saved(life, "files")
    assert (life.state.state, life.state.exit_code) == (State.COMPLETED, 0)


def test_a_task_has_not_completed_before_its_files_are_saved() -> None:
    life = started()
    life.happens(CheckpointAsked(reason="r"))
    life.happens(TaskExited(exit_code=0))
    life.happens(SnapshotSaved(ref=ref("late", "periodic")))
    assert life.state.state is not State.COMPLETED


def test_a_capsule_that_dies_gives_the_claim_back() -> None:
    life = started()
    end = life.happens(CapsuleLost(message="init was killed"))
    assert end.effects == (Kill(), Exit(exit_code=175, outcome="reclaimed"))
    assert not life.state.held
    life.happens(claim(Basis.GAVE_UP), Facts(started=False))
    assert (life.state.held, life.state.outcome) == (True, None)


@pytest.mark.parametrize("code", [0, 130])
def test_a_cancelled_task_says_so(code: int) -> None:
    life = started(Config(shared_state=True))
    assert life.happens(CancelAsked(signal=2)).effects == (Signal(signal=2),)
    assert life.happens(TaskExited(exit_code=code)).effects == (Exit(exit_code=code, outcome="cancelled"),)
    assert life.state.outcome == "cancelled"


def test_a_signal_during_a_dump_reaches_the_task() -> None:
    life = started()
    life.happens(NOTICE)
    assert life.happens(CancelAsked(signal=15)).effects == (Rollback(), Signal(signal=15))
    assert (life.state.state, life.state.cancelled) == (State.RUNNING, True)


def test_an_attempt_begins_without_the_last_ones_marks() -> None:
    life = started()
    life.happens(CancelAsked(signal=2))
    life.happens(CapsuleLost(message="x"))
    life.happens(claim(Basis.GAVE_UP), Facts(started=False))
    assert (life.state.cancelled, life.state.exit_code, life.state.outcome) == (False, None, None)


def test_a_task_that_was_cancelled_while_it_was_restored_has_its_code() -> None:
    life = evacuated()
    life.happens(claim(Basis.UPLOADED), Facts(started=False))
    end = life.happens(CancelAsked(signal=2))
    assert end.effects == (Kill(), Exit(exit_code=130, outcome="cancelled"))
    assert (life.state.state, life.state.exit_code) == (State.FAILED, 130)
