"""What ``fsnap status`` says of a task: a view of its state, its holder's signs of life, and the time.

Text and JSON are both made of a :class:`TaskView`, so that they cannot differ.  What is
not known is ``None``; nothing is guessed.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from fsnap.core.budget import assumed_window_ms, plan_evacuation
from fsnap.core.model import LIVE, TERMINAL, Attempt, Facts, Pending, SnapshotRef, State, TaskState

SILENT_S = 60.0
"""Three heartbeats of a holder that has no lease: worth a word, but no alarm."""

BEAT_META = "heartbeat"
"""The small value of a task in the local journal that holds its last heartbeat from this node."""

COMMITTING = frozenset({State.RUNNING, State.PREDUMPING, State.DUMPING, State.RESUMED})
"""Live states whose tree a notice would have dumped."""


class Reason(StrEnum):
    """Why a task needs somebody's attention."""

    NEGATIVE_MARGIN = "negative-margin"
    HEARTBEAT = "heartbeat-late"
    HOLDER_GONE = "holder-gone"
    QUARANTINED = "snapshot-quarantined"
    UNPROTECTED = "unprotected"


class Whereabouts(StrEnum):
    """What this machine can see of the holder's capsule."""

    HERE = "here"
    GONE = "gone"
    """It was on this very boot, and its init is dead."""
    ELSEWHERE = "elsewhere"
    """Another machine, or another boot."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotView:
    """One committed snapshot."""

    id: str
    bytes: int
    new_bytes: int
    """Those that no earlier snapshot had."""
    stored_bytes: int
    """Those that were put, after compression."""
    committed_at: datetime | None
    kind: str | None = None
    epoch: int | None = None
    quarantined: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a journal, or a head, says of a task."""

    task: str
    state: State
    epoch: int
    node: str | None
    """Of the last holder."""
    since: datetime | None
    """The last change of state."""
    command: str | None
    """As a shell would take it; a head may have it cut."""
    held: bool
    lease_ms: int
    provider: str
    snapshot: SnapshotView | None
    """The newest that may be restored."""
    snapshots: tuple[SnapshotView, ...] | None = None
    """All, newest first; ``None`` where the source does not list them."""
    quarantined: int
    deadline: datetime | None
    """Of the notice that was not taken back."""
    exit_code: int | None
    outcome: str | None
    reclaims_survived: int
    work_saved_ms: int
    attempt: Attempt | None = None
    note: str | None = None

    @property
    def live(self) -> bool:
        """Some node has a copy that makes progress, or should have."""
        return self.state in LIVE and self.held

    @property
    def waits(self) -> bool:
        """Nobody runs it: it goes on when the scheduler starts the same command again."""
        return self.state is State.UPLOADED or (self.state in LIVE and not self.held)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What the holder last said about a commit."""

    epoch: int
    commit_ms: int | None
    """From a freeze to the commit, as planned then; ``None`` before the tree was measured."""
    unsupported: bool
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """Signs of life of a task's holder."""

    heartbeat_at: datetime | None = None
    heartbeat_epoch: int = 0
    heartbeat_known: bool = False
    """The heartbeat was looked for; only then does its absence mean anything."""
    sample: Sample | None = None
    whereabouts: Whereabouts = Whereabouts.UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowView:
    """The window of a notice that was not taken back."""

    deadline: datetime
    left_s: float
    """Negative once the deadline has passed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskView:
    """One task as ``status`` shows it."""

    seen: Seen
    window: WindowView | None
    commit_s: float | None
    """From a freeze to the commit, as the holder plans it."""
    budget_s: float | None
    """What ``margin_s`` was taken from: the window left, or the one to expect of the provider."""
    margin_s: float | None
    """Left between the planned commit and the deadline; negative: it does not fit."""
    heartbeat_at: datetime | None
    """Of the present holder."""
    attention: tuple[Reason, ...]
    warnings: tuple[str, ...]
    """What is wrong, and what to do; a line each."""


def seen_of(state: TaskState) -> Seen:
    """What the fold of a journal says."""
    bad = frozenset(state.quarantined)
    return Seen(
        task=state.task,
        state=state.state,
        epoch=state.epoch,
        node=state.holder.node if state.holder else None,
        since=moment(state.since),
        command=shlex.join(state.command) or None,
        held=state.held,
        lease_ms=state.config.lease_ms,
        provider=state.config.provider,
        snapshot=_snapshot(state.usable[0], bad) if state.usable else None,
        snapshots=tuple(_snapshot(ref, bad) for ref in reversed(state.snapshots)),
        quarantined=len(bad),
        deadline=_deadline(state.pending),
        exit_code=state.exit_code,
        outcome=state.outcome,
        reclaims_survived=state.reclaims_survived,
        work_saved_ms=state.work_saved_ms,
        attempt=state.attempt,
        note=state.note or None,
    )


def sample_of_facts(facts: Facts, epoch: int) -> Sample:
    """What a record's facts say about a commit; older than a heartbeat, mostly."""
    return Sample(
        epoch=epoch,
        commit_ms=plan_evacuation(facts, 0).commit_ms if facts.tree_bytes else None,
        unsupported=bool(facts.unsupported),
        reason=facts.unsupported,
    )


