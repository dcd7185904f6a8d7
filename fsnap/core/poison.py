"""Snapshots that harm: what counts against one, when it is quarantined, and for how long.  Pure.

A restore that fails counts, and so does a restored tree that dies of a fatal signal soon after its release:
after ``RESTORE_TRIES`` of them the snapshot is quarantined.  A node or agent that is lost without a word may
have been the snapshot's doing, too: after ``LOST_EPOCHS`` epochs that restored the same snapshot and saved
nothing, it is quarantined as well.  A damaged one is quarantined at once.

What one node could not restore another may: once nothing is left and the claim was given back, all but the
damaged ones get another chance.
"""

from __future__ import annotations

from dataclasses import replace

from fsnap.core.events import ClaimAsked
from fsnap.core.model import LIVE, RESTORE_TRIES, Basis, Facts, Holder, TaskState

SOON_MS = 3_000
"""A tree that dies so soon after its release may never have been whole: no CPU feature, no vDSO, no mapping
that it was saved with is used for the first time much later."""

FATAL_SIGNALS = {
    4: "SIGILL",
    5: "SIGTRAP",
    6: "SIGABRT",
    7: "SIGBUS",
    8: "SIGFPE",
    11: "SIGSEGV",
    31: "SIGSYS",
}
"""What a process brings on itself (Linux's numbers, signal(7)); SIGKILL and SIGTERM are somebody's will."""

LOST_EPOCHS = 5
"""Nodes that are lost by chance are rarely lost so often in a row before the next checkpoint."""

_LOST = (Basis.LATER_ATTEMPT, Basis.LEASE_EXPIRED, Basis.HOLDER_GONE)


def fatal_soon(state: TaskState, exit_code: int, facts: Facts) -> str | None:
    """Why the end of a restored tree speaks against its snapshot, for people; ``None``: it doesn't.

    A root that is a shell gives its child's signal on as 128+n, which counts alike.
    """
    signal = FATAL_SIGNALS.get(exit_code - 128)
    if signal is None or not state.restored or state.restoring_from is None or state.cancelled:
        return None
    ran_ms = facts.run_ms - state.run_base_ms
    if ran_ms >= SOON_MS or _saved_since(state):
        return None
    return f"the restored task died of {signal} {ran_ms} ms after its release"


def failed_once(state: TaskState, snapshot_id: str, *, corrupt: bool = False) -> TaskState:
    """*state* after one more restore of *snapshot_id* came to nothing; *corrupt*: it is damaged."""
    failures = {**state.restore_failures}
    failures[snapshot_id] = failures.get(snapshot_id, 0) + 1
    quarantined = state.quarantined
    if (corrupt or failures[snapshot_id] >= RESTORE_TRIES) and snapshot_id not in quarantined:
        quarantined = (*quarantined, snapshot_id)
    return replace(state, restore_failures=failures, quarantined=quarantined)


def as_claimed(state: TaskState, asked: ClaimAsked) -> TaskState:
    """*state* as a claimant has it: another chance where one is due, and the lost epoch counted."""
    if state.all_quarantined and not state.held:
        return _another_chance(state)
    tried = state.restoring_from
    lost = asked.basis in _LOST and state.held and state.state in LIVE
    if not lost or tried is None or _saved_since(state):
        return state
    counted = replace(state, lost_epochs={**state.lost_epochs, tried: state.lost_epochs.get(tried, 0) + 1})
    if counted.lost_epochs[tried] < LOST_EPOCHS:
        return counted
    without = replace(
        counted,
        quarantined=(*counted.quarantined, tried),
        restore_failures={**counted.restore_failures, tried: RESTORE_TRIES},
    )
    # The last one is kept for whoever tries again, unless the user would rather begin anew.
    return without if without.usable or asked.config.on_restore_failure == "restart" else counted


def claim_again(state: TaskState, holder: Holder | None) -> ClaimAsked:
    """The claim for the next try, by the node that gave the task up for it, with a fresh capsule."""
    assert holder is not None
    return ClaimAsked(
        basis=Basis.GAVE_UP,
        holder=holder,
        attempt=state.attempt,
        config=state.config,
        command=state.command,
        command_digest=state.command_digest,
        cwd=state.cwd,
    )


def between_tries(state: TaskState) -> bool:
    """A restored tree died too soon, and its node is about to claim the task again."""
    return state.state in LIVE and not state.held and state.outcome is None


def exhausted(claimed: TaskState) -> bool:
    """What is left to restore was lost too often: the claimant is to end, and to say so."""
    return bool(claimed.usable) and claimed.lost_epochs.get(claimed.usable[0].id, 0) >= LOST_EPOCHS


def given_back(state: TaskState) -> TaskState:
    """*state* after a claimant that found it :func:`exhausted`: the next one begins to count again."""
    return replace(_another_chance(state), held=False, restoring_from=None, outcome="restore-failed")


def _another_chance(state: TaskState) -> TaskState:
    """Only damaged snapshots stay out."""
    damaged = state.damaged
    failures = {ref: tries for ref, tries in state.restore_failures.items() if ref in damaged}
    return replace(state, quarantined=damaged, restore_failures=failures, lost_epochs={})


def _saved_since(state: TaskState) -> bool:
    """This epoch has saved a snapshot: there was progress, and it will be tried first."""
    return any(ref.epoch == state.epoch for ref in state.snapshots)
