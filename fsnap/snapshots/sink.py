"""The chunk sink: hash, known?, compress, pack, put, all overlapped.

The feeding thread hands in buffers with the places where they are cut.  A pool of
threads hashes and compresses; another puts finished packs.  Hashing, zstd and I/O
release the interpreter lock.

Memory: ``2 * threads + 1`` buffers of 4 MiB, ``connections + 1`` packs on their way, one
that grows or waits per thread (17 MiB each at most; a stored pack's memory serves the next
one), and some 300 bytes per distinct chunk.  With two threads and four connections that is
at most 140 MiB, whatever the size of the tree, plus 2.4 MiB per GiB of content; with one of
each, as where a container has little left (:mod:`fsnap.snapshots.headroom`), 63 MiB.  What a
store's adapter copies is its own.  The packs that a capture which was called off has on their
way are there until their puts end, beside the next one's.
"""

from __future__ import annotations

import queue
import threading
import time
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

import numpy as np

from fsnap.snapshots import codec, deltas, layout
from fsnap.snapshots.cut import spans
from fsnap.snapshots.errors import CaptureFailed
from fsnap.snapshots.known import KnownChunks, Location, Stored
from fsnap.snapshots.pace import Pace
from fsnap.snapshots.packs import PackBuilder
from fsnap.snapshots.rooms import Room, new_room
from fsnap.snapshots.tables import CHUNK, NONE, PACK, REF, Table

if TYPE_CHECKING:
    from fsnap.snapshots.sealing import SnapshotSeal
    from fsnap.stores.base import Store

BUFFER_BYTES = 4 << 20
_COLUMNS = {
    "raw": "raw_bytes",
    "stored": "stored_bytes",
    "pack": "pack",
    "offset": "offset",
    "codec": "codec",
    "parent": "parent",
}
_POLL_S = 0.2
"""How often a feeder that waits for a buffer looks whether the capture failed or was aborted."""