def sample_of_beat(sample: dict[str, int], epoch: int) -> Sample:
    """What a heartbeat says about a commit."""
    return Sample(
        epoch=epoch,
        commit_ms=sample.get("commit_ms") if sample.get("tree_bytes") else None,
        unsupported=bool(sample.get("unsupported")),
    )


def view_of(seen: Seen, signs: Signs, now: datetime) -> TaskView:
    """The view at *now*, which has a zone."""
    sample = signs.sample if signs.sample and signs.sample.epoch == seen.epoch else None
    window = _window(seen, now)
    commit_s = _commit_s(seen, sample)
    budget_s = None
    if commit_s is not None:
        budget_s = window.left_s if window else assumed_window_ms(seen.provider) / 1000
    margin_s = None
    if commit_s is not None and budget_s is not None:
        margin_s = budget_s - _ahead_s(seen, commit_s, now)
    beat_at = signs.heartbeat_at if signs.heartbeat_epoch == seen.epoch else None
    found = [
        *_life(seen, signs, beat_at, now),
        *_fit(seen, window, commit_s, margin_s, now),
        *_quarantine(seen),
        *_protection(seen, sample, now),
    ]
    return TaskView(
        seen=seen,
        window=window,
        commit_s=commit_s,
        budget_s=budget_s,
        margin_s=margin_s,
        heartbeat_at=beat_at,
        attention=tuple(reason for reason, _ in found if reason is not None),
        warnings=tuple(text for _, text in found),
    )


def moment(text: str | None) -> datetime | None:
    """The moment that *text* (RFC 3339) names, in UTC; ``None`` when it names none."""
    try:
        found = datetime.fromisoformat(text or "")
        return found.astimezone(UTC) if found.tzinfo else None
    except (ValueError, OverflowError):
        return None


def duration(seconds: float) -> str:
    """*seconds* for people: ``4.2s``, ``42s``, ``4m12s``, ``3h05m``, ``2d04h``."""
    if seconds < 0:
        return "-" + duration(-seconds)
    if seconds < 9.95:
        return f"{seconds:.1f}s".replace(".0s", "s")
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def age_s(then: datetime | None, now: datetime) -> float | None:
    """Seconds since *then*, whole ones; never negative, since two clocks may differ."""
    return None if then is None else float(max(0, int((now - then).total_seconds())))


_Finding = tuple[Reason | None, str]
"""A reason for attention, or ``None`` for a mere remark, and its line."""


def _life(seen: Seen, signs: Signs, beat_at: datetime | None, now: datetime) -> Iterator[_Finding]:
    if not seen.live:
        return
    if signs.whereabouts is Whereabouts.GONE and seen.state is not State.RESTORING:
        yield Reason.HOLDER_GONE, f"its capsule on this node is gone. {_again(seen, now)}"
        return
    if signs.whereabouts is Whereabouts.ELSEWHERE and not signs.heartbeat_known:
        yield None, "its holder is another node, or this one before its last boot: look with --store."
    known = (
        signs.heartbeat_known and signs.heartbeat_epoch <= seen.epoch
    )  # else the journal was read too soon
    silent_s = age_s(beat_at or seen.since, now) if known else None
    if silent_s is None:
        return
    what = f"no heartbeat for {duration(silent_s)}" + ("" if beat_at else ", none yet in this epoch")
    if seen.lease_ms and silent_s * 1000 > seen.lease_ms:
        what += f", and its lease is {duration(seen.lease_ms / 1000)}"
        if signs.whereabouts is Whereabouts.HERE:
            why = "its capsule is alive here, and its agent dead, or cut off from the store"
            yield Reason.HEARTBEAT, f"{what}: {why}. Start the same command again here: it takes over."
        else:
            why = "its node is dead, or cut off from the store"
            yield Reason.HEARTBEAT, f"{what}: {why}. {_again(seen, now)}"
    elif not seen.lease_ms and silent_s > SILENT_S:
        yield None, f"{what}. It has no lease: the scheduler starts it again once its host is gone."


