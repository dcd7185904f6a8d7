"""Packs: objects of many chunks.

A pack is a header and its chunks' stored bytes, end to end; the index says where each
lies.  A pack is named by the BLAKE3 digest of all its bytes: a repeated put of the same
pack is harmless, two writers never collide, and a whole pack can be checked by its name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsnap.snapshots import codec, objects

if TYPE_CHECKING:
    from fsnap.stores.base import Buffer

TARGET_BYTES = 16 << 20
"""A pack is closed when it has grown to this; the last chunk may carry it past by less than 1 MiB."""
ROOM_BYTES = TARGET_BYTES + codec.MAX_CHUNK_BYTES
"""What a pack takes in memory, once it is full."""


class PackBuilder:
    """A pack that still grows.  Not thread safe."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.chunks: list[int] = []
        # Made in one piece: a buffer that grows is copied, and takes more than it holds.
        self._data = memoryview(bytearray(ROOM_BYTES))
        self._used = 0
        self._add(objects.encode_header(objects.PACK_MAGIC))

    @property
    def is_full(self) -> bool:
        """Whether it has reached its target."""
        return self._used >= TARGET_BYTES

    def append(self, chunk: int, stored: Buffer) -> int:
        """Add the stored bytes of the chunk numbered *chunk*; their offset."""
        offset = self._used
        self._add(stored)
        self.chunks.append(chunk)
        return offset

    def finish(self) -> tuple[str, memoryview]:
        """The pack's id and its bytes."""
        data = self._data[: self._used]
        return codec.hexdigest(data), data

    def _add(self, data: Buffer) -> None:
        self._data[self._used : self._used + len(data)] = data
        self._used += len(data)
