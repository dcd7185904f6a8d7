"""What a snapshot saw of a tree, so that the next one need not read it again.

A file whose state is the same refers to the chunks it had.  That is sound only for
files whose every later write shows in the state: one that was touched within the
coarsest file-system tick before the instant of the snapshot, or is mapped for writing,
is never taken to be unchanged.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from fsnap.snapshots.codec import ZERO
from fsnap.snapshots.feeder import Feeder
from fsnap.snapshots.index import Index, PackRow
from fsnap.snapshots.known import KnownChunks, Location, Stored
from fsnap.snapshots.sink import ChunkSink
from fsnap.snapshots.state import Key, State, state_key
from fsnap.snapshots.tables import NONE

RACY_NS = 2_000_000_000
"""Files touched this shortly before are read again: 2 s is the coarsest stamp in use (FAT)."""

Extent = tuple[int, int, int]
"""Offset in the file, length, offset in the stream."""


SeenFiles = dict[str, tuple[int, Key]]
"""Path to the entry's number and its state then; a state that can't recur where it tells nothing."""


def settled_key(state: State, *, at_ns: int, is_mapped: bool) -> Key:
    """The key to keep of a file that was captured at *at_ns*; one without a ctime equals no other."""
    key = state_key(state)
    return (*key[:4], -1) if is_mapped or key[4] > at_ns - RACY_NS else key


class Seen:
    """States of a tree's files at a snapshot, by path, and their place in its index."""

    def __init__(self, *, index: Index, files: SeenFiles) -> None:
        self.index = index
        self._files = files

    def __len__(self) -> int:
        return len(self._files)

    def extents_if_unchanged(self, path: str, state: State) -> list[Extent] | None:
        """The file's extents in :attr:`index` if *state* says that nothing was written since."""
        number, key = self._files.get(path, (0, None))
        if key != state_key(state):
            return None
        return self.index.entry_extents(self.index.row(number))

    def extents_if_grown(self, path: str, state: State) -> tuple[list[Extent], int] | None:
        """For a file that only grows: the extents up to the last boundary, and where that is in the file."""
        number, key = self._files.get(path, (0, None))
        if key is None or key[:2] != state_key(state)[:2] or key[2] > state.size:
            return None
        extents = self.index.entry_extents(self.index.row(number))
        if not extents:
            return None
        file_at, length, stream_at = extents.pop()
        starts = self.index.ref_starts
        last_ref = int(np.searchsorted(starts, stream_at + length, side="left")) - 1
        kept = max(0, int(starts[last_ref]) - stream_at)
        if kept:
            extents.append((file_at, kept, stream_at))
        return extents, file_at + kept


class Reuse:
    """Puts chunks of an earlier index into a new stream, each once however many files lie in it."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._packs: tuple[PackRow, ...] = index.pack_rows()
        self._refs: set[int] = set()
        self._moved: dict[int, int] = {}

    def can(self, extents: Iterable[Extent], known: KnownChunks) -> bool:
        """Whether none of the packs was found damaged or missing since."""
        numbers = {int(self._index.refs[ref]) for extent in extents for ref in self._range(extent)}
        chains = (stored for number in numbers for stored in self._chain(number))
        return not any(known.is_evicted(pack) for pack in {stored.location.pack_id for stored in chains})

    def want(self, extents: Iterable[Extent]) -> None:
        """These stretches will be referred to."""
        for extent in extents:
            self._refs.update(self._range(extent))

    def refer_all(self, sink: ChunkSink, feeder: Feeder) -> None:
        """Add everything wanted to the stream, between two segments."""
        index, position = self._index, feeder.position
        for ref in sorted(self._refs):
            number = int(index.refs[ref])
            raw_bytes = int(index.chunks[number]["raw_bytes"])
            sink.refer(index.chunks[number]["digest"].tobytes(), self._chain(number), raw_bytes)
            self._moved[ref] = position
            position += raw_bytes
        feeder.skip_to(position)

    def moved(self, extents: Iterable[Extent]) -> list[Extent]:
        """The same stretches in the new stream."""
        starts = self._index.ref_starts
        out = []
        for extent in extents:
            file_at, length, stream_at = extent
            first = self._range(extent)[0]
            out.append((file_at, length, self._moved[first] + stream_at - int(starts[first])))
        return out

    def _chain(self, number: int) -> tuple[Stored, ...]:
        """The chunk and what it is a delta of; nothing for zeros."""
        found: list[Stored] = []
        chunk = self._index.chunks[number]
        while chunk["codec"] != ZERO:
            pack = self._packs[int(chunk["pack"])]
            parent = None if chunk["parent"] == NONE else self._index.chunks[int(chunk["parent"])]
            location = Location(
                pack_id=pack.id,
                pack_bytes=pack.bytes,
                offset=int(chunk["offset"]),
                stored_bytes=int(chunk["stored_bytes"]),
                raw_bytes=int(chunk["raw_bytes"]),
                codec=int(chunk["codec"]),
                committed=True,
                parent=None if parent is None else parent["digest"].tobytes(),
            )
            found.append(Stored(chunk["digest"].tobytes(), location))
            if parent is None:
                break
            chunk = parent
        return tuple(found)

    def _range(self, extent: Extent) -> range:
        starts = self._index.ref_starts
        _, length, stream_at = extent
        first = int(np.searchsorted(starts, stream_at, side="right")) - 1
        last = int(np.searchsorted(starts, stream_at + length, side="left"))
        return range(first, last)