def _fit(
    seen: Seen, window: WindowView | None, commit_s: float | None, margin_s: float | None, now: datetime
) -> Iterator[_Finding]:
    if commit_s is None or margin_s is None or margin_s >= 0:
        return
    need = f"a commit takes {duration(commit_s)}"
    if window is not None:
        left = f"{duration(max(0.0, window.left_s))} of the window are left"
        yield Reason.NEGATIVE_MARGIN, f"{need}, and {left}. {_restart(seen, now)}"
        return
    least = duration(assumed_window_ms(seen.provider) / 1000)
    yield (
        Reason.NEGATIVE_MARGIN,
        f"{need}, and the window to expect is {least}. After a reclaim: {_restart(seen, now)}"
        " Make --interval shorter, or use a node that commits faster.",
    )


def _quarantine(seen: Seen) -> Iterator[_Finding]:
    """An ended task has no more use for any snapshot."""
    if not seen.quarantined or seen.state in TERMINAL:
        return
    bad = [snapshot.id for snapshot in seen.snapshots or () if snapshot.quarantined]
    which = f" ({', '.join(bad)})" if bad else ""
    many = seen.quarantined > 1
    left = f"a restore takes {seen.snapshot.id}" if seen.snapshot else "none is left to restore"
    yield (
        Reason.QUARANTINED,
        f"{seen.quarantined} {'snapshots' if many else 'snapshot'}{which} could not be restored and"
        f" {'are' if many else 'is'} quarantined; {left}.",
    )


def _protection(seen: Seen, sample: Sample | None, now: datetime) -> Iterator[_Finding]:
    if not seen.live or sample is None or not sample.unsupported:
        return
    why = sample.reason or "the log of its agent says why"
    yield Reason.UNPROTECTED, f"it can't be checkpointed now: {why}. After a reclaim: {_restart(seen, now)}"


def _again(seen: Seen, now: datetime) -> str:
    return f"Start the same command again: {_restart(seen, now)}"


def _restart(seen: Seen, now: datetime) -> str:
    if seen.snapshot is None:
        return "the next start begins from nothing."
    old = age_s(seen.snapshot.committed_at, now)
    return f"the next start resumes from snapshot {seen.snapshot.id}" + (
        "." if old is None else f", {duration(old)} old."
    )


def _commit_s(seen: Seen, sample: Sample | None) -> float | None:
    """Only of a tree that a notice would have dumped."""
    if not seen.live or seen.state not in COMMITTING or sample is None:
        return None
    if sample.unsupported or sample.commit_ms is None:
        return None
    return sample.commit_ms / 1000


def _ahead_s(seen: Seen, commit_s: float, now: datetime) -> float:
    """Until the planned commit, from now: a dump that is under way has done a part of it."""
    if seen.state is not State.DUMPING or seen.since is None:
        return commit_s
    return max(0.0, commit_s - max(0.0, (now - seen.since).total_seconds()))


def _window(seen: Seen, now: datetime) -> WindowView | None:
    """A live holder's until it has an answer; one that is done with it only until the deadline."""
    if seen.deadline is None:
        return None
    left_s = (seen.deadline - now).total_seconds()
    if left_s < 0 and not seen.live:
        return None
    return WindowView(deadline=seen.deadline, left_s=left_s)


def _deadline(pending: Pending | None) -> datetime | None:
    """The provider's, or the one that follows from when the notice was seen."""
    if pending is None:
        return None
    if (named := moment(pending.deadline_at)) is not None:
        return named
    began = moment(pending.seen_at)
    try:
        return began and began + timedelta(milliseconds=pending.window_ms)
    except OverflowError:
        return None


def _snapshot(ref: SnapshotRef, quarantined: frozenset[str]) -> SnapshotView:
    return SnapshotView(
        id=ref.id,
        bytes=ref.bytes,
        new_bytes=ref.new_bytes,
        stored_bytes=ref.stored_bytes,
        committed_at=moment(ref.committed_at),
        kind=ref.kind,
        epoch=ref.epoch,
        quarantined=ref.id in quarantined,
    )
