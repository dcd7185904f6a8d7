"""The index object: tables to bytes, and bytes to tables that can be relied on.

Parsing trusts nothing: every count, offset, length, name and path is checked before it
is used, nothing is allocated beyond a stated bound, and whatever does not fit raises
:class:`~fsnap.errors.CorruptData`.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import zstandard

from fsnap.errors import CorruptData, NewerSchema
from fsnap.snapshots import codec, indexcheck, objects
from fsnap.snapshots.index import Index, StreamHead, TreeHead
from fsnap.snapshots.sealing import SnapshotSeal
from fsnap.snapshots.tables import CHUNK, ENTRY, EXTENT, PACK, REF, XATTR, Table

MAX_INDEX_BYTES = 1 << 30
"""Of the tables, uncompressed: some 10 million small files, or 2 TiB of memory."""
MAX_RATIO = 1024
"""An index that would shrink by more is stored as it is, so a reader can refuse a bomb."""
MAX_HEAD_BYTES = 1 << 20

_SECTIONS = (None, PACK, CHUNK, REF, ENTRY, EXTENT, XATTR, None)
_COUNTS = struct.Struct(f"<{len(_SECTIONS)}Q")


def encode_index(index: Index, *, level: int = 3, seal: SnapshotSeal | None = None, name: str = "") -> bytes:
    """The index object's bytes; with *seal* sealed as the object *name*, its key in the store."""
    head = _encode_head(index)
    tables = (index.packs, index.chunks, index.refs, index.entries, index.extents, index.xattrs)
    counts = _COUNTS.pack(len(head), *(len(table) for table in tables), len(index.strings))
    raw = b"".join((counts, head, *(table.tobytes() for table in tables), index.strings))
    if len(raw) > MAX_INDEX_BYTES or len(head) > MAX_HEAD_BYTES:
        raise ValueError(f"the index takes {len(raw)} bytes, more than the format's {MAX_INDEX_BYTES}")
    packed = zstandard.ZstdCompressor(level=level).compress(raw)
    kind = codec.ZSTD if len(packed) * MAX_RATIO >= len(raw) else codec.RAW
    body = packed if kind == codec.ZSTD else raw

    def header(key_id: str = "", salt: bytes = b"") -> bytes:
        return objects.encode_header(
            objects.INDEX_MAGIC, codec=kind, raw_bytes=len(raw), key_id=key_id, salt=salt
        )

    return header() + body if seal is None else seal.seal_index(header, body, name)


def decode_index(data: bytes, *, where: str, seal: SnapshotSeal | None = None, name: str = "") -> Index:
    """The checked index in *data*; *where* names the object in errors.

    *seal* opens it as the object *name*, its key in the store; without one it must not be sealed.
    """
    raw = _plain(data, where, seal, name)
    if len(raw) < _COUNTS.size:
        raise CorruptData(f"{where} is damaged: its tables are cut off")
    counts = _COUNTS.unpack_from(raw)
    widths = tuple(1 if kind is None else kind.itemsize for kind in _SECTIONS)
    if _COUNTS.size + sum(n * width for n, width in zip(counts, widths, strict=True)) != len(raw):
        raise CorruptData(f"{where} is damaged: the tables' lengths do not add up")
    sections: list[Any] = []
    at = _COUNTS.size
    for count, width, kind in zip(counts, widths, _SECTIONS, strict=True):
        part = raw[at : at + count * width]
        sections.append(part if kind is None else np.frombuffer(part, kind))
        at += count * width
    head, packs, chunks, refs, entries, extents, xattrs, strings = sections
    trees, streams = _decode_head(head, where)
    index = Index(
        trees=trees,
        streams=streams,
        packs=packs,
        chunks=chunks,
        refs=refs,
        entries=entries,
        extents=extents,
        xattrs=xattrs,
        strings=bytes(strings),
        key_id="" if seal is None else seal.key.id,
    )
    if len(index.trees) != len(trees) or len(index.streams) != len(streams):
        raise CorruptData(f"{where} is damaged: a name is used twice")
    indexcheck.check(index, where)
    return index


