"""The 64 bytes that packs and indexes begin with.

They say what the object is, in which schema, and of a sealed one the key's id and the salt
that its own key is derived with; zeros otherwise.  A check sum of their own tells a damaged
header from one that a newer fsnap wrote.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fsnap.errors import CorruptData, NewerSchema

if TYPE_CHECKING:
    from fsnap.stores.base import Buffer

HEADER_BYTES = 64
PACK_MAGIC = b"fsnpPACK"
INDEX_MAGIC = b"fsnpINDX"
SCHEMA = 1
FLAG_SEALED = 0x01
"""The object is sealed with AES-256-GCM under the key that ``key_id`` names."""

_HEADER = struct.Struct("<8sHBB4xQ16s20sI")
_NO_KEY = bytes(16)
_NO_SALT = bytes(20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a header says beyond magic and schema."""

    codec: int
    raw_bytes: int
    key_id: str = ""
    """Empty where the object is not sealed."""
    salt: bytes = b""


def encode_header(
    magic: bytes, *, codec: int = 0, raw_bytes: int = 0, key_id: str = "", salt: bytes = b""
) -> bytes:
    """The header of a new object; sealed where *key_id* is not empty."""
    flags = FLAG_SEALED if key_id else 0
    head = _HEADER.pack(magic, SCHEMA, flags, codec, raw_bytes, key_id.encode("ascii"), salt, 0)[:-4]
    return head + struct.pack("<I", zlib.crc32(head))


def decode_header(data: Buffer, magic: bytes, *, where: str) -> Header:
    """Check and read the first 64 bytes of the object named *where*.

    Raises :class:`CorruptData` for damage, :class:`NewerSchema` for an intact header of a newer fsnap.
    """
    if len(data) < HEADER_BYTES:
        raise CorruptData(f"{where} has {len(data)} bytes, less than its header")
    found, schema, flags, codec, raw_bytes, key_id, salt, check = _HEADER.unpack_from(data)
    if found != magic or zlib.crc32(data[: HEADER_BYTES - 4]) != check:
        raise CorruptData(f"{where} has a damaged header")
    is_sealed = flags == FLAG_SEALED
    if schema > SCHEMA or flags > FLAG_SEALED or (not is_sealed and (key_id, salt) != (_NO_KEY, _NO_SALT)):
        raise NewerSchema(f"{where} has schema {schema}, flags {flags}; this fsnap reads {SCHEMA}, 0 and 1")
    name = key_id.rstrip(b"\0")
    if schema != SCHEMA or any(data[12:16]) or (is_sealed and not (name and name.isascii())):
        raise CorruptData(f"{where} has a damaged header")
    if not is_sealed:
        return Header(codec=codec, raw_bytes=raw_bytes)
    return Header(codec=codec, raw_bytes=raw_bytes, key_id=name.decode("ascii"), salt=salt)
