"""Protobuf messages of CRIU's images, as far as fsnap knows them: field by field, without a schema."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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


def find(data: bytes, *path: int) -> int | bytes | None:
    """The value of a field by the numbers that lead to it, ``None`` where one is not there.

    Of several with a number it is the last; :class:`ValueError` as for :func:`fields`.
    """
    value: int | bytes | None = data
    for number in path:
        value = dict(fields(value)).get(number) if isinstance(value, bytes) else None
    return value


def replace(data: bytes, path: Sequence[int], value: int) -> bytes:
    """*data* with another number in the fields that *path* leads to; all else stays as it is."""
    parts = []
    for number, old in fields(data):
        new: int | bytes = old
        if number == path[0]:
            new = replace(old, path[1:], value) if isinstance(old, bytes) else value
        if isinstance(new, int):
            parts += [varint(number << 3 | _VARINT), varint(new)]
        else:
            parts += [varint(number << 3 | _BYTES), varint(len(new)), new]
    return b"".join(parts)


def varint(value: int) -> bytes:
    """A number that is not negative, seven bits a byte."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


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