class ChunkSink:
    """Takes cut buffers, keeps a table of chunks, and sees to it that the store has each of them.

    ``take_buffer``, ``submit``, ``refer`` and ``flush`` are for one feeding thread.  An error of a
    background thread is raised by the next of these calls.  They call *step* every few MiB, and while
    they wait; what it raises is theirs, too.
    """

    def __init__(
        self,
        *,
        store: Store,
        prefix: str,
        known: KnownChunks,
        threads: int,
        pace: Pace,
        connections: int,
        seal: SnapshotSeal | None = None,
        learn_pages: bool = True,
        step: Callable[[], None] = lambda: None,
    ) -> None:
        self._step = step
        self._store = store
        self._prefix = prefix
        self._known = known
        self._pace = pace
        self._connections = connections
        self._on_their_way = 0
        self._learn_pages = learn_pages
        self._seal = seal
        self._hash_key = None if seal is None else seal.hash_key
        self._lock = threading.Lock()
        self._local = threading.local()
        self._numbers: dict[bytes, int] = {}
        self._digests: list[bytes] = []
        self._rows = {name: array("q") for name in _COLUMNS}
        self._refs = array("q")
        self._pack_ids: list[str | None] = []
        self._pack_sizes: list[int] = []
        self._pack_numbers: dict[str, int] = {}
        self._zero_digests: dict[int, bytes] = {}
        self._open: PackBuilder | None = None
        self._rooms: list[Room] = []
        """Of packs that are stored."""
        self._stopped = False
        self._work: deque[Future[None]] = deque()
        self._puts: deque[Future[None]] = deque()
        self._workers = ThreadPoolExecutor(threads, thread_name_prefix="fsnap-chunk")
        self._putters = ThreadPoolExecutor(connections, thread_name_prefix="fsnap-put")
        self._put_slots = threading.Semaphore(connections + 1)
        self._buffers: queue.SimpleQueue[Room | None] = queue.SimpleQueue()
        for _ in range(2 * threads + 1):
            self._buffers.put(None)
        self.done_bytes = 0
        """Content hashed so far."""
        self.new_bytes = 0
        """Of it, before compression, what no committed snapshot had."""
        self.put_bytes = 0
        """Packs whose put was acknowledged."""
        self.fresh_bytes = 0
        """Content that was in no pack before."""
        self.busy_s = 0.0
        """Processor time of the threads, but for what is under way."""

    def take_buffer(self) -> Room:
        """An empty buffer of ``BUFFER_BYTES``; waits until one is free."""
        while True:
            self._raise_failures()
            try:
                return self._buffers.get(timeout=_POLL_S) or new_room(BUFFER_BYTES)
            except queue.Empty:
                continue

    def give_back(self, buffer: Room) -> None:
        """Return a buffer that was taken and not submitted."""
        self._buffers.put(buffer)

    def submit(self, buffer: Room, ends: Sequence[int]) -> None:
        """Add the chunks of *buffer* that end at *ends* to the stream; the buffer is the sink's then."""
        self._raise_failures()
        first = len(self._refs)
        self._refs.extend([-1] * len(ends))
        try:
            self._work.append(self._workers.submit(self._process, buffer, spans(ends), first))
        except RuntimeError:
            raise CaptureFailed("the capture was aborted") from None

    def refer(self, digest: bytes, chain: tuple[Stored, ...], raw_bytes: int) -> None:
        """Add a chunk to the stream that the store has already; *chain*: it and its parents, if not zeros."""
        with self._lock:
            number = self._numbers.get(digest)
            if number is None:
                number = self._add_row(digest, raw_bytes, chain)
            self.done_bytes += raw_bytes
        self._refs.append(number)

    def settle(self) -> None:
        """Wait until everything handed in is hashed and in a pack."""
        while self._work:
            self._work.popleft().result()

    def flush(self) -> None:
        """Wait until every chunk handed in is in the store; raises what went wrong."""
        self._await(self._work)
        with self._lock:
            last, self._open = self._open, None
        if last is not None:
            self._send(last)
        self._await(self._puts)

    def _await(self, futures: deque[Future[None]]) -> None:
        while futures:
            self._step()
            if wait([futures[0]], timeout=_POLL_S).done:
                futures.popleft().result()

    def stop(self, *, wait: bool = True) -> None:
        """Begin no further put.

        With *wait* it returns when no thread runs any longer.  Without, packs that are on their way may
        still come to the store, and are known then: nothing refers to them, and the next capture may.
        """
        self._stopped = True
        self._workers.shutdown(wait=wait, cancel_futures=True)
        self._putters.shutdown(wait=wait, cancel_futures=True)

    def tables(self) -> tuple[Table, Table, Table]:
        """Packs, chunks and refs for the index, after :meth:`flush`."""
        packs = np.zeros(len(self._pack_ids), PACK)
        for number, (pack_id, size) in enumerate(zip(self._pack_ids, self._pack_sizes, strict=True)):
            assert pack_id is not None, "flush() names every pack"
            packs[number] = (bytes.fromhex(pack_id), size)
        chunks = np.zeros(len(self._digests), CHUNK)
        chunks["digest"] = np.array(self._digests, "V32")
        for ours, values in self._rows.items():
            chunks[_COLUMNS[ours]] = np.array(values, np.int64)
        return packs, chunks, np.array(self._refs, np.int64).astype(REF)

    def _process(self, buffer: Room, pieces: list[tuple[int, int]], first: int) -> None:
        view = memoryview(buffer)
        began_s = time.thread_time()
        try:
            for number, (start, end) in enumerate(pieces):
                if self._stopped:
                    return
                self._refs[first + number] = self._chunk(view[start:end])
        finally:
            self._buffers.put(buffer)
            self._spent(began_s)

    def _spent(self, began_s: float) -> None:
        with self._lock:
            self.busy_s += time.thread_time() - began_s

    def _chunk(self, data: memoryview) -> int:
        """The number of the chunk *data*, stored if it must be."""
        zero = codec.is_zero(data)
        digest = self._zero_digest(data) if zero else codec.digest(data, self._hash_key)
        chain = () if zero else self._known.chain(digest)
        with self._lock:
            self.done_bytes += len(data)
            number = self._numbers.get(digest)
            if number is not None:
                return number
            number = self._add_row(digest, len(data), chain)
            if not zero and not (chain and chain[0].location.committed):
                self.new_bytes += len(data)
            if not zero and not chain:
                self.fresh_bytes += len(data)
        if chain and self._learn_pages:
            deltas.notice(digest, data, self._known)
        elif not chain and not zero:
            learn = self._learn_pages
            self._pack(number, deltas.encode(digest, data, self._encoder(), self._known, learn=learn))
        return number

    def _zero_digest(self, data: memoryview) -> bytes:
        found = self._zero_digests.get(len(data))
        if found is None:
            found = self._zero_digests[len(data)] = codec.digest(data, self._hash_key)
        return found

    def _add_row(self, digest: bytes, raw_bytes: int, chain: tuple[Stored, ...]) -> int:
        known = chain[0].location if chain else None
        parent = self._number_of(chain[1:])
        number = len(self._digests)
        self._numbers[digest] = number
        self._digests.append(digest)
        pack = NONE if known is None else self._pack_number(known.pack_id, known.pack_bytes)
        values = (known.stored_bytes, known.offset, known.codec) if known is not None else (0, 0, codec.ZERO)
        for name, value in zip(("stored", "offset", "codec"), values, strict=True):
            self._rows[name].append(value)
        self._rows["raw"].append(raw_bytes)
        self._rows["pack"].append(pack)
        self._rows["parent"].append(parent)
        return number

    def _number_of(self, chain: tuple[Stored, ...]) -> int:
        """The row of a chunk that the store has, for a delta to name as its parent; ``NONE`` of none."""
        if not chain:
            return NONE
        digest, location = chain[0]
        number = self._numbers.get(digest)
        return self._add_row(digest, location.raw_bytes, chain) if number is None else number

    def _pack_number(self, pack_id: str, size: int) -> int:
        number = self._pack_numbers.get(pack_id)
        if number is None:
            number = self._pack_numbers[pack_id] = len(self._pack_ids)
            self._pack_ids.append(pack_id)
            self._pack_sizes.append(size)
        return number

    def _encoder(self) -> codec.Encoder:
        encoder: codec.Encoder | None = getattr(self._local, "encoder", None)
        if encoder is None:
            encoder = self._local.encoder = codec.Encoder()
        return encoder.use(self._pace.level)

    def _pack(self, chunk: int, encoded: deltas.Encoded) -> None:
        full = None
        with self._lock:
            if self._open is None:
                box = None if self._seal is None else self._seal.new_pack()
                # New memory costs more than what is copied into it.
                room = self._rooms.pop() if self._rooms else None
                self._open = PackBuilder(len(self._pack_ids), box, room)
                self._pack_ids.append(None)
                self._pack_sizes.append(0)
            offset, length, kind = self._open.append(
                chunk, encoded.codec, encoded.stored, self._digests[chunk]
            )
            self._rows["pack"][chunk] = self._open.number
            self._rows["offset"][chunk] = offset
            self._rows["stored"][chunk] = length
            self._rows["codec"][chunk] = kind
            self._rows["parent"][chunk] = self._number_of(encoded.parents)
            if self._open.is_full:
                full, self._open = self._open, None
        if full is not None:
            self._send(full)

    def _send(self, pack: PackBuilder) -> None:
        """Queue the pack for its put; waits while too many are on their way."""
        with self._lock:
            self._pace.pack_is_full(on_their_way=self._on_their_way, connections=self._connections)
            self._on_their_way += 1
        self._put_slots.acquire()
        try:
            self._puts.append(self._putters.submit(self._put, pack))
        except RuntimeError:
            self._put_slots.release()
            raise CaptureFailed("the capture was aborted") from None

    def _put(self, pack: PackBuilder) -> None:
        began_s = time.thread_time()
        try:
            pack_id, data = pack.finish()
            if self._stopped:
                return
            self._store.put(layout.pack_key(self._prefix, pack_id), data)
            self._acknowledge(pack, pack_id, len(data))
        finally:
            with self._lock:
                self._on_their_way -= 1
                self._rooms.append(pack.room)
            self._put_slots.release()
            self._spent(began_s)

    def _acknowledge(self, pack: PackBuilder, pack_id: str, size: int) -> None:
        self._known.readmit_pack(pack_id)
        with self._lock:
            self._pack_ids[pack.number] = pack_id
            self._pack_sizes[pack.number] = size
            self._pack_numbers[pack_id] = pack.number
            self.put_bytes += size
            learned = [(self._digests[n], self._location(n, pack_id, size)) for n in pack.chunks]
        for digest, location in learned:
            self._known.add(digest, location)

    def _location(self, chunk: int, pack_id: str, size: int) -> Location:
        rows = self._rows
        parent = rows["parent"][chunk]
        return Location(
            pack_id=pack_id,
            pack_bytes=size,
            offset=rows["offset"][chunk],
            stored_bytes=rows["stored"][chunk],
            raw_bytes=rows["raw"][chunk],
            codec=rows["codec"][chunk],
            committed=False,
            parent=None if parent == NONE else self._digests[parent],
        )

    def _raise_failures(self) -> None:
        self._step()
        if self._stopped:
            raise CaptureFailed("the capture was aborted")
        for futures in (self._work, self._puts):
            while futures and futures[0].done():
                futures.popleft().result()
