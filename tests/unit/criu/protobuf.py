"""What CRIU's images are written in."""

from __future__ import annotations


def varint(value: int) -> bytes:
    """A number, or with ``number << 3 | type`` what stands before a field."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
