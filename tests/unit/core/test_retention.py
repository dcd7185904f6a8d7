"""Which snapshots a task still needs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fsnap.core.effects import Prune
from fsnap.core.events import CollectAsked, Tick
from fsnap.core.model import Facts, State, TaskState
from fsnap.core.retention import KEPT, PRUNED_FROM, collectable, over_and_done, prunable
from tests.unit.core.support import HOUR_MS, Life, choose, held, pending, ref

REFS = tuple(ref(f"000001-{number:010d}") for number in range(1, 10))
NAMES = tuple(one.id for one in REFS)


def task(count: int = PRUNED_FROM, **changes: object) -> TaskState:
    return replace(held(State.RUNNING, *REFS[:count]), **changes)  # type: ignore[arg-type]


def test_few_are_all_kept() -> None:
    assert prunable(task(PRUNED_FROM - 1)) == ()


def test_all_but_the_newest_go() -> None:
    assert prunable(task(9)) == NAMES[: 9 - KEPT]


def test_a_damaged_one_does_not_count_among_the_newest() -> None:
    assert prunable(task(6, quarantined=(NAMES[5], NAMES[3]))) == NAMES[:2]


def test_none_goes_while_fewer_than_two_can_be_restored() -> None:
    assert prunable(task(5, quarantined=NAMES[1:5])) == ()


def test_where_the_tree_came_from_stays() -> None:
    assert prunable(task(5, restoring_from=NAMES[1])) == (NAMES[0], NAMES[2])


def test_files_of_an_ended_task_are_no_tree() -> None:
    files = ref("000001-0000000099", "files")
    assert prunable(replace(task(4), snapshots=(*REFS[:4], files))) == ()


def test_a_tick_prunes_before_the_next_checkpoint() -> None:
    decision = choose(task(), Tick(), Facts(since_snapshot_ms=HOUR_MS))
    assert (decision.trigger, decision.effects) == ("prune", (Prune(snapshot_ids=NAMES[:3]),))


@pytest.mark.parametrize("state", [state for state in State if state not in (State.RUNNING, State.RESUMED)])
def test_nothing_is_pruned_but_while_the_task_runs(state: State) -> None:
    assert choose(replace(task(), state=state), Tick()).trigger is None


@pytest.mark.parametrize("changes", [{"finishing": True}, {"standing": (pending(),)}])
def test_nothing_is_pruned_at_the_end(changes: dict[str, object]) -> None:
    assert choose(task(**changes), Tick(), Facts(left_ms=60_000)).trigger is None


def test_nothing_is_pruned_before_the_task_runs() -> None:
    assert choose(task(), Tick(), Facts(started=False)).trigger is None


def test_what_was_pruned_is_gone_and_the_rest_stays() -> None:
    failures = {NAMES[0]: 1, NAMES[4]: 1}
    life = Life(task(restore_failures=failures, quarantined=(NAMES[0],)))
    life.happens(Tick())
    assert tuple(one.id for one in life.state.snapshots) == NAMES[3:5]
    assert (life.state.restore_failures, life.state.quarantined) == ({NAMES[4]: 1}, ())
    assert life.happens(Tick()).trigger is None


@pytest.mark.parametrize("state", [State.COMPLETED, State.FAILED])
def test_an_ended_task_is_collected_once(state: State) -> None:
    ended = replace(held(state, *REFS[:2]), exit_code=0, outcome="exited")
    assert collectable(ended, force=False)
    life = Life(ended)
    assert life.happens(CollectAsked(reason="gc")).trigger == "collect"
    after = life.state
    assert (after.state, after.exit_code, after.outcome, after.since) == (state, 0, "exited", ended.since)
    assert (after.snapshots, after.collected) == ((), True)
    assert not collectable(after, force=True)
    assert life.happens(CollectAsked(reason="gc")).trigger is None


def test_a_completed_task_whose_files_are_gone_begins_anew() -> None:
    ended = held(State.COMPLETED, *REFS[:1])
    assert over_and_done(ended)
    life = Life(ended)
    life.happens(CollectAsked(reason="gc"))
    assert not over_and_done(life.state)


@pytest.mark.parametrize(
    "state", [state for state in State if state not in (State.NEW, State.COMPLETED, State.FAILED)]
)
def test_a_task_that_has_not_ended_is_given_up_only_when_forced(state: State) -> None:
    live = held(state, *REFS[:2])
    assert not collectable(live, force=False)
    assert collectable(live, force=True)
    life = Life(live)
    assert life.happens(CollectAsked(reason="gc")).trigger == "abandon"
    after = life.state
    assert (after.state, after.held, after.outcome, after.snapshots) == (State.FAILED, False, "abandoned", ())


def test_a_new_task_has_nothing_to_collect() -> None:
    assert not collectable(TaskState(task="t"), force=True)
