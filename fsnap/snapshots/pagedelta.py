"""A chunk as the pages in which it differs from another one, its parent.

Plain form, before compression: how many pages further on the parent has what this chunk
has (signed, 16 bits); a bit map with a set bit, lowest first, for each page that follows;
those pages; what is left of the chunk after its last whole page.  A page is 4 KiB from
the chunk's start, wherever the chunk came from.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fsnap.errors import CorruptData

if TYPE_CHECKING:
    from fsnap.stores.base import Buffer

PAGE_BYTES = 4096
MAX_DEPTH = 16
"""Deltas upon deltas that a reader follows."""
WRITTEN_DEPTH = 8
"""Deltas upon deltas that are written; deeper ones would cost a restore more reads than they save puts."""

_SHIFT = struct.Struct("<h")
Flags = npt.NDArray[np.bool_]


def plain_limit(raw_bytes: int) -> int:
    """The longest plain form of a delta of a chunk of *raw_bytes*."""
    return _SHIFT.size + _map_bytes(raw_bytes // PAGE_BYTES) + raw_bytes


def encode(data: memoryview, same: Flags, shift: int) -> bytearray:
    """The plain form of *data*, whose page *i* is the parent's page *i + shift* where ``same[i]``."""
    pages = len(data) // PAGE_BYTES
    body = np.frombuffer(data, np.uint8, pages * PAGE_BYTES).reshape(pages, PAGE_BYTES)
    out = bytearray(_SHIFT.pack(shift))
    out += np.packbits(~same, bitorder="little").tobytes()
    out += body[~same].tobytes()
    out += data[pages * PAGE_BYTES :]
    return out


def apply(plain: Buffer, parent: Buffer, raw_bytes: int, where: str) -> bytes:
    """The chunk of *raw_bytes* that *plain* makes of *parent*; :class:`CorruptData` if it makes none."""
    pages, rest = divmod(raw_bytes, PAGE_BYTES)
    head = _SHIFT.size + _map_bytes(pages)
    if len(plain) < head + rest:
        raise CorruptData(f"{where} is damaged: a delta is too short")
    (shift,) = _SHIFT.unpack_from(plain)
    bits = np.frombuffer(plain, np.uint8, head - _SHIFT.size, _SHIFT.size)
    changed = np.unpackbits(bits, bitorder="little")[:pages].astype(np.bool_)
    count = int(changed.sum())
    if len(plain) != head + count * PAGE_BYTES + rest:
        raise CorruptData(f"{where} is damaged: a delta's length does not match its map")
    kept = np.flatnonzero(~changed) + shift
    parent_pages = len(parent) // PAGE_BYTES
    if len(kept) and (kept[0] < 0 or kept[-1] >= parent_pages):
        raise CorruptData(f"{where} is damaged: a delta refers to pages that its parent does not have")
    out = np.empty(raw_bytes, np.uint8)
    body = out[: pages * PAGE_BYTES].reshape(pages, PAGE_BYTES)
    base = np.frombuffer(parent, np.uint8, parent_pages * PAGE_BYTES).reshape(parent_pages, PAGE_BYTES)
    body[~changed] = base[kept]
    body[changed] = np.frombuffer(plain, np.uint8, count * PAGE_BYTES, head).reshape(count, PAGE_BYTES)
    out[pages * PAGE_BYTES :] = np.frombuffer(plain, np.uint8, rest, len(plain) - rest)
    return out.tobytes()


def _map_bytes(pages: int) -> int:
    return (pages + 7) // 8
