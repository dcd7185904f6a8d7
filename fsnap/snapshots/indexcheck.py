"""Everything that must hold in an index before any of it is used."""

from __future__ import annotations

import numpy as np

from fsnap.errors import CorruptData
from fsnap.sealing import OVERHEAD_BYTES
from fsnap.snapshots import codec, layout, objects, pagedelta
from fsnap.snapshots.beneath import MAX_NAME_BYTES, MAX_PATH_BYTES, is_safe_path
from fsnap.snapshots.index import Index, TreeHead
from fsnap.snapshots.tables import NONE, EntryRow, Kind, Table

MAX_XATTR_BYTES = 65536
TREE_KINDS = ("plain", "overlay-upper")

_CHECKED = (Kind.LINK, Kind.SYMLINK, Kind.INPUT)
_LINKABLE = (Kind.FILE, Kind.SYMLINK, Kind.FIFO, Kind.SOCKET)
_I63 = (1 << 63) - 1


def check(index: Index, where: str) -> None:
    """Raise :class:`CorruptData`, or ``NewerSchema`` for a reserved codec, unless *index* is sound."""
    _check_packs(index.packs, where)
    _check_chunks(index, where)
    _require(bool((index.refs < len(index.chunks)).all()), where, "a chunk number is out of range")
    total = int(index.ref_starts[-1])
    for stream in index.streams.values():
        fits = 0 <= stream.stream_at <= total and 0 <= stream.length <= total - stream.stream_at
        _require(fits and layout.is_stream_name(stream.name), where, "a stored stream is out of range")
    _check_extents(index.extents, total, where)
    strings = len(index.strings)
    _check_ranges(index.xattrs, ("name_at", "name_len"), strings, where)
    _check_ranges(index.xattrs, ("value_at", "value_len"), strings, where)
    _check_xattrs(index, where)
    _check_entries(index, where)
    _check_trees(index, where)


def _require(condition: bool, where: str, what: str) -> None:
    if not condition:
        raise CorruptData(f"{where} is damaged: {what}")


def _check_packs(packs: Table, where: str) -> None:
    _require(len({row.tobytes() for row in packs["id"]}) == len(packs), where, "a pack is listed twice")
    sizes = packs["bytes"]
    _require(bool(((sizes > objects.HEADER_BYTES) & (sizes <= NONE)).all()), where, "a pack's size")


def _check_chunks(index: Index, where: str) -> None:
    chunks, packs = index.chunks, index.packs
    sealed = bool(index.key_id)
    more = OVERHEAD_BYTES if sealed else 0
    for number in np.unique(chunks["codec"]).tolist():
        codec.check_codec(number, where, is_sealed=sealed)
    raw, stored = chunks["raw_bytes"].astype(np.int64), chunks["stored_bytes"].astype(np.int64)
    _require(bool(((raw > 0) & (raw <= codec.MAX_CHUNK_BYTES)).all()), where, "a chunk's length")
    _check_parents(chunks, where)
    _require(not any(chunks["reserved"].tobytes()), where, "reserved bytes are set")
    zero, plain = chunks["codec"] == codec.ZERO, chunks["codec"] & codec.KINDS == codec.RAW
    empty = (stored == 0) & (chunks["pack"] == NONE) & (chunks["offset"] == 0)
    _require(bool(empty[zero].all()), where, "a chunk of zeros lies in a pack")
    _require(bool((stored[plain] == raw[plain] + more).all()), where, "an uncompressed chunk's length")
    packed = chunks[~zero]
    _require(bool((packed["pack"] < len(packs)).all()), where, "a pack number is out of range")
    offset, length = packed["offset"].astype(np.int64), stored[~zero]
    room = packs["bytes"].astype(np.int64)[packed["pack"]]
    fits = (offset >= objects.HEADER_BYTES) & (offset + length <= room)
    fits &= (length > more) & (length <= raw[~zero] + more)
    _require(bool(fits.all()), where, "a chunk lies outside its pack")


def _check_parents(chunks: Table, where: str) -> None:
    """Deltas, and only they, have a parent that is not zeros; none rests on too many others."""
    parent = chunks["parent"].astype(np.int64)
    is_delta = chunks["codec"] & codec.KINDS == codec.DELTA
    _require(bool(((parent != NONE) == is_delta).all()), where, "a chunk's parent")
    above = np.flatnonzero(is_delta)
    for _ in range(pagedelta.MAX_DEPTH):
        if not len(above):
            return
        above = parent[above]
        _require(bool((above < len(chunks)).all()), where, "a parent's number is out of range")
        _require(bool((chunks["codec"][above] != codec.ZERO).all()), where, "a parent of zeros")
        above = above[is_delta[above]]
    _require(not len(above), where, "too many deltas upon one another")