def _plain(data: bytes, where: str, seal: SnapshotSeal | None, name: str) -> memoryview:
    header = objects.decode_header(data, objects.INDEX_MAGIC, where=where)
    if seal is not None:
        body = memoryview(seal.open_index(header, memoryview(data), name, where))
    elif header.key_id:
        raise CorruptData(f"{where} is sealed, and its manifest is not")
    else:
        body = memoryview(data)[objects.HEADER_BYTES :]
    if header.raw_bytes > min(MAX_INDEX_BYTES, MAX_RATIO * max(1, len(body))):
        raise CorruptData(f"{where} is damaged: it claims {header.raw_bytes} bytes of tables")
    if header.codec == codec.RAW:
        if len(body) != header.raw_bytes:
            raise CorruptData(f"{where} is damaged: its length does not match")
        return body
    if header.codec != codec.ZSTD:
        raise NewerSchema(f"{where} is stored with codec {header.codec:#x}, which this fsnap cannot read")
    return memoryview(codec.inflate(zstandard.ZstdDecompressor(), body, header.raw_bytes, where))


def _encode_head(index: Index) -> bytes:
    head = {
        "trees": [
            {
                "name": tree.name,
                "kind": tree.kind,
                "page_structured": tree.page_structured,
                "first": tree.first,
                "count": tree.count,
                "skipped": list(tree.skipped),
            }
            for tree in index.trees.values()
        ],
        "streams": [
            {"name": stream.name, "stream_at": stream.stream_at, "length": stream.length}
            for stream in index.streams.values()
        ],
    }
    return json.dumps(head, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def _decode_head(data: memoryview, where: str) -> tuple[tuple[TreeHead, ...], tuple[StreamHead, ...]]:
    if len(data) > MAX_HEAD_BYTES:
        raise CorruptData(f"{where} is damaged: its head has {len(data)} bytes")
    try:
        head = json.loads(bytes(data))
        trees = tuple(
            TreeHead(
                name=_typed(tree["name"], str),
                kind=_typed(tree["kind"], str),
                page_structured=_typed(tree["page_structured"], bool),
                first=_typed(tree["first"], int),
                count=_typed(tree["count"], int),
                skipped=tuple(_typed(path, str) for path in _typed(tree["skipped"], list)),
            )
            for tree in _typed(head["trees"], list)
        )
        streams = tuple(
            StreamHead(
                name=_typed(stream["name"], str),
                stream_at=_typed(stream["stream_at"], int),
                length=_typed(stream["length"], int),
            )
            for stream in _typed(head["streams"], list)
        )
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise CorruptData(f"{where} is damaged: its head cannot be read") from error
    return trees, streams


def _typed(value: Any, kind: type) -> Any:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value


class IndexBuilder:
    """Collects what a capture records; :meth:`build` makes the tables."""

    def __init__(self) -> None:
        self.trees: list[TreeHead] = []
        self.streams: list[StreamHead] = []
        self._entries: list[tuple[int, ...]] = []
        self._extents: list[tuple[int, int, int]] = []
        self._xattrs: list[tuple[int, int, int, int]] = []
        self._strings = bytearray()
        self._interned: dict[bytes, int] = {}

    @property
    def entry_count(self) -> int:
        """Entries so far; the number that the next one gets."""
        return len(self._entries)

    def add_entry(
        self,
        *,
        path: bytes,
        kind: int,
        mode: int,
        uid: int,
        gid: int,
        link: int,
        size: int,
        rdev: int,
        mtime_ns: int,
        atime_ns: int,
        extents: list[tuple[int, int, int]],
        xattrs: dict[bytes, bytes],
        aux: bytes,
    ) -> None:
        """One row of the entry table with what belongs to it."""
        row = (self._text(path), len(path), kind, 0, mode, uid, gid, link, size, rdev, mtime_ns, atime_ns)
        more = (len(self._extents), len(extents), len(self._xattrs), len(xattrs), self._text(aux), len(aux))
        self._extents.extend(extents)
        for name, value in sorted(xattrs.items()):
            self._xattrs.append((self._intern(name), len(name), self._intern(value), len(value)))
        self._entries.append(row + more)

    def build(self, *, packs: Table, chunks: Table, refs: Table) -> Index:
        """The index; chunk tables come from the sink."""
        return Index(
            trees=tuple(self.trees),
            streams=tuple(self.streams),
            packs=packs,
            chunks=chunks,
            refs=refs,
            entries=np.array(self._entries, dtype=ENTRY),
            extents=np.array(self._extents, dtype=EXTENT),
            xattrs=np.array(self._xattrs, dtype=XATTR),
            strings=bytes(self._strings),
        )

    def _text(self, text: bytes) -> int:
        at = len(self._strings)
        self._strings += text
        return at

    def _intern(self, text: bytes) -> int:
        at = self._interned.get(text)
        if at is None:
            at = self._interned[text] = self._text(text)
        return at
