"""Events in any order: the journal tells the same again, and promises hold."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from fsnap.core.effects import (
    Restore,
)
from fsnap.core.events import (
    CancelAsked,
    CapsuleLost,
    CheckpointAsked,
    DumpFailed,
    Event,
    NoticeCancelled,
    RenewAsked,
    RestoreFailed,
    RestoreReady,
    SnapshotSaved,
    TaskExited,
    Tick,
)
from fsnap.core.fold import fold_all
from fsnap.core.model import TERMINAL, Basis, Facts, State, TaskState
from fsnap.core.records import check_chain, record_from_plain, record_to_plain
from fsnap.errors import IllegalTransition
from tests.unit.core.support import (
    HOUR_MS,
    NOTICE,
    OTHER,
    Life,
    choose,
    claim,
    ref,
)

OUTCOMES = st.sampled_from(["claim", "saved", "failed", "restored", "restore failed", "corrupt"])
UNORDERED: st.SearchStrategy[Event] = st.sampled_from(
    [
        NOTICE,
        replace(NOTICE, notice_id="n2"),
        replace(NOTICE, notice_id="n3", action="rebalance"),
        NoticeCancelled(notice_id="n1"),
        Tick(),
        CheckpointAsked(reason="r"),
        TaskExited(exit_code=0),
        TaskExited(exit_code=1),
        CancelAsked(signal=2),
        CapsuleLost(message="m"),
        RenewAsked(reason="fresh"),
    ]
)
FACTS = st.builds(
    Facts,
    left_ms=st.sampled_from([None, -60_000, 50_000]),
    since_snapshot_ms=st.sampled_from([0, HOUR_MS]),
    failed_dumps=st.integers(0, 2),
    started=st.booleans(),
)


def outcome(life: Life, what: str) -> Event:
    name = f"{life.state.epoch:06d}-{life.state.seq:010d}"
    kind = {State.DUMPING: "final", State.PREDUMPING: "periodic"}.get(life.state.state, "files")
    chosen = life.state.restoring_from or "none"
    return {
        "claim": replace(claim(Basis.HOLDER_GONE), holder=OTHER),
        "saved": SnapshotSaved(ref=ref(name, kind)),
        "failed": DumpFailed(code="c", message="m"),
        "restored": RestoreReady(snapshot_id=chosen, holder=OTHER),
        "restore failed": RestoreFailed(
            snapshot_id=chosen, code="c", message="m", corrupt=False, holder=OTHER
        ),
        "corrupt": RestoreFailed(snapshot_id=chosen, code="c", message="m", corrupt=True, holder=OTHER),
    }[what]


@settings(max_examples=150)
@given(st.lists(st.tuples(OUTCOMES | UNORDERED, FACTS), max_size=25))
def test_in_any_order_the_journal_tells_the_same_and_promises_hold(
    steps: list[tuple[str | Event, Facts]],
) -> None:
    life = Life()
    life.happens(claim(), Facts(started=False))
    for step, facts in steps:
        event = outcome(life, step) if isinstance(step, str) else step
        before = life.state
        try:
            decision = life.happens(event, facts)
        except IllegalTransition:
            assert life.state == before
            continue
        if decision.trigger is not None:
            _promises(before, life.state, event, decision.effects)
    assert fold_all(life.first, life.records) == life.state
    check_chain(life.records, task="t", prev="", first_seq=1)
    state = life.first
    for record in life.records:
        again = record_from_plain(record_to_plain(record))
        decision = choose(state, again.event, again.facts)
        assert (decision.trigger, decision.next_state) == (again.trigger, again.dest)
        assert (decision.effects, decision.note) == (again.effects, again.note)
        state = fold_all(state, [again])


def _promises(before: TaskState, after: TaskState, event: Event, effects: tuple[object, ...]) -> None:
    assert after.seq == before.seq + 1 and after.epoch >= before.epoch
    if after.state is State.UPLOADED and before.state is not State.UPLOADED:
        assert isinstance(event, SnapshotSaved) and event.ref.kind == "final" and event.ref.manifest
        assert after.snapshots[-1] == event.ref
    for effect in effects:
        if isinstance(effect, Restore):
            assert effect.snapshot_id in {each.id for each in after.usable}
            assert after.restoring_from == effect.snapshot_id
    if not isinstance(event, RenewAsked):
        assert after.snapshots[: len(before.snapshots)] == before.snapshots
    if after.state in TERMINAL:
        assert not after.held and after.outcome and after.exit_code is not None and after.pending is None
