"""Every place between two durable steps at which an agent may die, numbered.

``reach`` does nothing in production.  Tests put an observer in its place that kills the
process at the N-th visit of one point (``tests/crash``): for each of them the task must go
on afterwards, on the same node and on another, with the same output.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum


class CrashPoint(IntEnum):
    """Named for what has just been done; the numbers do not change meaning."""

    DECIDED = 1
    """Nothing of the decision is durable."""
    RECORDED = 2
    """The record is in the local journal."""
    BATCH_KEPT = 3
    """The object's bytes are kept locally, and no put was tried."""
    BATCH_PUT = 4
    """The object is in the store, and the local journal does not know."""
    DURABLE = 5
    """The record is as durable as its effects need, and none has begun."""
    EFFECT_BEGUN = 6
    """An effect was carried out, or its worker begun."""
    LAUNCHED = 7
    """A capsule is there, and nobody has claimed for it."""
    BASELINE_TAKEN = 8
    """The inputs are known; the capsule's init is not running yet."""
    STARTED = 9
    """The command runs."""
    DUMP_SPAWNED = 10
    """CRIU has begun to freeze the tree."""
    FROZEN = 11
    """The gate is closed."""
    TREE_STORED = 12
    """One tree's chunks are on their way into packs."""
    INDEX_STORED = 13
    """Packs and index are stored and listed; there is no manifest."""
    MANIFEST_STORED = 14
    """The snapshot is whole, and the journal does not know."""
    STAGED = 15
    """A periodic checkpoint's files are copied; the gate is still closed."""
    RUNS_ON = 16
    """A periodic checkpoint's tree runs on; nothing of it is stored."""
    IMAGES_FETCHED = 17
    """CRIU's images are here; the state dirs are not restored."""
    FILES_RESTORED = 18
    """Files are restored; CRIU has not begun."""
    TREE_RESTORED = 19
    """The restored tree stands at its gate."""
    RELEASED = 20
    """The restored tree runs."""
    TREE_ENDED = 21
    """A committed tree is killed; the exit code is not returned."""
    HEAD_PUBLISHED = 22
    """The head for listings is written."""
    PAGES_FED = 23
    """A process's memory went from CRIU's stream into the capture; CRIU is not at its gate."""


def _nothing(point: CrashPoint) -> None:
    """What production does."""


observer: Callable[[CrashPoint], None] = _nothing
"""A test's observer; assigned by tests alone."""


def reach(point: CrashPoint) -> None:
    """The agent has come to *point*."""
    observer(point)
