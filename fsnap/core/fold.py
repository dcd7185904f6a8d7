"""The state that a journal amounts to: records folded one by one.

``fold`` is the only way in which a :class:`TaskState` changes, so that every node
that has read the same records has the same state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from fsnap.core.claim import hold_ms
from fsnap.core.effects import Exit, Prune, Restore, Start
from fsnap.core.events import (
    CancelAsked,
    ClaimAsked,
    CollectAsked,
    DumpFailed,
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
from fsnap.core.model import LIVE, TERMINAL, Pending, SnapshotRef, State, TaskState
from fsnap.core.poison import as_claimed, failed_once, given_back
from fsnap.core.records import Record

NOTICES_KEPT = 64


def fold(state: TaskState, record: Record) -> TaskState:
    """*state* after *record*."""
    changed = record.dest is not state.state or record.trigger in ("claim", "claim_bare", "begin")
    base = replace(
        state,
        state=record.dest,
        seq=record.seq,
        epoch=record.epoch,
        digest=record.digest,
        since=record.at if changed else state.since,
        note=record.note or state.note,
    )
    handler = _HANDLERS.get(type(record.event))
    folded = handler(base, record) if handler else base
    if record.trigger == "unhold":
        folded = replace(folded, standing=(), restored=True)
    if record.trigger == "give_up":
        folded = replace(folded, held=False, outcome=_outcome(record))
    if record.dest in TERMINAL and record.source not in TERMINAL:
        folded = replace(folded, held=False, standing=(), finishing=False, outcome=_outcome(record))
    return folded


def fold_all(state: TaskState, records: Iterable[Record]) -> TaskState:
    """*state* after all of *records*."""
    for record in records:
        state = fold(state, record)
    return state


def _outcome(record: Record) -> str | None:
    if record.trigger == "abandon":
        return "abandoned"
    return next((effect.outcome for effect in record.effects if isinstance(effect, Exit)), None)


def _claim(state: TaskState, record: Record) -> TaskState:
    event = record.event
    assert isinstance(event, ClaimAsked)
    before = replace(state, state=record.source, epoch=record.epoch - 1)
    found = as_claimed(before, event)
    claimed = replace(
        state,
        quarantined=found.quarantined,
        restore_failures=found.restore_failures,
        lost_epochs=found.lost_epochs,
        held=True,
        holder=event.holder,
        attempt=event.attempt,
        config=event.config,
        command=event.command,
        command_digest=event.command_digest,
        cwd=event.cwd,
        restoring_from=found.usable[0].id if record.dest is State.RESTORING else None,
        restored=False,
        finishing=False,
        standing=(),
        hold_ms=max((e.hold_ms for e in record.effects if isinstance(e, Restore | Start)), default=0),
        cancelled=False,
        exit_code=None,
        outcome=None,
        run_base_ms=0,
        note=record.note,
    )
    if any(isinstance(effect, Exit) for effect in record.effects):
        return replace(given_back(claimed), hold_ms=hold_ms(before, event))
    return claimed


def _renew(state: TaskState, record: Record) -> TaskState:
    """A new life under the same id: numbers that fence (seq, epoch) go on, all else is dropped.

    A copy that was live goes on until its lease ends, so the new life waits for that, too; and for what
    the old one had not waited for to its end.
    """
    lease_ms = state.config.lease_ms if state.held and record.source in LIVE else 0
    return TaskState(
        task=state.task,
        state=State.NEW,
        seq=record.seq,
        epoch=record.epoch,
        digest=record.digest,
        since=record.at,
        notices=state.notices,
        hold_ms=max(state.hold_ms, lease_ms),
        note=record.note,
    )


def _notice(state: TaskState, record: Record) -> TaskState:
    event = record.event
    assert isinstance(event, Notice)
    notices = (*state.notices, event.notice_id)[-NOTICES_KEPT:]
    if event.action == "rebalance":
        return replace(state, notices=notices)
    pending = Pending(
        notice_id=event.notice_id,
        provider=event.provider,
        window_ms=event.window_ms,
        seen_at=record.at,
        deadline_mono_ms=record.facts.mono_ms - record.facts.notice_age_ms + event.window_ms,
        deadline_at=event.deadline_at or "",
    )
    return replace(state, notices=notices, standing=(*state.standing, pending))


def _notice_cancelled(state: TaskState, record: Record) -> TaskState:
    event = record.event
    assert isinstance(event, NoticeCancelled)
    return replace(state, standing=tuple(n for n in state.standing if n.notice_id != event.notice_id))


def _saved(state: TaskState, record: Record) -> TaskState:
    event = record.event
    assert isinstance(event, SnapshotSaved)
    code = 0 if record.trigger == "complete" else state.exit_code
    return replace(state, snapshots=(*state.snapshots, event.ref), exit_code=code, hold_ms=0)


def _found(state: TaskState, record: Record) -> TaskState:
    event = record.event
    assert isinstance(event, SnapshotFound)
    return replace(state, snapshots=(*state.snapshots, event.ref))


def _restore_ready(state: TaskState, record: Record) -> TaskState:
    ref = _ref(state, record)
    if ref is None:
        return state
    return replace(
        state,
        restored=True,
        holder=record.event.holder if isinstance(record.event, RestoreReady) else state.holder,
        restoring_from=ref.id,
        hold_ms=0,
        reclaims_survived=state.reclaims_survived + 1,
        work_saved_ms=max(state.work_saved_ms, ref.run_ms),
        run_base_ms=ref.run_ms,
    )


def _restore_failed(state: TaskState, record: Record) -> TaskState:
    event = record.event
    assert isinstance(event, RestoreFailed)
    after = failed_once(state, event.snapshot_id, corrupt=event.corrupt)
    return replace(after, restoring_from=_retried(after, record), holder=event.holder)


def _retried(state: TaskState, record: Record) -> str | None:
    return state.usable[0].id if state.usable and record.trigger == "retry_restore" else None


def _ref(state: TaskState, record: Record) -> SnapshotRef | None:
    event = record.event
    assert isinstance(event, RestoreReady)
    return next((ref for ref in state.snapshots if ref.id == event.snapshot_id), None)


def _exited(state: TaskState, record: Record) -> TaskState:
    event = record.event
    assert isinstance(event, TaskExited)
    if record.trigger in ("restart", "give_up"):
        return _harmed(state, record)
    return replace(
        state,
        exit_code=event.exit_code,
        finishing=record.trigger == "finish",
        hold_ms=0 if record.facts.started else state.hold_ms,
    )


def _harmed(state: TaskState, record: Record) -> TaskState:
    """The restored tree died too soon: as if it had never been released."""
    assert state.restoring_from is not None
    after = failed_once(state, state.restoring_from)
    return replace(
        after,
        restoring_from=None,
        restored=False,
        reclaims_survived=after.reclaims_survived - 1,
        run_base_ms=0,
    )


def _cancel(state: TaskState, record: Record) -> TaskState:
    event = record.event
    assert isinstance(event, CancelAsked)
    code = 128 + event.signal if record.trigger == "fail" else state.exit_code
    return replace(state, cancelled=True, exit_code=code)


def _tick(state: TaskState, record: Record) -> TaskState:
    """The only thing that time alone takes away: snapshots that are pruned."""
    pruned = {name for effect in record.effects if isinstance(effect, Prune) for name in effect.snapshot_ids}
    return _without(state, pruned) if pruned else state


def _collected(state: TaskState, record: Record) -> TaskState:
    return replace(_without(state, {ref.id for ref in state.snapshots}), collected=True)


def _without(state: TaskState, dropped: set[str]) -> TaskState:
    return replace(
        state,
        snapshots=tuple(ref for ref in state.snapshots if ref.id not in dropped),
        quarantined=tuple(name for name in state.quarantined if name not in dropped),
        restore_failures={name: n for name, n in state.restore_failures.items() if name not in dropped},
        lost_epochs={name: n for name, n in state.lost_epochs.items() if name not in dropped},
    )


def _dump_failed(state: TaskState, record: Record) -> TaskState:
    return state


_HANDLERS: dict[type, Callable[[TaskState, Record], TaskState]] = {
    ClaimAsked: _claim,
    RenewAsked: _renew,
    Notice: _notice,
    NoticeCancelled: _notice_cancelled,
    SnapshotSaved: _saved,
    SnapshotFound: _found,
    RestoreReady: _restore_ready,
    RestoreFailed: _restore_failed,
    TaskExited: _exited,
    CancelAsked: _cancel,
    Tick: _tick,
    CollectAsked: _collected,
    DumpFailed: _dump_failed,
}
