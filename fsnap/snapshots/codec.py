"""One chunk to stored bytes and back, verified.

A chunk is named by the BLAKE3-256 digest of its plain bytes.  Zeros take no bytes at
all; what zstd cannot shrink by three per cent is stored as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import zstandard
from blake3 import blake3

from fsnap.errors import CorruptData
from fsnap.snapshots import pagedelta

if TYPE_CHECKING:
    from fsnap.stores.base import Buffer

ZERO = 0
RAW = 1
ZSTD = 2
DELTA = 3
"""zstd of the pages that differ from the parent chunk's (:mod:`fsnap.snapshots.pagedelta`)."""
SEALED = 0x80
"""Bit: 12 bytes of nonce, then AES-256-GCM of what the other bits describe, then 16 bytes of tag."""
KINDS = SEALED - 1
"""The other bits: a codec masked with them is one of the numbers above."""

DIGEST_BYTES = 32
MAX_CHUNK_BYTES = 1 << 20
"""The format's limit; the cutters stay at half of it."""

_WORTH_IT = 0.97


def digest(data: Buffer, key: bytes | None = None) -> bytes:
    """BLAKE3-256 of *data*, keyed where there is a *key* of 32 bytes."""
    return (blake3(data) if key is None else blake3(data, key=key)).digest()


def hexdigest(data: Buffer) -> str:
    """BLAKE3-256 of *data* as 64 hex digits."""
    return blake3(data).hexdigest()


def is_zero(data: memoryview) -> bool:
    """Whether *data* is nothing but zeros."""
    if len(data) == 0 or data[0] or data[-1]:
        return len(data) == 0
    return not np.frombuffer(data, np.uint8).any()


class Encoder:
    """Compresses chunks; one per thread, since a zstd context is not shared."""

    def __init__(self) -> None:
        self._level = 0
        self._zstd = zstandard.ZstdCompressor(level=1, write_content_size=True)

    def use(self, level: int) -> Encoder:
        """Itself, with zstd's *level* from now on."""
        if level != self._level:
            self._level = level
            self._zstd = zstandard.ZstdCompressor(level=level, write_content_size=True)
        return self

    def encode(self, data: memoryview) -> tuple[int, bytes | memoryview]:
        """Codec and stored bytes of a chunk that is not zero."""
        packed = self._zstd.compress(data)
        if len(packed) < len(data) * _WORTH_IT:
            return ZSTD, packed
        return RAW, data

    def encode_delta(self, plain: bytearray) -> bytes:
        """Stored bytes of a delta's plain form."""
        return self._zstd.compress(plain)


class Decoder:
    """Turns stored bytes back into chunks; one per thread."""

    def __init__(self, hash_key: bytes | None = None) -> None:
        self._zstd = zstandard.ZstdDecompressor()
        self._hash_key = hash_key

    def decode(
        self,
        stored: memoryview,
        *,
        codec: int,
        raw_bytes: int,
        expected: bytes,
        where: str,
        parent: Buffer = b"",
    ) -> Buffer:
        """The chunk's plain bytes, whose digest is *expected*.

        *where* names the object, *parent* are the plain bytes of a delta's parent.  Allocates little more
        than *raw_bytes*, twice for a delta.  Raises :class:`CorruptData`.
        """
        if codec == ZSTD:
            plain: Buffer = self._inflate(stored, raw_bytes, where)
        elif codec == RAW:
            plain = stored
        elif codec == DELTA:
            plain = pagedelta.apply(self._inflate_delta(stored, raw_bytes, where), parent, raw_bytes, where)
        else:
            check_codec(codec, where)
            plain = bytes(raw_bytes)
        if len(plain) != raw_bytes or digest(plain, self._hash_key) != expected:
            raise CorruptData(f"{where} is damaged: chunk {expected.hex()[:16]} does not match its digest")
        return plain

    def _inflate(self, stored: memoryview, raw_bytes: int, where: str) -> bytes:
        return inflate(self._zstd, stored, raw_bytes, where)

    def _inflate_delta(self, stored: memoryview, raw_bytes: int, where: str) -> bytes:
        try:
            length = zstandard.frame_content_size(stored)
        except zstandard.ZstdError as error:
            raise CorruptData(f"{where} is damaged: {error}") from error
        if not 0 <= length <= pagedelta.plain_limit(raw_bytes):
            raise CorruptData(f"{where} is damaged: a delta's length does not match")
        return self._inflate(stored, length, where)


def inflate(context: zstandard.ZstdDecompressor, stored: Buffer, raw_bytes: int, where: str) -> bytes:
    """The *raw_bytes* that one zstd frame holds; :class:`CorruptData` when it holds anything else."""
    try:
        if zstandard.frame_content_size(stored) != raw_bytes:
            raise CorruptData(f"{where} is damaged: a compressed length does not match")
        return context.decompress(stored, max_output_size=raw_bytes, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise CorruptData(f"{where} is damaged: {error}") from error


def check_codec(codec: int, where: str, *, is_sealed: bool = False) -> None:
    """Refuse what can't be decoded; *is_sealed* says whether chunks must be, those of zeros never are."""
    if codec == SEALED or (codec != ZERO and bool(codec & SEALED) != is_sealed):
        raise CorruptData(
            f"{where} has chunks of codec {codec:#x}, and is {'' if is_sealed else 'not '}sealed"
        )
    if codec & KINDS > DELTA:
        raise CorruptData(f"{where} has chunks of an unknown codec {codec:#x}")
