"""Which snapshots a task still needs: the two newest that may be restored, and where its tree came from."""

from __future__ import annotations

from fsnap.core.model import TERMINAL, State, TaskState

KEPT = 2
"""A snapshot may prove damaged when it is needed: the one before it stands in."""

PRUNED_FROM = 5
"""So many snapshots are let gather, since each pruning costs a record."""


def prunable(state: TaskState) -> tuple[str, ...]:
    """Ids of the snapshots that the task's holder may delete, oldest first.

    All that are older than the ``KEPT`` newest usable ones, but for the one that the present tree was
    restored from: its numbers say where this attempt's output began.  None while there are few.
    """
    trees = [ref for ref in state.snapshots if ref.kind != "files"]
    if len(trees) < PRUNED_FROM or len(state.usable) < KEPT:
        return ()
    oldest_kept = trees.index(state.usable[KEPT - 1])
    return tuple(ref.id for ref in trees[:oldest_kept] if ref.id != state.restoring_from)


def over_and_done(state: TaskState) -> bool:
    """It ended well and its files are still there: a retry gives them and the exit code, and runs nothing."""
    return state.state is State.COMPLETED and not state.collected


def collectable(state: TaskState, *, force: bool) -> bool:
    """Whether ``gc`` may delete all snapshots of the task, if it is old enough.

    With *force* also those of a task that has not ended, which is given up by that.
    """
    if state.state in TERMINAL:
        return not state.collected
    return force and state.state is not State.NEW
