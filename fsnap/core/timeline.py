"""What happened in which second: each reclaim against its window, from replayed records.

Time zero of a reclaim is the moment its notice was seen.  Times are taken from the
monotonic clock where both records were made under one boot, else from wall time, which
two nodes may disagree about.  A commit counts from its record, which is made once every
byte is stored; how long the record itself took to reach the store, no record says.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from fsnap.core.effects import Dump, Hold, Restore
from fsnap.core.events import (
    ClaimAsked,
    DumpFailed,
    Notice,
    NoticeCancelled,
    RestoreFailed,
    RestoreReady,
    SnapshotFound,
    SnapshotSaved,
)
from fsnap.core.records import Record
from fsnap.core.replay import Step
from fsnap.core.status import moment

CLAIMS = ("begin", "claim", "claim_bare")
FROM_NOTHING = "the task started from nothing afterwards"


class Outcome(StrEnum):
    """What became of a task whose node was reclaimed."""

    COMMITTED = "committed"
    """The final dump, within the window."""
    LATE = "late"
    """The final dump, after the deadline."""
    ADOPTED = "adopted"
    """The final dump was stored whole when the node went, and recorded by the next one."""
    UNSAVED = "unsaved"
    """No final dump: the last periodic checkpoint stands, or nothing."""
    CANCELLED = "cancelled"
    """The notice was taken back before a commit."""
    ENDED = "ended"
    """The task ended by itself first."""
    NOT_STARTED = "not-started"
    """Nothing ran yet that could have been saved."""
    OPEN = "open"
    """The journal ends before it was decided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage of a reclaim, in ms from its notice."""

    name: str
    """``decide``, ``dump``, ``run-on``, ``files``, ``hold``, ``wait`` or ``restore``."""
    seq: int
    """The record that began it."""
    start_ms: int
    end_ms: int | None
    """``None``: no record tells."""
    result: str
    snapshot_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reclaim:
    """One notice, and what was made of its window."""

    seq: int
    epoch: int
    node: str
    at: str
    """Wall time of its record."""
    provider: str
    window_ms: int
    deadline_ms: int
    """From the notice; another notice may have brought it forward."""
    stages: tuple[Stage, ...]
    committed_ms: int | None
    outcome: Outcome
    remarks: tuple[str, ...]

    @property
    def margin_ms(self) -> int | None:
        """What was left of the window at the commit; negative: it came late."""
        return None if self.committed_ms is None else self.deadline_ms - self.committed_ms

    @property
    def saved(self) -> bool:
        """The final dump was committed within the window, or was whole when the node went."""
        return self.outcome in (Outcome.COMMITTED, Outcome.ADOPTED)


@dataclass(slots=True, kw_only=True)
class _Open:
    """A reclaim that goes on."""

    notice: Notice
    record: Record
    boot: str
    deadline_ms: int
    epoch: int
    """Whose records continue it: the notice's, then the claimant's."""
    phase: str = "window"
    """``window``, ``wait``, ``restore`` or ``done``."""
    stages: list[Stage] = field(default_factory=list)
    going: tuple[str, int, int, str | None] | None = None
    last_ms: int = 0
    committed_ms: int | None = None
    outcome: Outcome = Outcome.OPEN
    remarks: list[str] = field(default_factory=list)

    def at_ms(self, record: Record, boot: str) -> int:
        """When *record*, made under *boot*, was made."""
        zero = self.record
        age_ms = zero.facts.notice_age_ms
        same = (record.node, record.epoch) == (zero.node, zero.epoch)
        if same or (boot and boot == self.boot):
            return record.mono_ms - zero.facts.mono_ms + age_ms
        then, now = moment(zero.at), moment(record.at)
        if then is None or now is None:
            return self.last_ms
        return round((now - then).total_seconds() * 1000) + zero.mono_ms - zero.facts.mono_ms + age_ms

    def begin(self, name: str, at_ms: int, seq: int, snapshot_id: str | None = None) -> None:
        self.going = (name, at_ms, seq, snapshot_id)

    def end(self, at_ms: int | None, result: str) -> None:
        if self.going is None:
            return
        name, start_ms, seq, snapshot_id = self.going
        if at_ms is not None and at_ms < start_ms:
            self.remarks.append("the clocks of two nodes differ: times after the commit are not exact")
            at_ms = None
        self.stages.append(
            Stage(name=name, seq=seq, start_ms=start_ms, end_ms=at_ms, result=result, snapshot_id=snapshot_id)
        )
        self.going = None

    def closed(self) -> Reclaim:
        self.end(None, "the journal ends here")
        return Reclaim(
            seq=self.record.seq,
            epoch=self.record.epoch,
            node=self.record.node,
            at=self.record.at,
            provider=self.notice.provider,
            window_ms=self.notice.window_ms,
            deadline_ms=self.deadline_ms,
            stages=tuple(self.stages),
            committed_ms=self.committed_ms,
            outcome=self.outcome,
            remarks=tuple(dict.fromkeys(self.remarks)),
        )


def reclaims(steps: Iterable[Step]) -> list[Reclaim]:
    """Every notice with a deadline, in order."""
    found: list[_Open] = []
    held_by = ("", "")
    for step in steps:
        record = step.record
        if isinstance(record.event, ClaimAsked | RestoreReady | RestoreFailed):
            held_by = (record.node, record.event.holder.boot_id)
        boot = held_by[1] if held_by[0] == record.node else ""
        taken = False
        for one in found:
            if one.phase == "window" and one.epoch == record.epoch:
                if record.trigger == "adopt":
                    _adopted(one, record)
                elif record.node == one.record.node:
                    taken = True
                    _in_window(one, step, one.at_ms(record, boot))
            elif one.phase != "done" and record.trigger in CLAIMS:
                _claimed(one, record, one.at_ms(record, boot))
            elif one.phase == "restore" and one.epoch == record.epoch:
                _restoring(one, record, one.at_ms(record, boot))
            if one.phase == "restore" or (one.phase == "window" and record.node == one.record.node):
                one.last_ms = max(one.last_ms, one.at_ms(record, boot))
        event = record.event
        if isinstance(event, Notice) and event.action != "rebalance" and not taken:
            found.append(_noticed(event, step, boot))
    return [one.closed() for one in found]


def _noticed(notice: Notice, step: Step, boot: str) -> _Open:
    record = step.record
    held = step.before is None or (step.before.held and record.facts.started)
    opened = _Open(
        notice=notice,
        record=record,
        boot=boot if held else "",
        deadline_ms=notice.window_ms,
        epoch=record.epoch,
    )
    now = opened.at_ms(record, opened.boot)
    opened.begin("decide", 0, record.seq)
    if record.trigger == "dump":
        opened.end(now, "dumps")
        opened.begin("dump", now, record.seq, _dumped(record))
    elif record.trigger == "give_up" or not held:
        opened.end(now, record.note)
        opened.outcome = Outcome.NOT_STARTED
        opened.begin("wait", now, record.seq)
        opened.phase = "wait"
    else:
        opened.end(now, record.note)
        opened.begin("run-on", now, record.seq)
    opened.last_ms = now
    return opened


def _in_window(one: _Open, step: Step, now: int) -> None:
    """What the noticed node itself recorded after its notice."""
    record, event, trigger = step.record, step.record.event, step.record.trigger
    if isinstance(event, Notice) and event.action != "rebalance":
        if one.committed_ms is None:
            one.deadline_ms = min(one.deadline_ms, now + event.window_ms - record.facts.notice_age_ms)
        one.remarks.append(f"another notice came with record {record.seq} ({event.provider})")
    if trigger == "dump":
        one.end(now, "")
        one.begin("dump", now, record.seq, _dumped(record))
    elif trigger == "checkpointed" and isinstance(event, SnapshotSaved):
        one.remarks.append(f"the periodic checkpoint {event.ref.id} was committed after the notice")
    elif trigger == "rollback":
        one.end(now, f"failed: {event.message}" if isinstance(event, DumpFailed) else record.note)
        one.begin("run-on", now, record.seq)
    elif trigger == "commit":
        one.end(now, "committed")
        one.committed_ms = now
        one.outcome = Outcome.COMMITTED if now <= one.deadline_ms else Outcome.LATE
        holds = any(isinstance(effect, Hold) for effect in record.effects)
        one.begin("hold" if holds else "wait", now, record.seq)
        one.phase = "window" if holds else "wait"
    elif trigger == "unhold":
        one.end(now, f"runs on here: {record.note}")
        one.phase = "done"
    elif trigger == "give_up":
        one.end(now, record.note)
        one.outcome = Outcome.UNSAVED
        one.begin("wait", now, record.seq)
        one.phase = "wait"
    elif trigger == "finish":
        one.end(now, "the task ended")
        one.begin("files", now, record.seq)
    elif trigger in ("complete", "fail", "renew"):
        one.end(now, record.note)
        one.outcome = Outcome.ENDED if one.committed_ms is None else one.outcome
        one.phase = "done"
    if isinstance(event, NoticeCancelled) and one.phase != "done" and _none_stands(one, step):
        one.going = None if one.going and one.going[0] == "run-on" else one.going
        one.end(now, record.note)
        one.outcome = Outcome.CANCELLED if one.committed_ms is None else one.outcome
        one.phase = "done"


def _none_stands(one: _Open, step: Step) -> bool:
    if step.after is not None:
        return not step.after.standing
    event = step.record.event
    return isinstance(event, NoticeCancelled) and event.notice_id == one.notice.notice_id


def _adopted(one: _Open, record: Record) -> None:
    """A claimant found a snapshot whole whose record the noticed node did not get to make."""
    ref = record.event.ref if isinstance(record.event, SnapshotFound) else None
    if ref is None or one.going is None:
        return
    one.remarks.append(f"{record.node} found the snapshot {ref.id} whole, and recorded it")
    if one.going[0] == "dump" and one.going[3] == ref.id:
        one.end(None, "stored; the node went before it could say so")
        one.outcome = Outcome.ADOPTED
        one.begin("wait", one.last_ms, record.seq)
        one.phase = "wait"


def _claimed(one: _Open, record: Record, now: int) -> None:
    """Another attempt took the task over."""
    if one.phase in ("window", "restore"):
        if one.phase == "window" and one.committed_ms is None:
            one.outcome = Outcome.UNSAVED
        one.end(None, "the node went")
        one.begin("wait", one.last_ms, record.seq)
    one.end(now, f"claimed by {record.node}")
    restore = next((effect for effect in record.effects if isinstance(effect, Restore)), None)
    one.epoch = record.epoch
    one.phase = "restore" if restore else "done"
    if restore:
        one.begin("restore", now, record.seq, restore.snapshot_id)
    else:
        one.remarks.append(FROM_NOTHING)


def _restoring(one: _Open, record: Record, now: int) -> None:
    """What the claimant recorded until its tree was released."""
    event = record.event
    if isinstance(event, Notice) and record.trigger != "give_up":
        return
    if record.trigger == "restored":
        one.end(now, "released")
    elif isinstance(event, RestoreFailed):
        one.end(now, f"failed: {event.message}")
    elif record.trigger == "note":
        return
    else:
        one.end(now, record.note)
    retry = next((effect for effect in record.effects if isinstance(effect, Restore)), None)
    if retry is not None:
        one.begin("restore", now, record.seq, retry.snapshot_id)
        return
    if record.trigger == "restart":
        one.remarks.append(FROM_NOTHING)
    one.phase = "done"


def _dumped(record: Record) -> str | None:
    return next((effect.snapshot_id for effect in record.effects if isinstance(effect, Dump)), None)
