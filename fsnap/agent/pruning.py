"""Deleting what the task needs no longer, as a job that any capture takes precedence over."""

from __future__ import annotations

from collections.abc import Callable

from loguru import logger

from fsnap.agent.job import Cancelled, Job
from fsnap.core.model import TaskState
from fsnap.errors import FsnapError
from fsnap.keys import KeyRing
from fsnap.snapshots.known import KnownChunks
from fsnap.snapshots.prune import prune
from fsnap.stores.retrying import RetryingStore


class Pruner:
    """Carries out the records that say what is dropped.

    *ship* puts the journal's tail into the store; *is_mirrored* says of a state whether the record that
    it ends with is the world's.
    """

    def __init__(
        self,
        *,
        store: RetryingStore,
        prefix: str,
        known: KnownChunks,
        ship: Callable[[], None],
        is_mirrored: Callable[[TaskState], bool],
        keys: KeyRing | None = None,
    ) -> None:
        self._store = store
        self._prefix = prefix
        self._known = known
        self._ship = ship
        self._is_mirrored = is_mirrored
        self._keys = keys

    def run(self, job: Job, state: TaskState) -> None:
        """Delete every snapshot that *state* has no longer.

        A failure, or a capture that comes, leaves the rest to the next pruning.
        """
        try:
            self._ship()
            if not self._is_mirrored(state):
                return  # another node's record came first
            kept = {ref.id for ref in state.snapshots}
            done = prune(
                store=self._store.watched(job.checkpoint),
                prefix=self._prefix,
                kept=kept,
                known=self._known,
                step=job.checkpoint,
                keys=self._keys,
            )
        except Cancelled:
            return
        except FsnapError as problem:
            logger.warning("older snapshots can't be deleted yet: {}", problem)
            return
        logger.debug("deleted {} older snapshots and {} packs", done.snapshots, done.packs)
