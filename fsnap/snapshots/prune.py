"""Deleting snapshots that a task needs no longer, and the packs that no other one has.

A pack's name is never given twice, so a delete that comes late meets nothing new.  Packs
go before the index and the manifest of the snapshot that names them: what a crash leaves
behind is found by its manifest the next time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from fsnap.errors import CorruptData, NewerSchema, ObjectMissing, SealError
from fsnap.keys import KeyRing
from fsnap.snapshots import layout
from fsnap.snapshots.sealing import open_manifest

if TYPE_CHECKING:
    from fsnap.stores.base import Store


class Known(Protocol):
    """Whoever remembers which packs need not be put again."""

    def evict_pack(self, pack_id: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What was deleted."""

    snapshots: int
    packs: int


def prune(
    *,
    store: Store,
    prefix: str,
    kept: Collection[str],
    known: Known,
    step: Callable[[], None] = lambda: None,
    keys: KeyRing | None = None,
) -> Pruned:
    """Delete every snapshot below *prefix* that is none of *kept* and older than the newest of them.

    One that is newer may have been whole when its node died, and be adopted.

    For the task's holder, while it captures nothing.  *step* is called before each delete and may raise.
    :class:`~fsnap.errors.CorruptData` when the manifest of a kept snapshot can't be read: nothing is
    deleted then, since its packs are not known; so with :class:`~fsnap.errors.SealError` when it does
    not open with *keys*.  :class:`~fsnap.errors.StoreError`.
    """
    newest = max(kept)
    there = _snapshot_ids(store, prefix)
    dropped = sorted(name for name in there if name < newest and name not in kept)
    needed = set[str]().union(*(_kept_packs(store, prefix, name, keys) for name in kept))
    gone: set[str] = set()
    for name in dropped:
        packs = _dropped_packs(store, prefix, name, keys) - needed - gone
        for pack_id in packs:
            known.evict_pack(pack_id)
        for pack_id in sorted(packs):
            step()
            store.delete(layout.pack_key(prefix, pack_id))
        gone |= packs
        for key in (layout.index_key(prefix, name), layout.manifest_key(prefix, name)):
            step()
            store.delete(key)
    return Pruned(snapshots=len(dropped), packs=len(gone))


def _snapshot_ids(store: Store, prefix: str) -> set[str]:
    folder = layout.snapshots_prefix(prefix)
    names = (row.key.removeprefix(folder).partition("/")[0] for row in store.list(folder))
    return {name for name in names if layout.is_snapshot_id(name)}


def _kept_packs(store: Store, prefix: str, snapshot_id: str, keys: KeyRing | None) -> frozenset[str]:
    try:
        return manifest_packs(store, prefix, snapshot_id, keys)
    except ObjectMissing as missing:
        raise CorruptData(f"the manifest of the snapshot {snapshot_id} is missing") from missing


def _dropped_packs(store: Store, prefix: str, snapshot_id: str, keys: KeyRing | None) -> frozenset[str]:
    """None for a snapshot whose manifest tells nothing: its packs are left to ``gc``."""
    try:
        return manifest_packs(store, prefix, snapshot_id, keys)
    except (ObjectMissing, CorruptData, NewerSchema, SealError):
        return frozenset()


def manifest_packs(
    store: Store, prefix: str, snapshot_id: str, keys: KeyRing | None = None
) -> frozenset[str]:
    """The packs that a snapshot's manifest names."""
    key = layout.manifest_key(prefix, snapshot_id)
    manifest, _ = open_manifest(store.get(key), keys, prefix=prefix, snapshot_id=snapshot_id, where=key)
    return frozenset(pack.id for pack in manifest.packs)
