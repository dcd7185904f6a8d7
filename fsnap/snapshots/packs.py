"""Packs: objects of many chunks.

A pack is a header, a random mark and its chunks' stored bytes, end to end; the index says
where each lies.  A pack is named by the BLAKE3 digest of all its bytes: a repeated put of
the same pack is harmless, and a whole pack can be checked by its name, sealed or not.  By
the mark no name is ever given twice: a delete of a pack that nothing needs, however late it
arrives, meets no pack that somebody has put since.  Chunks are sealed when the pack is
finished, each in its place.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fsnap.sealing import NONCE_BYTES, OVERHEAD_BYTES
from fsnap.snapshots import codec, objects
from fsnap.snapshots.rooms import Room, new_room

if TYPE_CHECKING:
    from fsnap.snapshots.sealing import PackBox
    from fsnap.stores.base import Buffer

TARGET_BYTES = 16 << 20
"""A pack is closed when it has grown to this; the last chunk may carry it past by less than 1 MiB."""
MARK_BYTES = 16
ROOM_BYTES = TARGET_BYTES + codec.MAX_CHUNK_BYTES + OVERHEAD_BYTES
"""What a pack takes in memory, once it is full."""


class PackBuilder:
    """A pack that still grows.  Not thread safe."""

    def __init__(self, number: int, box: PackBox | None = None, room: Room | None = None) -> None:
        """*room* of ``ROOM_BYTES`` is the pack's until its bytes are stored; it may have held another."""
        # Made in one piece: a buffer that grows is copied, and takes more than it holds.
        self.room = new_room(ROOM_BYTES) if room is None else room
        self.number = number
        self.chunks: list[int] = []
        self._box = box
        self._unsealed: list[tuple[int, int, bytes]] = []
        self._data = memoryview(self.room)
        self._used = 0
        self._add(objects.encode_header(objects.PACK_MAGIC) if box is None else box.header)
        self._add(os.urandom(MARK_BYTES))

    @property
    def is_full(self) -> bool:
        """Whether it has reached its target."""
        return self._used >= TARGET_BYTES

    def append(self, chunk: int, kind: int, stored: Buffer, digest: bytes) -> tuple[int, int, int]:
        """Add the chunk numbered *chunk*, *stored* with the codec *kind*.

        Its offset, stored length and codec, as the index has them.
        """
        self.chunks.append(chunk)
        offset = self._used
        if self._box is None:
            self._add(stored)
            return offset, len(stored), kind
        self._unsealed.append((offset, len(stored), digest))
        self._used += NONCE_BYTES
        self._add(stored)
        self._used = offset + len(stored) + OVERHEAD_BYTES
        return offset, len(stored) + OVERHEAD_BYTES, kind | codec.SEALED

    def finish(self) -> tuple[str, memoryview]:
        """The pack's id and its bytes; nothing can be added then."""
        for offset, length, digest in self._unsealed:
            assert self._box is not None
            start = offset + NONCE_BYTES
            sealed = self._box.seal(self._data[start : start + length], digest)
            self._data[offset : offset + len(sealed)] = sealed
        self._unsealed.clear()
        data = self._data[: self._used]
        return codec.hexdigest(data), data

    def _add(self, data: Buffer) -> None:
        self._data[self._used : self._used + len(data)] = data
        self._used += len(data)
