"""Files of a snapshot read in their own order, ahead of whoever takes them, with bounded memory.

A file is read in blocks.  The chunks of a block are fetched and verified by a pool of
threads, a few blocks ahead; the taker gets the block's pieces in order, once all of them
are sound.  Every feed may hold one block; what is read ahead of it needs a permit, and
all feeds share the permits.

Memory: ``AHEAD_BYTES`` of content ahead, and the blocks that are being taken, which come to
``AHEAD_BYTES`` at most, for a single file to 32 MiB; while a block is on its way, what is
stored of it, too, where that is compressed.  Measured with one file: 140 MiB.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from fsnap.snapshots.codec import ZERO
from fsnap.snapshots.index import Index
from fsnap.snapshots.packread import PackReader, Range
from fsnap.snapshots.tables import EntryRow

if TYPE_CHECKING:
    from fsnap.stores.base import Buffer

AHEAD_BYTES = 96 << 20
MAX_BLOCK_BYTES = 32 << 20
MIN_BLOCK_BYTES = 1 << 20
RANGE_BYTES = 8 << 20
"""Of one read: enough to make a request's own cost small, and few enough that many run at once."""

_ZEROS = memoryview(bytes(MIN_BLOCK_BYTES))


@dataclass(frozen=True, slots=True)
class _Piece:
    """*length* bytes from *inside* of a chunk on; of no chunk: zeros."""

    chunk: int | None
    inside: int
    length: int


@dataclass(slots=True)
class _Block:
    """A block on its way."""

    pieces: list[_Piece]
    parts: list[Future[list[tuple[int, Buffer]]]]
    permitted: bool


class OrderedReader:
    """The feeds of one snapshot, and the threads that they share.  As a context manager it ends them."""

    def __init__(self, *, index: Index, reader: PackReader, files: int, threads: int) -> None:
        """*files*: how many feeds there may be at once."""
        self._index = index
        self._is_zero = index.chunks["codec"] == ZERO
        self._reader = reader
        self.block_bytes = max(MIN_BLOCK_BYTES, min(MAX_BLOCK_BYTES, AHEAD_BYTES // max(1, files)))
        self._permits = threading.Semaphore(AHEAD_BYTES // self.block_bytes)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="fsnap-fetch")
        self._stopped = threading.Event()

    def __enter__(self) -> OrderedReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._pool.shutdown(cancel_futures=True)

    def feed(self, entry: EntryRow) -> Feed:
        """A feed of the file *entry*; nothing is read before it is asked to."""
        return Feed(self, _pieces(self._index, entry))

    def begin(self, pieces: list[_Piece], *, wait: bool) -> _Block | None:
        """Have *pieces* fetched; without a permit only if somebody waits for them, else ``None``."""
        permitted = self._permits.acquire(blocking=False)
        if not permitted and not wait:
            return None
        chunks = {piece.chunk for piece in pieces if piece.chunk is not None}
        parts = self._reader.ranges(chunks, max_bytes=RANGE_BYTES)
        try:
            futures = [self._pool.submit(self._read, part) for part in parts]
        except RuntimeError:  # the pool has ended
            raise CancelledError from None
        return _Block(pieces=pieces, parts=futures, permitted=permitted)

    def _read(self, part: Range) -> list[tuple[int, Buffer]]:
        if self._stopped.is_set():
            raise CancelledError
        return list(self._reader.read(part))

    def content(self, block: _Block) -> Iterator[memoryview]:
        """The block's bytes in order; :class:`~fsnap.errors.CorruptData` before the first of them."""
        found = dict(row for part in block.parts for row in part.result())
        for piece in block.pieces:
            if piece.chunk is not None and not self._is_zero[piece.chunk]:
                yield memoryview(found[piece.chunk])[piece.inside : piece.inside + piece.length]
                continue
            left = piece.length
            while left:
                yield _ZEROS[: min(left, len(_ZEROS))]
                left -= min(left, len(_ZEROS))

    def give_back(self, block: _Block) -> None:
        """Nobody needs *block* any longer."""
        for part in block.parts:
            part.cancel()
        if block.permitted:
            self._permits.release()


class Feed:
    """One file, block after block.  For one thread at a time."""

    def __init__(self, owner: OrderedReader, pieces: Iterator[_Piece]) -> None:
        self._owner = owner
        self._blocks = _blocks(pieces, owner.block_bytes)
        self._next = next(self._blocks, None)
        self._ahead: deque[_Block] = deque()

    def read_ahead(self) -> None:
        """Begin with as many blocks as there are permits for."""
        while self._next is not None:
            block = self._owner.begin(self._next, wait=not self._ahead)
            if block is None:
                return
            self._ahead.append(block)
            self._next = next(self._blocks, None)

    def content(self) -> Iterator[memoryview]:
        """The file's bytes from its beginning to its end, every one verified."""
        try:
            while True:
                self.read_ahead()
                if not self._ahead:
                    return
                yield from self._owner.content(self._ahead[0])
                self._owner.give_back(self._ahead.popleft())
        finally:
            while self._ahead:
                self._owner.give_back(self._ahead.popleft())


def _pieces(index: Index, entry: EntryRow) -> Iterator[_Piece]:
    at = 0
    for file_at, length, stream_at in index.entry_extents(entry):
        if file_at > at:
            yield _Piece(None, 0, file_at - at)
        for chunk, inside, take in index.pieces(stream_at, length):
            yield _Piece(chunk, inside, take)
        at = file_at + length
    if entry.size > at:
        yield _Piece(None, 0, entry.size - at)


def _blocks(pieces: Iterator[_Piece], block_bytes: int) -> Iterator[list[_Piece]]:
    block: list[_Piece] = []
    held_bytes = 0
    for piece in pieces:
        block.append(piece)
        held_bytes += 0 if piece.chunk is None else piece.length
        if held_bytes >= block_bytes:
            yield block
            block, held_bytes = [], 0
    if block:
        yield block
