"""The attempts of a task, from replayed records: where each began, how it ended, what it had to do again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fsnap.core.events import ClaimAsked, RestoreReady, SnapshotFound, SnapshotSaved
from fsnap.core.model import Basis
from fsnap.core.records import Record
from fsnap.core.replay import Step
from fsnap.core.timeline import CLAIMS

ENDS = {
    "commit": "checkpointed",
    "give_up": "gave up",
    "complete": "completed",
    "fail": "failed",
}
"""By the last trigger of the epoch."""

ENDS_BY_CLAIM = {
    Basis.NEW: "begun anew",
    Basis.UPLOADED: "checkpointed",
    Basis.GAVE_UP: "gave up",
    Basis.HOLDER_GONE: "lost",
    Basis.LATER_ATTEMPT: "lost",
    Basis.LEASE_EXPIRED: "lost",
}
"""By the reason of the next claim, where the epoch's own records don't say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One epoch of the task."""

    epoch: int
    node: str
    seq: int
    """Of its claim."""
    at: str
    basis: str
    """Why it could be claimed."""
    snapshot_id: str | None
    """What it restored; ``None``: it started from nothing, or nothing ran."""
    ran: bool
    """A tree ran in it."""
    end: str
    """A value of ``ENDS`` or ``ENDS_BY_CLAIM``; empty while it goes on."""
    end_at: str
    run_ms: int
    """Run time of the task that was reached in it, over all attempts, at least."""
    repeats_ms: int
    """Run time that earlier attempts had reached and this one did again, at least."""


def attempts(steps: Sequence[Step]) -> list[Attempt]:
    """Every epoch whose claim is there, in order."""
    return list(_attempts(steps))


def _attempts(steps: Sequence[Step]) -> Iterator[Attempt]:
    claims = [place for place, step in enumerate(steps) if step.record.trigger in CLAIMS]
    reached_ms = 0
    for place, after in zip(claims, [*claims, None][1:], strict=True):
        mine = steps[place:after]
        following = steps[after].record.event if after is not None else None
        attempt = _attempt(mine, following, reached_ms)
        if attempt is None:
            continue
        if any(step.record.trigger == "renew" for step in mine):
            reached_ms = 0
        elif attempt.ran:
            reached_ms = attempt.run_ms
        yield attempt


def _attempt(steps: Sequence[Step], following: object, reached_ms: int) -> Attempt | None:
    claim = steps[0].record
    if not isinstance(claim.event, ClaimAsked):
        return None
    snapshot_id, began_ms, ran = _beginning(steps)
    last = next(s.record for s in reversed(steps) if s.record.trigger not in ("note", "renew", "adopt"))
    end = ENDS.get(last.trigger, "")
    if not end and isinstance(following, ClaimAsked):
        end = ENDS_BY_CLAIM.get(following.basis, "")
    run_ms = max([began_ms, *(s.record.facts.run_ms for s in steps if s.record.facts.started)])
    run_ms = max(
        [run_ms, *(s.record.event.ref.run_ms for s in steps if isinstance(s.record.event, SnapshotFound))]
    )
    if last.trigger == "commit" and isinstance(last.event, SnapshotSaved):
        run_ms = last.event.ref.run_ms  # the clock went on during the freeze
    return Attempt(
        epoch=claim.epoch,
        node=claim.node,
        seq=claim.seq,
        at=claim.at,
        basis=claim.event.basis.value,
        snapshot_id=snapshot_id,
        ran=ran,
        end=end,
        end_at=last.at if last.trigger in ENDS else "",
        run_ms=run_ms if ran else 0,
        repeats_ms=max(0, reached_ms - began_ms) if ran else 0,
    )


def _beginning(steps: Sequence[Step]) -> tuple[str | None, int, bool]:
    """The snapshot that was released last, the run time it had, and whether anything ran at all."""
    for step in reversed(steps):
        record: Record = step.record
        if record.trigger in ("begin", "claim_bare", "restart"):
            return None, 0, True
        if record.trigger == "restored" and isinstance(record.event, RestoreReady):
            return record.event.snapshot_id, step.after.run_base_ms if step.after else 0, True
    return None, 0, False
