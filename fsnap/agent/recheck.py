"""Reading stored packs again, one after each checkpoint, since snapshots share them.

A pack that rotted would spoil every later snapshot that builds on it: each is verified
when it is written, and refers to packs that were verified long before.
"""

from __future__ import annotations

from collections.abc import Sequence

from loguru import logger

from fsnap.agent.job import Cancelled, Job
from fsnap.errors import CorruptData, ObjectMissing, StoreError
from fsnap.snapshots import codec, layout
from fsnap.snapshots.known import KnownChunks
from fsnap.stores.retrying import RetryingStore


class Rechecker:
    """Takes the packs of a task's newest snapshot in turn."""

    def __init__(self, *, store: RetryingStore, prefix: str, known: KnownChunks) -> None:
        self._store = store
        self._prefix = prefix
        self._known = known
        self._last = ""

    def run(self, job: Job, packs: Sequence[str]) -> None:
        """Read the next one of *packs*; one that is damaged or missing is put again by the next capture."""
        waiting = sorted(packs)
        pack_id = next((name for name in waiting if name > self._last), waiting[0] if waiting else None)
        if pack_id is None or job.cancelled:
            return
        self._last = pack_id
        key = layout.pack_key(self._prefix, pack_id)
        try:
            whole = codec.hexdigest(self._store.watched(job.checkpoint).get(key)) == pack_id
        except Cancelled:
            return
        except ObjectMissing:
            whole = False
        except StoreError as problem:
            logger.debug("{} was not read again: {}", key, problem)
            return
        except CorruptData:  # what the store has; a transfer that went wrong is a StoreError, too
            whole = False
        if not whole:
            self._known.evict_pack(pack_id)
            logger.warning("{} is damaged: the next checkpoint stores its content again", key)
