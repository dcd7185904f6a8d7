"""CRIU's own statistics of a dump (``stats-dump``): how long the tree was frozen.

The file is two 32-bit magics, a 32-bit length and a protobuf ``stats_entry`` whose field 1
is ``dump_stats_entry`` (``images/stats.proto`` in the CRIU source): field 2 is
``frozen_time``, in microseconds.
"""

from __future__ import annotations

from pathlib import Path

HEADER_BYTES = 12


def frozen_ms(images: Path) -> int | None:
    """Milliseconds that the tree was frozen; ``None`` when the file is missing or says nothing."""
    try:
        data = (images / "stats-dump").read_bytes()[HEADER_BYTES:]
        inner = _field(data, 1)
        frozen_us = _field(inner, 2) if isinstance(inner, bytes) else None
    except (OSError, IndexError):
        return None
    return frozen_us // 1000 if isinstance(frozen_us, int) else None


def _field(data: bytes, wanted: int) -> int | bytes | None:
    """Field *wanted* of a protobuf message: a varint, or the bytes of a nested one."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        value: int | bytes
        if tag & 7 == 0:
            value, at = _varint(data, at)
        elif tag & 7 == 2:
            length, at = _varint(data, at)
            value, at = data[at : at + length], at + length
        else:
            return None
        if tag >> 3 == wanted:
            return value
    return None


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
