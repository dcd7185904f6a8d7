"""A snapshot's index in memory: which files there are, and which chunks they consist of.

All content forms one *stream*, the concatenation of the chunks that ``refs`` names; a
file's extents say which stretch of the stream lies where in the file.  An index is
checked when it is parsed (:mod:`fsnap.snapshots.indexfile`), so nothing here is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from fsnap.snapshots.tables import EntryRow, Kind, Table

_ROWS_AT_ONCE = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeHead:
    """A tree in the index: entries *first* to *first + count*; the first is its root directory."""

    name: str
    kind: str
    page_structured: bool
    first: int
    count: int
    skipped: tuple[str, ...] = ()
    """Paths that were left out, for people: mount points, mostly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamHead:
    """A blob or a file stored with the snapshot: *length* bytes of the stream."""

    name: str
    stream_at: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PackRow:
    """A pack that the index refers to."""

    id: str
    bytes: int


class Index:
    """The tables, and the few ways in which they are walked."""

    def __init__(
        self,
        *,
        trees: tuple[TreeHead, ...],
        streams: tuple[StreamHead, ...],
        packs: Table,
        chunks: Table,
        refs: Table,
        entries: Table,
        extents: Table,
        xattrs: Table,
        strings: bytes,
        key_id: str = "",
    ) -> None:
        self.trees = {tree.name: tree for tree in trees}
        self.streams = {stream.name: stream for stream in streams}
        self.packs = packs
        self.chunks = chunks
        self.refs = refs
        self.entries = entries
        self.extents = extents
        self.xattrs = xattrs
        self.strings = strings
        self.key_id = key_id
        """Of the key that it and its packs are sealed with; empty where none is."""

    @cached_property
    def ref_starts(self) -> npt.NDArray[np.int64]:
        """Where each ref's chunk starts in the stream, and the stream's length at the end."""
        lengths = self.chunks["raw_bytes"][self.refs].astype(np.int64)
        starts = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths, out=starts[1:])
        return starts

    @property
    def content_bytes(self) -> int:
        """What a restore of everything writes."""
        return int(self.extents["length"].sum(dtype=np.uint64)) + sum(s.length for s in self.streams.values())

    def pack_rows(self) -> tuple[PackRow, ...]:
        """The packs, in the index's order."""
        return tuple(PackRow(id=bytes(row["id"]).hex(), bytes=int(row["bytes"])) for row in self.packs)

    def text(self, at: int, length: int) -> bytes:
        """Bytes of the string section."""
        return self.strings[at : at + length]

    def rows(self, first: int, count: int) -> Iterator[EntryRow]:
        """Entries *first* to *first + count*."""
        for start in range(first, first + count, _ROWS_AT_ONCE):
            stop = min(start + _ROWS_AT_ONCE, first + count)
            yield from map(EntryRow._make, self.entries[start:stop].tolist())

    def row(self, number: int) -> EntryRow:
        """One entry."""
        return next(self.rows(number, 1))

    def tree_entries(self, name: str) -> Iterator[tuple[int, str, EntryRow]]:
        """Number, path and row of each entry of the tree *name*, in the index's order.

        Paths are relative to the tree's root, which is ``""`` itself.
        """
        tree = self.trees[name]
        for number, row in enumerate(self.rows(tree.first, tree.count), tree.first):
            yield number, os.fsdecode(self.text(row.path_at, row.path_len)), row

    def entry_extents(self, row: EntryRow) -> list[tuple[int, int, int]]:
        """``(offset in the file, length, offset in the stream)`` of each extent."""
        rows: list[tuple[int, int, int]] = self.extents[row.extent_at : row.extent_at + row.extent_n].tolist()
        return rows

    def entry_xattrs(self, row: EntryRow) -> dict[str, bytes]:
        """Extended attributes by name."""
        rows = self.xattrs[row.xattr_at : row.xattr_at + row.xattr_n].tolist()
        return {
            os.fsdecode(self.text(name_at, name_len)): self.text(value_at, value_len)
            for name_at, name_len, value_at, value_len in rows
        }

    def pieces(self, stream_at: int, length: int) -> Iterator[tuple[int, int, int]]:
        """``(chunk, offset in it, length)`` of each chunk that a stretch of the stream touches."""
        starts = self.ref_starts
        ref = int(np.searchsorted(starts, stream_at, side="right")) - 1
        while length > 0:
            inside = stream_at - int(starts[ref])
            take = min(length, int(starts[ref + 1]) - stream_at)
            if take > 0:
                yield int(self.refs[ref]), inside, take
            stream_at += take
            length -= take
            ref += 1

    def recorded_paths(self, name: str) -> frozenset[str]:
        """Paths of the tree that the snapshot stores; neither what was there before nor the root itself."""
        out = (Kind.INPUT, Kind.GONE, Kind.THERE)
        return frozenset(path for _, path, row in self.tree_entries(name) if path and row.kind not in out)
