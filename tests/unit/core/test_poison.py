"""Snapshots that kill what is restored from them, or whoever restores them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fsnap.core.effects import ClaimAgain, Exit, Kill, Restore, Start
from fsnap.core.events import CancelAsked, CheckpointAsked, Event, RestoreReady, SnapshotSaved, TaskExited
from fsnap.core.model import Basis, Config, Facts, State
from fsnap.core.poison import LOST_EPOCHS, SOON_MS
from fsnap.core.status import seen_of
from tests.unit.core.support import NOTICE, OTHER, SLURM, Life, claim, evacuated, failed, ref, saved, started

SEGV = TaskExited(exit_code=139)
RESTART = Config(on_restore_failure="restart")


def saved_twice(config: Config | None = None) -> tuple[Life, str, str]:
    """A live task with an older and a newer snapshot, and their ids."""
    life = started(config)
    names = []
    for _ in range(2):
        life.happens(CheckpointAsked(reason="r"))
        names.append(saved(life))
    return life, names[0], names[1]


def resume(life: Life, basis: Basis = Basis.HOLDER_GONE, config: Config | None = None) -> None:
    life.happens(claim(basis, config=config), Facts(started=False))
    release(life)


def release(life: Life) -> None:
    assert life.state.restoring_from is not None
    life.happens(RestoreReady(snapshot_id=life.state.restoring_from, holder=OTHER))


def soon(life: Life, after_ms: int = 300) -> Facts:
    return Facts(run_ms=life.state.run_base_ms + after_ms)


def test_a_tree_that_dies_soon_after_its_release_is_restored_once_more_then_from_the_older_one() -> None:
    life, older, newer = saved_twice()
    resume(life)
    survived = life.state.reclaims_survived
    tried = []
    for _ in range(3):
        decision = life.happens(SEGV, soon(life))
        assert (decision.trigger, decision.effects) == ("give_up", (Kill(), ClaimAgain()))
        assert life.state.reclaims_survived == survived - 1, "the dead one does not count"
        epoch = life.state.epoch
        resume(life, Basis.GAVE_UP)
        assert life.state.epoch == epoch + 1, "an epoch resumes once"
        tried.append(life.state.restoring_from)
    assert tried == [newer, older, older]
    assert life.state.quarantined == (newer,)
    assert life.state.reclaims_survived == survived, "no node went meanwhile"
    end = life.happens(SEGV, soon(life))
    assert end.effects == (Kill(), Exit(exit_code=176, outcome="restore-failed"))
    assert "SIGSEGV 300 ms after its release" in life.state.note
    assert (life.state.state, life.state.held) == (State.RESUMED, False)
    assert seen_of(life.state).quarantined == 2
    assert [each.id for each in life.state.usable] == [newer, older], "for the next start"


def test_the_next_start_tries_again_and_counts_anew() -> None:
    life = evacuated()
    resume(life, Basis.UPLOADED)
    life.happens(SEGV, soon(life))
    resume(life, Basis.GAVE_UP)
    assert life.happens(SEGV, soon(life)).effects[-1] == Exit(exit_code=176, outcome="restore-failed")
    resume(life, Basis.GAVE_UP)
    assert life.state.quarantined == ()
    assert life.happens(SEGV, soon(life)).effects == (Kill(), ClaimAgain())


@pytest.mark.parametrize(
    "event", [replace(NOTICE, notice_id="n2"), CancelAsked(signal=2)], ids=["notice", "cancel"]
)
def test_between_two_tries_nothing_is_begun_that_is_not_wanted(event: Event) -> None:
    life = evacuated()
    resume(life, Basis.UPLOADED)
    life.happens(SEGV, soon(life))
    end = life.happens(event, Facts(started=False))
    assert isinstance(end.effects[-1], Exit)
    assert end.effects[-1].exit_code == (177 if event != CancelAsked(signal=2) else 130)


def test_the_user_may_prefer_to_begin_anew() -> None:
    life = evacuated(RESTART)
    resume(life, Basis.UPLOADED, RESTART)
    life.happens(SEGV, soon(life))
    resume(life, Basis.GAVE_UP, RESTART)
    end = life.happens(SEGV, soon(life))
    assert (end.trigger, end.next_state) == ("restart", State.RUNNING)
    assert isinstance(end.effects[0], Start)
    assert "STARTS FROM NOTHING" in life.state.note
    assert not life.state.restored


@pytest.mark.parametrize(
    "code", [0, 1, 128 + 15, 128 + 9, 128 + 2, 255], ids=["0", "1", "TERM", "KILL", "INT", "255"]
)
def test_other_ends_are_the_tasks_own(code: int) -> None:
    life = evacuated()
    resume(life, Basis.UPLOADED)
    assert life.happens(TaskExited(exit_code=code), soon(life)).trigger in ("fail", "finish")


def test_later_deaths_are_the_tasks_own() -> None:
    life = evacuated()
    resume(life, Basis.UPLOADED)
    assert life.happens(SEGV, soon(life, SOON_MS)).trigger == "fail"


def test_a_death_without_a_restore_is_the_tasks_own() -> None:
    assert started().happens(SEGV, Facts(run_ms=1)).trigger == "fail"


def test_a_cancelled_task_is_not_begun_again() -> None:
    life = evacuated()
    resume(life, Basis.UPLOADED)
    life.happens(CancelAsked(signal=2))
    assert life.happens(SEGV, soon(life)).trigger == "fail"


def test_once_a_snapshot_was_saved_a_death_is_the_tasks_own() -> None:
    life = evacuated()
    resume(life, Basis.UPLOADED)
    life.happens(CheckpointAsked(reason="r"))
    name = f"{life.state.epoch:06d}-{life.state.seq:010d}"
    life.happens(SnapshotSaved(ref=replace(ref(name), epoch=life.state.epoch)))
    assert life.happens(SEGV, soon(life)).trigger == "fail"


def test_on_a_node_that_goes_it_is_left_to_the_next() -> None:
    life = evacuated()
    resume(life, Basis.UPLOADED)
    life.happens(replace(NOTICE, notice_id="n2"), replace(soon(life), unsupported="x"))
    assert life.state.pending is not None
    assert life.happens(SEGV, soon(life)).trigger == "fail"


# -- epochs that are lost


def lose_epochs(life: Life, count: int, *, released: bool, config: Config | None = None) -> None:
    for _ in range(count):
        life.happens(claim(Basis.HOLDER_GONE, config=config), Facts(started=False))
        if released:
            release(life)


@pytest.mark.parametrize("released", [False, True], ids=["while it restored", "after its release"])
def test_a_snapshot_whose_epochs_are_lost_is_passed_over(released: bool) -> None:
    life, older, newer = saved_twice()
    lose_epochs(life, LOST_EPOCHS, released=released)
    assert life.state.restoring_from == newer
    life.happens(claim(Basis.HOLDER_GONE), Facts(started=False))
    assert (life.state.restoring_from, life.state.quarantined) == (older, (newer,))
    assert f"{LOST_EPOCHS} attempts with snapshot {newer}" in life.state.note


def test_where_none_is_left_the_start_ends_and_the_next_one_tries_again() -> None:
    life = started()
    life.happens(CheckpointAsked(reason="r"))
    name = saved(life)
    lose_epochs(life, LOST_EPOCHS, released=True)
    end = life.happens(claim(Basis.LATER_ATTEMPT, attempt=replace(SLURM, number=2)), Facts(started=False))
    assert end.effects == (Exit(exit_code=176, outcome="restore-failed"),)
    assert not life.state.held
    assert life.state.hold_ms == Config().lease_ms, "the copy before may go on until its lease ends"
    again = life.happens(claim(Basis.GAVE_UP), Facts(started=False))
    assert again.effects == (Restore(snapshot_id=name, hold_ms=Config().lease_ms),)


def test_where_none_is_left_the_user_may_prefer_to_begin_anew() -> None:
    life = started(RESTART)
    life.happens(CheckpointAsked(reason="r"))
    saved(life)
    lose_epochs(life, LOST_EPOCHS, released=True, config=RESTART)
    end = life.happens(claim(Basis.HOLDER_GONE, config=RESTART), Facts(started=False))
    assert (end.trigger, end.next_state) == ("claim_bare", State.RUNNING)


def test_epochs_that_end_by_a_notice_do_not_count() -> None:
    life = evacuated()
    for number in range(3 * LOST_EPOCHS):
        life.happens(claim(Basis.UPLOADED if not number else Basis.GAVE_UP), Facts(started=False))
        life.happens(replace(NOTICE, notice_id=f"n{number + 2}"), Facts(started=False))
    assert life.state.lost_epochs == {}


def test_an_epoch_that_saved_something_does_not_count() -> None:
    life = evacuated()
    resume(life, Basis.UPLOADED)
    life.happens(CheckpointAsked(reason="r"))
    name = f"{life.state.epoch:06d}-{life.state.seq:010d}"
    life.happens(SnapshotSaved(ref=replace(ref(name), epoch=life.state.epoch)))
    life.happens(claim(Basis.HOLDER_GONE), Facts(started=False))
    assert life.state.lost_epochs == {}


def test_failures_and_losses_of_one_snapshot_leave_the_other_alone() -> None:
    life, older, newer = saved_twice()
    lose_epochs(life, LOST_EPOCHS, released=False)
    life.happens(failed(life))
    assert life.state.restoring_from == newer
    life.happens(failed(life))
    assert life.state.restoring_from == older
    assert life.state.lost_epochs == {newer: LOST_EPOCHS - 1}
