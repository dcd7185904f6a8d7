"""What can happen to a task: notices, outcomes of effects, and ticks.

Frozen, and each round-trips through a record (``EVENTS`` names them all).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fsnap.core.model import Attempt, Basis, Config, Holder, SnapshotRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of all events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimAsked(Event):
    """A node wants the right to run the task's one live copy."""

    basis: Basis
    holder: Holder
    attempt: Attempt | None = None
    config: Config = field(default_factory=Config)
    command: tuple[str, ...] = ()
    command_digest: str = ""
    cwd: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewAsked(Event):
    """The task is to begin from nothing: it had failed, or the user said ``--fresh``."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice(Event):
    """The provider's word that the node goes.

    ``window_ms`` is the time left when it was seen; ``action`` is ``terminate``,
    ``stop``, ``hibernate``, or ``rebalance`` (a recommendation: no deadline,
    ``window_ms`` 0).  The same notice always has the same ``notice_id``.
    """

    notice_id: str
    provider: str
    window_ms: int
    action: str = "terminate"
    deadline_at: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeCancelled(Event):
    """The provider took the notice back."""

    notice_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick(Event):
    """Time passed; recorded only when something follows from it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotSaved(Event):
    """Every byte of a snapshot is stored and verified, and its manifest is written."""

    ref: SnapshotRef


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotFound(Event):
    """A claimant found a whole snapshot of the last epoch, read every byte, and the journal lacks it."""

    ref: SnapshotRef


@dataclass(frozen=True, slots=True, kw_only=True)
class DumpFailed(Event):
    """A capture ended without a snapshot; the tree was rolled back and runs."""

    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreReady(Event):
    """A restored tree stands, not yet released, in the capsule of ``holder``."""

    snapshot_id: str
    holder: Holder


@dataclass(frozen=True, slots=True, kw_only=True)
class CapsuleLost(Event):
    """The capsule's init died, and the kernel ended the tree with it."""

    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreFailed(Event):
    """A snapshot could not be restored here; ``corrupt``: nor anywhere else.

    ``holder`` has the fresh capsule that was made for the next try.
    """

    snapshot_id: str
    code: str
    message: str
    corrupt: bool
    holder: Holder


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskExited(Event):
    """The root process ended; ``exit_code`` is 128+n for a signal."""

    exit_code: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelAsked(Event):
    """SIGINT, or a second SIGTERM: the signal is for the task."""

    signal: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointAsked(Event):
    """Somebody wants a periodic checkpoint now."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectAsked(Event):
    """``gc`` wants to delete all that is stored of a task that has ended, or that it is told to give up."""

    reason: str


EVENTS: dict[str, type[Event]] = {
    kind.__name__: kind
    for kind in (
        ClaimAsked,
        RenewAsked,
        Notice,
        NoticeCancelled,
        Tick,
        SnapshotSaved,
        SnapshotFound,
        DumpFailed,
        RestoreReady,
        CapsuleLost,
        RestoreFailed,
        TaskExited,
        CancelAsked,
        CheckpointAsked,
        CollectAsked,
    )
}
