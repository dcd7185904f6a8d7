"""What a decision wants done: values, carried out by the agent.

Each effect names the durability that its record needs before it may start, and gets
an idempotency key from the record that ordered it: doing it twice under one key is
doing it once.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar


class Durability(Enum):
    """Where a record must be before its effects start."""

    LOCAL = "local"
    MIRRORED = "mirrored"


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """Base of all effects."""

    durability: ClassVar[Durability] = Durability.LOCAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Start(Effect):
    """Start the command in the capsule, from nothing."""

    durability: ClassVar[Durability] = Durability.MIRRORED
    hold_ms: int = 0
    """Nothing is started before this much time after the claim."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Predump(Effect):
    """Commit a periodic checkpoint; the tree runs on after the freeze."""

    snapshot_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dump(Effect):
    """Freeze the tree and capture it for good; the gate stays closed until the commit."""

    snapshot_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback(Effect):
    """Give up the capture under way; the tree runs on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveFiles(Effect):
    """Store the files of a task that has ended."""

    snapshot_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prune(Effect):
    """Delete snapshots that the task needs no longer, and what of their packs no other one has.

    Nothing is deleted before the record is mirrored; that is for its job to wait for, since the loop
    must not wait for a store that is away.
    """

    snapshot_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Restore(Effect):
    """Fetch, verify and restore a snapshot; the tree waits at the gate."""

    durability: ClassVar[Durability] = Durability.MIRRORED
    snapshot_id: str
    hold_ms: int
    """Nothing is released, and no shared directory written, before this much time after the claim."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release(Effect):
    """Let the restored tree run."""

    durability: ClassVar[Durability] = Durability.MIRRORED


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold(Effect):
    """Keep the gate closed until the host dies or the notice proves false."""

    durability: ClassVar[Durability] = Durability.MIRRORED


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume(Effect):
    """Open the gate of a committed dump: the notice was false and nobody claimed."""

    durability: ClassVar[Durability] = Durability.MIRRORED


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill(Effect):
    """End the tree and its capsule."""

    durability: ClassVar[Durability] = Durability.MIRRORED


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal(Effect):
    """Pass a signal on to the task."""

    signal: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimAgain(Effect):
    """Claim the task once more, in a fresh capsule: the tree of this epoch has died of its snapshot."""

    durability: ClassVar[Durability] = Durability.MIRRORED


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit(Effect):
    """End ``run`` with this code."""

    durability: ClassVar[Durability] = Durability.MIRRORED
    exit_code: int
    outcome: str


EFFECTS: dict[str, type[Effect]] = {
    kind.__name__: kind
    for kind in (
        Start,
        Predump,
        Dump,
        Rollback,
        SaveFiles,
        Prune,
        Restore,
        Release,
        Hold,
        Resume,
        Kill,
        Signal,
        ClaimAgain,
        Exit,
    )
}


def durability(effects: tuple[Effect, ...]) -> Durability:
    """The strictest durability that *effects* need."""
    if any(effect.durability is Durability.MIRRORED for effect in effects):
        return Durability.MIRRORED
    return Durability.LOCAL


def idempotency_key(task: str, seq: int, index: int) -> str:
    """The key of the effect at *index* of the record *seq*."""
    return f"{task}/{seq}/{index}"
