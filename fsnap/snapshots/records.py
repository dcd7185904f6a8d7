"""What is recorded of each path of a tree, before any content is read.

It takes some 600 bytes of memory per path, and as much again while the index is made.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from fsnap.clock import Clock
from fsnap.snapshots import attributes
from fsnap.snapshots.errors import UnreadableFile
from fsnap.snapshots.seen import Extent
from fsnap.snapshots.state import NOWHERE, State, state_of
from fsnap.snapshots.tables import KIND_OF_FORMAT, Kind
from fsnap.snapshots.trees import TreeSource
from fsnap.snapshots.walk import Found, Skipped, excluded, walk


class Place(NamedTuple):
    """Where the copy of a file lies: byte *n* of the file is byte ``n + shift`` of *path*."""

    path: Path
    shift: int
    has_holes: bool


@dataclass(slots=True, kw_only=True)
class Record:
    """One path."""

    path: str
    kind: Kind
    state: State
    """``NOWHERE`` for a path that is gone."""
    xattrs: dict[str, bytes] | None = None
    target: str = ""
    """Of a symbolic link."""
    link: int = -1
    """Number of the record that is the same inode's first name."""
    digest: bytes | None = None
    """Of an input."""
    kept: list[Extent] | None = None
    """Stretches of an earlier snapshot's stream that are still the file's content."""
    start: int = 0
    """From here on the content is read anew."""
    staged: Place | None = None
    """Where the content from ``start`` on was copied to; None: it is read from the tree."""

    @property
    def read_bytes(self) -> int:
        """Length of what is read anew, holes included."""
        return self.state.size - self.start if self.kind == Kind.FILE else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedTree:
    """A tree whose paths are recorded and whose changed files may lie elsewhere, as copies."""

    source: TreeSource
    records: tuple[Record, ...]
    """Parents before what they hold, the root first; paths that are gone last."""
    skipped: tuple[str, ...]
    at_ns: int
    """Wall time at which the walk began."""
    copied_bytes: int = 0
    """What was copied aside byte by byte."""
    cloned_bytes: int = 0
    """What shares its blocks with the original, which took no time."""
    is_staged: bool
    """Whether the tree may have moved on, so that nothing is read from it any more."""


def record_tree(source: TreeSource, clock: Clock) -> StagedTree:
    """Walk *source* and record every path.  Raises :class:`UnreadableFile`."""
    at_ns = int(clock.wall().timestamp() * 1_000_000_000)
    skipped = Skipped()
    records: list[Record] = []
    firsts: dict[tuple[int, int], int] = {}
    for found in walk(source.root, source.exclude, skipped=skipped):
        record = _record(found, source)
        if found.state.st_nlink > 1 and record.kind in (Kind.FILE, Kind.SYMLINK, Kind.FIFO, Kind.SOCKET):
            first = firsts.setdefault((found.state.st_dev, found.state.st_ino), len(records))
            if first != len(records):
                record = Record(path=found.path, kind=Kind.LINK, state=record.state, link=first)
        records.append(record)
    if source.baseline is not None:
        there = {record.path for record in records}
        gone = [path for path in source.baseline.paths() - there if not _is_hidden(path, source, skipped)]
        records.extend(
            Record(path=path, kind=Kind.GONE, state=NOWHERE) for path in sorted(gone, key=os.fsencode)
        )
    return StagedTree(
        source=source,
        records=tuple(records),
        skipped=tuple(skipped.paths),
        at_ns=at_ns,
        is_staged=False,
    )


def _is_hidden(path: str, source: TreeSource, skipped: Skipped) -> bool:
    """Whether the walk could not have met *path* even if it is there."""
    parts = path.split("/")
    heads = ["/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
    return any(head in skipped.paths or excluded(head, source.exclude) for head in heads)


def _record(found: Found, source: TreeSource) -> Record:
    overlay = source.kind == "overlay-upper"
    kind = KIND_OF_FORMAT[stat.S_IFMT(found.state.st_mode)]
    state = state_of(found.state)
    baseline = source.baseline
    if baseline is not None and kind != Kind.DIR and not source.include_inputs:
        if baseline.is_input(found.path, found.state):
            if kind != Kind.FILE:
                return Record(path=found.path, kind=Kind.THERE, state=state)
            entry = baseline.get(found.path)
            digest = entry.digest if entry else None
            return Record(path=found.path, kind=Kind.INPUT, state=state, digest=digest)
    try:
        if found.path:
            target: int | str = f"/proc/self/fd/{found.parent_fd}/{found.name}"
        else:
            target = found.parent_fd
        kept, start = _kept(source, found.path, state) if kind == Kind.FILE else (None, 0)
        return Record(
            path=found.path,
            kind=kind,
            state=state,
            xattrs=attributes.read(target, overlay_upper=overlay) or None,
            target=os.readlink(found.name, dir_fd=found.parent_fd) if kind == Kind.SYMLINK else "",
            kept=kept,
            start=start,
        )
    except OSError as error:
        raise UnreadableFile(f"{found.path!r} in {source.root} cannot be read: {error.strerror}") from error


def _kept(source: TreeSource, path: str, state: State) -> tuple[list[Extent] | None, int]:
    """What of the file an earlier snapshot has already, and from where on it must be read."""
    seen = source.unchanged
    if seen is None:
        return None, 0
    if path not in source.reread:
        extents = seen.extents_if_unchanged(path, state)
        if extents is not None:
            return extents, state.size
    if excluded(path, source.append_only):
        grown = seen.extents_if_grown(path, state)
        if grown is not None:
            return grown
    return None, 0