def _check_extents(extents: Table, total: int, where: str) -> None:
    for column in ("file_at", "length", "stream_at"):
        _require(bool((extents[column] <= _I63).all()), where, "an extent is out of range")
    at, length = extents["stream_at"].astype(np.int64), extents["length"].astype(np.int64)
    fits = (length > 0) & (at <= total) & (length <= total - at)
    _require(bool(fits.all()), where, "an extent lies outside the stream")


def _check_ranges(table: Table, columns: tuple[str, str], bound: int, where: str) -> None:
    ends = table[columns[0]].astype(np.int64) + table[columns[1]].astype(np.int64)
    _require(bool((ends <= bound).all()), where, f"{columns[0]} is out of range")


def _check_partition(entries: Table, columns: tuple[str, str], rows: int, where: str) -> None:
    """Each row of the other table belongs to exactly one entry, in the entries' order."""
    counts = entries[columns[1]].astype(np.int64)
    ends = np.cumsum(counts)
    _require(bool((entries[columns[0]] == ends - counts).all()), where, f"{columns[0]} is out of order")
    _require((int(ends[-1]) if len(ends) else 0) == rows, where, f"{columns[0]} leaves rows over")


def _check_xattrs(index: Index, where: str) -> None:
    lengths = index.xattrs["name_len"]
    _require(bool(((lengths > 0) & (lengths <= MAX_NAME_BYTES)).all()), where, "an attribute's name")
    _require(bool((index.xattrs["value_len"] <= MAX_XATTR_BYTES).all()), where, "an attribute's size")
    names = {(at, length) for at, length, _, _ in index.xattrs.tolist()}
    _require(not any(b"\0" in index.text(*name) for name in names), where, "an attribute's name")


def _check_entries(index: Index, where: str) -> None:
    entries, extents = index.entries, index.extents
    strings = len(index.strings)
    _check_ranges(entries, ("path_at", "path_len"), strings, where)
    _check_ranges(entries, ("aux_at", "aux_len"), strings, where)
    _check_partition(entries, ("extent_at", "extent_n"), len(extents), where)
    _check_partition(entries, ("xattr_at", "xattr_n"), len(index.xattrs), where)
    kinds = entries["kind"]
    _require(bool(((kinds >= Kind.FILE) & (kinds <= Kind.THERE)).all()), where, "an unknown kind of entry")
    _require(bool((entries["mode"] <= 0o7777).all()), where, "a mode")
    _require(bool((entries["size"] <= _I63).all()), where, "a size")
    _require(not entries["reserved"].any(), where, "reserved bytes are set")
    _require(bool((entries["extent_n"][kinds != Kind.FILE] == 0).all()), where, "content of what has none")
    owners = np.repeat(np.arange(len(entries)), entries["extent_n"])
    ends = extents["file_at"] + extents["length"]
    _require(bool((ends <= entries["size"][owners]).all()), where, "an extent lies outside its file")
    same = owners[1:] == owners[:-1]
    ordered = extents["file_at"][1:] >= ends[:-1]
    _require(bool(ordered[same].all()), where, "extents of a file overlap")


def _check_trees(index: Index, where: str) -> None:
    first = 0
    for tree in index.trees.values():
        sound = layout.is_tree_name(tree.name) and tree.kind in TREE_KINDS and tree.first == first
        _require(sound and 1 <= tree.count <= len(index.entries) - first, where, "a tree's range")
        _check_tree(index, tree, where)
        first += tree.count
    _require(first == len(index.entries), where, "entries of no tree")


def _check_tree(index: Index, tree: TreeHead, where: str) -> None:
    rows = index.rows(tree.first, tree.count)
    root = next(rows)
    _require(root.path_len == 0 and root.kind == Kind.DIR, where, "a tree without a root")
    seen, directories = {b""}, {b""}
    for number, row in enumerate(rows, tree.first + 1):
        path = index.text(row.path_at, row.path_len)
        if path in seen or not is_safe_path(path):
            raise CorruptData(f"{where} is damaged: a path is unsafe or listed twice")
        seen.add(path)
        if row.kind != Kind.GONE and path.rpartition(b"/")[0] not in directories:
            raise CorruptData(f"{where} is damaged: a path whose directory is not listed")
        if row.kind == Kind.DIR:
            directories.add(path)
        elif row.kind in _CHECKED:
            _check_special(index, tree, number, row, where)


def _check_special(index: Index, tree: TreeHead, number: int, row: EntryRow, where: str) -> None:
    aux = index.text(row.aux_at, row.aux_len)
    if row.kind == Kind.LINK:
        sound = tree.first < row.link < number and int(index.entries["kind"][row.link]) in _LINKABLE
        _require(sound, where, "a hard link's target")
    elif row.kind == Kind.SYMLINK:
        _require(0 < len(aux) <= MAX_PATH_BYTES and b"\0" not in aux, where, "a symbolic link's target")
    else:
        _require(len(aux) in (0, codec.DIGEST_BYTES), where, "an input's digest")
