"""Protobuf messages of CRIU's images, as far as fsnap reads them: field by field, without a schema."""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _BYTES = 0, 2


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field: a varint, or the bytes of a string or nested message.

    :class:`ValueError` for a message that is cut off or has a field of another type.
    """
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        value: int | bytes
        if tag & 7 == _VARINT:
            value, at = _varint(data, at)
        elif tag & 7 == _BYTES:
            length, at = _varint(data, at)
            value, at = data[at : at + length], at + length
            if at > len(data):
                raise ValueError("a protobuf message ends within a field")
        else:
            raise ValueError(f"a protobuf field has type {tag & 7}")
        yield tag >> 3, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("a protobuf message ends within a number")
