"""Who may claim a task, and when: the rules, without any I/O."""

from __future__ import annotations

from dataclasses import dataclass

from fsnap.core.events import ClaimAsked
from fsnap.core.model import LIVE, TERMINAL, Attempt, Basis, State, TaskState

MARGIN_SHARE = 16
MARGIN_LEAST_MS = 1_000


def run_ms(lease_ms: int) -> int:
    """How long a copy may run after its holder's last renewal began, of the *lease_ms* that claimants wait.

    The rest, a sixteenth and at least a second (of short leases a quarter), is for two clocks that do not
    run at the same rate and for an init that is scheduled late: one that stops its tree within *d* ms
    keeps the copies apart while ``run_ms * (1 + r) + d <= lease_ms * (1 - r)``, where *r* is how much
    faster or slower than true time either clock may run.  At 200 ppm and the default lease of 120 s,
    *d* may be 7.4 s.
    """
    return lease_ms - min(max(lease_ms // MARGIN_SHARE, MARGIN_LEAST_MS), lease_ms // 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What a would-be claimant knows beside the journal."""

    attempt: Attempt | None
    holder_gone: bool = False
    """The recorded init is known to be dead: same machine and boot, and no such process; or another boot."""
    heartbeat_still_ms: int = 0
    """For how long this claimant's own clock has seen the heartbeat unchanged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """May this node claim now?"""

    basis: Basis | None
    reason: str
    wait_ms: int | None = None
    """When refused: how long until the lease can be called expired, if waiting may help."""


def judge(state: TaskState, sight: Sight) -> Verdict:
    """The claim rules, in the order of their strength."""
    if state.state in TERMINAL:
        raise ValueError("a terminal task is not claimed")
    if state.state is State.NEW:
        return Verdict(basis=Basis.NEW, reason="nobody has started it")
    if state.state is State.UPLOADED:
        return Verdict(basis=Basis.UPLOADED, reason="its tree was stopped for good")
    assert state.state in LIVE
    if not state.held:
        return Verdict(basis=Basis.GAVE_UP, reason="its holder gave it up")
    if sight.holder_gone:
        return Verdict(basis=Basis.HOLDER_GONE, reason="its holder's capsule is gone")
    if _later(state.attempt, sight.attempt):
        return Verdict(basis=Basis.LATER_ATTEMPT, reason="the scheduler started a later attempt")
    lease_ms = state.config.lease_ms
    if _later(sight.attempt, state.attempt):
        return Verdict(basis=None, reason=f"live in epoch {state.epoch} in a later attempt, on {_who(state)}")
    if lease_ms and sight.heartbeat_still_ms >= lease_ms:
        return Verdict(basis=Basis.LEASE_EXPIRED, reason=f"no heartbeat for {lease_ms} ms")
    wait_ms = lease_ms - sight.heartbeat_still_ms if lease_ms else None
    return Verdict(basis=None, reason=f"live in epoch {state.epoch} on {_who(state)}", wait_ms=wait_ms)


def hold_ms(state: TaskState, asked: ClaimAsked) -> int:
    """For how long after its claim a claimant releases nothing: the copy before may go on so long.

    A holder that ended before its own wait did knew no more of the copy before it, so the wait is inherited.
    """
    if asked.basis is Basis.LEASE_EXPIRED:
        # Its holder may have renewed between the last look at its heartbeat and this record.
        return max(state.hold_ms, state.config.lease_ms)
    if asked.basis is Basis.LATER_ATTEMPT:
        proven = asked.attempt is not None and asked.attempt.proves_end
        return 0 if proven else max(state.hold_ms, state.config.lease_ms)
    return state.hold_ms


def _later(recorded: Attempt | None, mine: Attempt | None) -> bool:
    """Same scheduler and job, higher number; equal proves nothing, lower never claims."""
    if recorded is None or mine is None:
        return False
    same = (recorded.scheduler, recorded.job) == (mine.scheduler, mine.job)
    return same and mine.number > recorded.number


def _who(state: TaskState) -> str:
    holder = state.holder
    return f"{holder.node} (init {holder.init_pid})" if holder else "an unknown node"
