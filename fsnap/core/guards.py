"""The predicates that a chart may name, all of them, pure.

A chart is data and these names are its whole vocabulary: a dotted name in a chart
would be imported and called by the library underneath, so anything that is not in
``TASK_GUARDS`` or ``NODE_GUARDS`` is refused at load.
"""

from __future__ import annotations

from collections.abc import Callable

from fsnap.core.events import ClaimAsked, Event, RenewAsked, SnapshotFound, SnapshotSaved, TaskExited
from fsnap.core.model import State, TaskState
from fsnap.core.poison import as_claimed

Guard = Callable[[TaskState, Event], bool]


def has_usable_snapshot(state: TaskState, event: Event) -> bool:
    """A committed snapshot of a tree that is not quarantined, as the claimant sees it."""
    return bool((as_claimed(state, event) if isinstance(event, ClaimAsked) else state).usable)


def renewal_is_due(state: TaskState, event: Event) -> bool:
    """Asked for, and never for a task that succeeded unless the user said so or ``gc`` took its files."""
    if not isinstance(event, RenewAsked):
        return False
    return event.reason == "fresh" or state.state is State.FAILED or state.collected


def is_verified(state: TaskState, event: Event) -> bool:
    """The event that says that every byte is stored and verified, with a manifest."""
    return isinstance(event, SnapshotSaved | SnapshotFound) and bool(event.ref.manifest)


def is_final(state: TaskState, event: Event) -> bool:
    """The snapshot's tree is stopped for good."""
    return isinstance(event, SnapshotSaved) and event.ref.kind == "final"


def is_held(state: TaskState, event: Event) -> bool:
    """Somebody holds the claim."""
    return state.held


def came_from_snapshot(state: TaskState, event: Event) -> bool:
    """This attempt's tree was restored: its live state is ``resumed``."""
    return state.restored


def is_exit(state: TaskState, event: Event) -> bool:
    """The root process ended."""
    return isinstance(event, TaskExited)


TASK_GUARDS: dict[str, Guard] = {
    guard.__name__: guard
    for guard in (
        has_usable_snapshot,
        renewal_is_due,
        is_verified,
        is_final,
        is_held,
        is_exit,
        came_from_snapshot,
    )
}

NODE_GUARDS = frozenset({"has_pending_notice", "has_unsaved_task"})
"""Answered by the node's own tables (``fsnap/agent/node.py``)."""
