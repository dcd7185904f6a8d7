"""A snapshot that was whole when its node died, before the journal could say so.

Its manifest is the last object that a capture writes, so one that is there and verifies is
as good as a committed one; a claimant journals it before it is used.
"""

from __future__ import annotations

from loguru import logger

from fsnap.core.model import LIVE, SnapshotRef, TaskState
from fsnap.errors import CorruptData, NewerSchema, SealError
from fsnap.keys import KeyRing
from fsnap.snapshots.fetch import Snapshot
from fsnap.stores.base import Store

MANIFEST = "/manifest.json"


def find_unrecorded(
    store: Store, prefix: str, state: TaskState, keys: KeyRing | None = None
) -> SnapshotRef | None:
    """The newest whole snapshot of the last epoch that the journal lacks, every byte of it read.

    :class:`~fsnap.errors.StoreError` when the store fails.
    """
    if state.state not in LIVE or state.finishing:
        return None
    newest = max((ref.id for ref in state.snapshots), default="")
    folder = f"{prefix}/snapshots/"
    names = [row.key.removeprefix(folder) for row in store.list(folder)]
    found = [name.removesuffix(MANIFEST) for name in names if name.endswith(MANIFEST)]
    for snapshot_id in sorted(found, reverse=True):
        if snapshot_id <= newest or not snapshot_id.startswith(f"{state.epoch:06d}-"):
            continue
        ref = _verified(store, prefix, state, snapshot_id, keys)
        if ref is not None:
            return ref
    return None


def _verified(
    store: Store, prefix: str, state: TaskState, snapshot_id: str, keys: KeyRing | None
) -> SnapshotRef | None:
    try:
        snapshot = Snapshot.open(
            store=store, prefix=prefix, snapshot_id=snapshot_id, manifest_digest=None, keys=keys
        )
        about, manifest = snapshot.about, snapshot.manifest
        ours = (about.task, about.epoch, about.command) == (state.task, state.epoch, state.command)
        if not ours or not about.root_pid or not snapshot.verify().ok:
            return None
    except (CorruptData, NewerSchema, SealError) as problem:
        logger.warning("the unrecorded snapshot {} is of no use: {}", snapshot_id, problem)
        return None
    return SnapshotRef(
        id=snapshot_id,
        manifest=snapshot.manifest_digest,
        epoch=about.epoch,
        kind="periodic",
        bytes=manifest.bytes,
        new_bytes=manifest.new_bytes,
        stored_bytes=manifest.stored_bytes,
        committed_at=about.created_at,
        run_ms=about.run_ms,
        stdout_bytes=about.stdout_offset,
        stderr_bytes=about.stderr_offset,
    )
