"""A warm pass: content put into the store while it still changes, ahead of the snapshot that wants it.

What is read belongs to no instant, and nothing here is trusted later: a snapshot reads
everything itself, and spares itself the put of a chunk whose digest it meets again.  What
no snapshot meets again is left in packs that nothing refers to.

The pass is throttled by the processor time of its own threads: after each few
milliseconds of it, it rests until it has had no more than its share of the time gone by.

Memory: three buffers of 4 MiB and at most three packs of 17 MiB.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fsnap.clock import Clock
from fsnap.keys import Key as SealingKey
from fsnap.snapshots import beneath
from fsnap.snapshots.cut import ByteCutter, PageCutter
from fsnap.snapshots.errors import Interrupted
from fsnap.snapshots.feeder import Feeder, Fill
from fsnap.snapshots.known import KnownChunks
from fsnap.snapshots.pace import Pace
from fsnap.snapshots.reading import data_ranges, reader
from fsnap.snapshots.records import Record, record_tree
from fsnap.snapshots.sealing import SnapshotSeal
from fsnap.snapshots.seen import settled_key
from fsnap.snapshots.sink import ChunkSink
from fsnap.snapshots.state import Key, state_key
from fsnap.snapshots.tables import Kind
from fsnap.snapshots.treecapture import SMALL_BYTES
from fsnap.snapshots.trees import TreeSource

if TYPE_CHECKING:
    from fsnap.stores.base import Store

BURST_S = 0.004
"""Processor time between two rests: short, so that nothing waits long for a core or for this process."""

_EVERYTHING = 1 << 62

FilesRead = dict[tuple[str, str], Key]
"""Tree and path to the state in which a pass read the file, kept from pass to pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmStats:
    """What a pass did."""

    read_bytes: int
    """Content met: what a snapshot now would find in the store, if nothing changed any more."""
    pages_bytes: int
    """Of it, memory."""
    new_bytes: int
    """Of it, what was not known before, uncompressed."""
    put_bytes: int
    busy_s: float
    """Processor time of its threads."""
    took_s: float


class WarmPass:
    """One pass.  For one thread, whose priority its workers inherit."""

    def __init__(
        self,
        *,
        store: Store,
        prefix: str,
        known: KnownChunks,
        clock: Clock,
        share: float,
        may_go_on: Callable[[], bool],
        level: int = 1,
        key: SealingKey | None = None,
    ) -> None:
        """*share* of one processor, above 0 up to 1; :class:`Interrupted` soon after *may_go_on* says no.

        The rest is as for a capture, whose *key* it is: what no snapshot will want is sealed too.
        """
        if known.key_id != (key.id if key else ""):
            raise ValueError("the known chunks are sealed with another key")
        self._sink = ChunkSink(
            store=store,
            prefix=prefix,
            known=known,
            threads=1,
            pace=Pace(level, adapts=False),
            connections=1,
            seal=None if key is None else SnapshotSeal(key, prefix),
            step=self._check,
        )
        self._feeder = Feeder(self._sink)
        self._clock = clock
        self._share = share
        self._may_go_on = may_go_on
        self._began_s = clock.mono_s()
        self._thread_began_s = time.thread_time()
        self._paid_s = 0.0
        self._pages_bytes = 0

    def __enter__(self) -> WarmPass:
        return self

    def __exit__(self, *_: object) -> None:
        self._sink.stop()

    def pages(self, fill: Fill) -> None:
        """Memory, in the order in which the page images will have it."""
        before = self._feeder.position
        self._feeder.begin(PageCutter())
        self._feeder.feed(self._paced(fill), _EVERYTHING)
        self._feeder.end()
        self._pages_bytes += self._feeder.position - before

    def tree(self, source: TreeSource, done: FilesRead) -> None:
        """The large files of *source* that were written since the pass that filled in *done*.

        Small ones are cut together with their neighbours, so only a whole tree gives their chunks.
        """
        tree = record_tree(source, self._clock)
        with beneath.opened_root(source.root) as root_fd:
            for record in tree.records:
                at = (source.name, record.path)
                key = settled_key(record.state, at_ns=tree.at_ns, is_mapped=record.path in source.reread)
                wanted = record.kind == Kind.FILE and not record.kept and record.read_bytes >= SMALL_BYTES
                if wanted and done.get(at) != state_key(record.state):
                    self._file(root_fd, record)
                    done[at] = key

    def finish(self) -> WarmStats:
        """Wait until everything is put."""
        self._sink.flush()
        return WarmStats(
            read_bytes=self._sink.done_bytes,
            pages_bytes=self._pages_bytes,
            new_bytes=self._sink.fresh_bytes,
            put_bytes=self._sink.put_bytes,
            busy_s=self._busy_s(),
            took_s=self._clock.mono_s() - self._began_s,
        )

    def _file(self, root_fd: int, record: Record) -> None:
        try:
            with beneath.opened_file(root_fd, record.path) as fd:
                self._feeder.begin(ByteCutter())
                for at, length in data_ranges(fd, record.start, os.fstat(fd).st_size):
                    self._feeder.feed(self._paced(reader(fd, at)), length)
                self._feeder.end()
        except OSError:
            # It is gone, or it is no file any more; a segment that was begun ends here.
            self._feeder.end_if_begun()

    def _paced(self, fill: Fill) -> Fill:
        def paced(view: memoryview) -> int:
            self._rest()
            return fill(view)

        return paced

    def _busy_s(self) -> float:
        return time.thread_time() - self._thread_began_s + self._sink.busy_s

    def _rest(self) -> None:
        self._check()
        if self._busy_s() - self._paid_s < BURST_S:
            return
        self._sink.settle()
        busy_s = self._busy_s()
        self._clock.sleep((busy_s - self._paid_s) * (1 / self._share - 1))
        self._paid_s = busy_s
        self._check()

    def _check(self) -> None:
        if not self._may_go_on():
            raise Interrupted("the warm pass was not to go on")
