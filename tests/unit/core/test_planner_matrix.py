"""Every event in every state: what is recorded, that nothing is, or that it cannot be.

``-``: nothing follows.  ``!``: the chart forbids it, because it cannot happen: an outcome
of an effect that this state never ordered, or a claim of what has ended.  ``~``: there
must be some answer.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsnap.charts import task_chart
from fsnap.core.effects import EFFECTS, Exit
from fsnap.core.events import (
    EVENTS,
    CancelAsked,
    CapsuleLost,
    CheckpointAsked,
    ClaimAsked,
    CollectAsked,
    DumpFailed,
    Event,
    Notice,
    NoticeCancelled,
    RenewAsked,
    RestoreFailed,
    RestoreReady,
    SnapshotFound,
    SnapshotSaved,
    TaskExited,
    Tick,
)
from fsnap.core.fold import fold
from fsnap.core.model import TERMINAL, Basis, Config, Facts, State, TaskState
from fsnap.errors import IllegalTransition
from tests.unit.core import strategies
from tests.unit.core.support import HOLDER, HOUR_MS, OTHER, Life, choose, claim, held, pending, ref

NOTICE = Notice(notice_id="n9", provider="aws", window_ms=120_000)
FINAL, PERIODIC, FILES = ref("final", "final"), ref("periodic"), ref("files", "files")
SNAP = ref()
FAILED_RESTORE = RestoreFailed(snapshot_id=SNAP.id, code="criu", message="no", corrupt=False, holder=HOLDER)
STATES = "new running predumping dumping uploaded restoring resumed completed failed".split()

# fmt: off
MATRIX: list[tuple[str, Event, Facts, str]] = [
    # the states in the order of STATES, from new to failed
    ("claim", claim(Basis.HOLDER_GONE), Facts(started=False),
     "begin claim   claim        claim    claim claim         claim   !     !"),
    ("fresh", RenewAsked(reason="fresh"), Facts(),
     "-     renew   renew        renew    renew renew         renew   renew renew"),
    ("again", RenewAsked(reason="it had failed"), Facts(),
     "-     !       !            !        !     !             !       !     renew"),
    ("notice", NOTICE, Facts(),
     "!     dump    dump         note     note  give_up       dump    -     -"),
    ("notice, not started", NOTICE, Facts(started=False),
     "note  give_up dump         note     note  give_up       give_up -     -"),
    ("notice, no time", replace(NOTICE, window_ms=0), Facts(),
     "note  note    note         note     note  give_up       note    -     -"),
    ("notice, no way", NOTICE, Facts(unsupported="io_uring"),
     "note  note    note         note     note  give_up       note    -     -"),
    ("rebalance", replace(NOTICE, action="rebalance", window_ms=0), Facts(),
     "note  predump note         note     note  note          predump -     -"),
    ("taken back", NoticeCancelled(notice_id="n1"), Facts(),
     "-     -       -            -        -     -             -       -     -"),
    ("tick", Tick(), Facts(),
     "-     -       -            -        -     -             -       -     -"),
    ("late tick", Tick(), Facts(since_snapshot_ms=HOUR_MS),
     "-     predump -            -        -     -             predump -     -"),
    ("late tick, no way", Tick(), Facts(since_snapshot_ms=HOUR_MS, unsupported="io_uring"),
     "-     -       -            -        -     -             -       -     -"),
    ("asked", CheckpointAsked(reason="a drill"), Facts(),
     "-     predump -            -        -     -             predump -     -"),
    ("final saved", SnapshotSaved(ref=FINAL), Facts(),
     "!     !       checkpointed commit   !     !             !       !     !"),
    ("periodic saved", SnapshotSaved(ref=PERIODIC), Facts(),
     "!     !       checkpointed !        !     !             !       !     !"),
    ("capture failed", DumpFailed(code="criu", message="no"), Facts(),
     "-     -       rollback     rollback -     -             -       -     -"),
    ("restored", RestoreReady(snapshot_id=SNAP.id, holder=HOLDER), Facts(started=False),
     "!     !       !            !        !     restored      !       !     !"),
    ("restore failed", FAILED_RESTORE, Facts(started=False),
     "!     !       !            !        !     retry_restore !       !     !"),
    ("found whole", SnapshotFound(ref=ref("found", "periodic")), Facts(),
     "-     adopt   adopt        adopt    -     adopt         adopt   -     -"),
    ("ended well", TaskExited(exit_code=0), Facts(),
     "!     finish  finish       finish   -     -             finish  -     -"),
    ("ended badly", TaskExited(exit_code=3), Facts(),
     "!     fail    fail         fail     -     -             fail    -     -"),
    ("capsule lost", CapsuleLost(message="init died"), Facts(),
     "-     give_up give_up      give_up  -     give_up       give_up -     -"),
    ("collected", CollectAsked(reason="gc"), Facts(),
     "-     abandon abandon      abandon  abandon abandon     abandon collect collect"),
    ("cancelled", CancelAsked(signal=2), Facts(),
     "-     note    note         rollback -     fail          note    -     -"),
]
# fmt: on

CELLS = [
    pytest.param(
        event,
        facts,
        State(state),
        expected,
        id=f"{name}: {state}",
    )
    for name, event, facts, row in MATRIX
    for state, expected in zip(STATES, row.split(), strict=True)
]


def test_the_matrix_is_whole() -> None:
    assert {type(event).__name__ for _, event, _, _ in MATRIX} == set(EVENTS)
    assert STATES == [state.value for state in State]


@pytest.mark.parametrize(("event", "facts", "state", "expected"), CELLS)
def test_every_event_in_every_state(event: Event, facts: Facts, state: State, expected: str) -> None:
    task = held(state, SNAP)
    if expected == "!":
        with pytest.raises(IllegalTransition):
            choose(task, event, facts)
        return
    decision = choose(task, event, facts)
    assert (decision.trigger or "-") == expected
    if decision.trigger is None:
        assert (decision.next_state, decision.effects) == (state, ())


def variants() -> st.SearchStrategy[TaskState]:
    """States as the journal may have them, with everything that a decision looks at."""
    snapshots = st.lists(st.sampled_from([SNAP, PERIODIC, FINAL, FILES]), max_size=3, unique=True).map(tuple)

    def build(state: State, refs: tuple[object, ...], **changes: object) -> TaskState:
        task = held(state, *refs)  # type: ignore[arg-type]
        if state in TERMINAL or state is State.NEW:
            changes |= {"held": False, "finishing": False, "standing": ()}
        if state not in (State.RUNNING, State.RESUMED):
            changes |= {"finishing": False}
        return replace(task, **changes)  # type: ignore[arg-type]

    return st.builds(
        build,
        st.sampled_from(State),
        snapshots,
        held=st.booleans(),
        finishing=st.booleans(),
        cancelled=st.booleans(),
        standing=st.just(()) | st.just((pending("n1"),)),
        notices=st.sampled_from([(), ("n1",), ("n1", "n9")]),
        quarantined=st.sampled_from([(), (SNAP.id,), (SNAP.id, PERIODIC.id, FINAL.id)]),
        restore_failures=st.sampled_from([{}, {SNAP.id: 1}]),
        exit_code=st.sampled_from([None, 0]),
        config=st.builds(
            Config,
            after_commit=st.sampled_from(["exit", "hold"]),
            on_restore_failure=st.sampled_from(["fail", "restart"]),
            shared_state=st.booleans(),
            interval_ms=st.sampled_from([None, 1000]),
        ),
    )


FACTS = st.builds(
    Facts,
    left_ms=st.sampled_from([None, -60_000, -1, 0, 10, 100_000]),
    since_snapshot_ms=st.sampled_from([0, HOUR_MS]),
    tree_bytes=st.sampled_from([0, 2**40]),
    commit_bps=st.sampled_from([None, 1, 2**30]),
    failed_dumps=st.sampled_from([0, 1, 9]),
    started=st.booleans(),
    unsupported=st.sampled_from(["", "io_uring"]),
)


@settings(max_examples=300)
@given(variants(), st.sampled_from([event for _, event, _, _ in MATRIX]) | strategies.events(), FACTS)
def test_a_decision_is_legal_or_there_is_none(task: TaskState, event: Event, facts: Facts) -> None:
    """Whatever comes: no other failure, the chart's destination, and a state that can be folded."""
    try:
        decision = choose(task, event, facts)
    except IllegalTransition:
        return
    assert decision == choose(task, event, facts)
    if decision.trigger is None:
        assert decision.effects == () and decision.next_state is task.state
        return
    arrows = {(a.trigger, a.source, a.dest) for a in task_chart().arrows}
    assert (decision.trigger, task.state.value, decision.next_state.value) in arrows
    assert all(type(effect) is EFFECTS[type(effect).__name__] for effect in decision.effects)
    exits = [place for place, effect in enumerate(decision.effects) if isinstance(effect, Exit)]
    assert exits in ([], [len(decision.effects) - 1]), "nothing is done after the exit"
    life = Life(task)
    life.happens(event, facts)
    assert life.state == fold(task, life.records[0])
    assert (life.state.state, life.state.seq) == (decision.next_state, task.seq + 1)


@settings(max_examples=200)
@given(variants(), FACTS)
def test_what_may_come_at_any_time_is_never_illegal_while_the_task_is_held(
    task: TaskState, facts: Facts
) -> None:
    """Ticks, notices, requests and the task's own end are not ordered by anybody."""
    if not task.held or task.state in TERMINAL:
        return
    facts = replace(facts, started=True)
    unordered: list[Event] = [NOTICE, NoticeCancelled(notice_id="n1"), Tick(), CheckpointAsked(reason="r")]
    unordered += [CancelAsked(signal=15), CapsuleLost(message="m"), TaskExited(exit_code=3)]
    if task.state is not State.RESTORING:
        unordered.append(TaskExited(exit_code=0))
    for event in unordered:
        if isinstance(event, TaskExited) and task.finishing:
            continue  # it ends once
        choose(task, event, facts)


def test_a_claim_of_another_holder_is_decided_the_same_way() -> None:
    mine, theirs = claim(Basis.HOLDER_GONE), replace(claim(Basis.HOLDER_GONE), holder=OTHER)
    assert isinstance(theirs, ClaimAsked)
    assert (
        choose(held(State.RUNNING), mine).trigger
        == choose(held(State.RUNNING), theirs).trigger
        == "claim_bare"
    )
