"""Getting chunks back: few ranged reads per pack, and every digest checked before use.

A delta is decoded together with what it rests on: a range of whole chunks is read with all
deltas upon them that are wanted, or that wanted ones rest on.

Memory: one range of at most 16 MiB and one chunk per thread; with deltas another 16 MiB of
them, and as many chunks as rest on one another.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from fsnap.errors import CorruptData, ObjectMissing
from fsnap.snapshots import layout, objects
from fsnap.snapshots.codec import DELTA, KINDS, SEALED, ZERO, Decoder
from fsnap.snapshots.families import Families, stretches
from fsnap.snapshots.index import Index
from fsnap.snapshots.sealing import PackBox, PackBoxes, SnapshotSeal
from fsnap.snapshots.tables import NONE

if TYPE_CHECKING:
    from fsnap.stores.base import Buffer, Store

MAX_RANGE_BYTES = 16 << 20
MAX_GAP_BYTES = 256 << 10
"""A gap up to this is read along: cheaper than one more request at 50 MB/s and 5 ms."""
READS = 5
"""Of a damaged part, until the object counts as damaged: a bad path flips more than one in a row."""
Given = TypeVar("Given", bound="Buffer")
Used = TypeVar("Used")


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A stretch of one pack and the chunks in it."""

    pack_id: str
    start: int
    end: int
    chunks: tuple[int, ...]
    families: Families | None = None
    """The deltas upon its chunks, if there are any."""


class PackReader:
    """Reads chunks of one index.  Safe to use from several threads."""

    def __init__(self, *, store: Store, prefix: str, index: Index, seal: SnapshotSeal | None = None) -> None:
        self._store = store
        self._prefix = prefix
        self._index = index
        self._packs = index.pack_rows()
        self._hash_key = None if seal is None else seal.hash_key
        self._boxes = PackBoxes(seal)
        self._local = threading.local()
        self._headers: set[str] = set()
        """Packs whose header was checked."""

    def ranges(self, chunks: Iterable[int], *, max_bytes: int = MAX_RANGE_BYTES) -> Iterator[Range]:
        """The reads that bring *chunks*, pack after pack; those of zeros need none."""
        table = self._index.chunks
        numbers = np.array(sorted(set(chunks)), np.int64)
        numbers = numbers[table["codec"][numbers] != ZERO] if len(numbers) else numbers
        families = None
        if (table["codec"][numbers] & KINDS == DELTA).any():
            families = Families(table, numbers)
            numbers = families.bases
        order = np.lexsort((table["offset"][numbers], table["pack"][numbers]))
        packs = self._packs
        last_pack, start, end = -1, 0, 0
        run: list[int] = []

        def made() -> Range:
            return Range(
                pack_id=packs[last_pack].id,
                start=start,
                end=end,
                chunks=tuple(run),
                families=families,
            )

        for number in numbers[order].tolist():
            pack, offset = int(table["pack"][number]), int(table["offset"][number])
            stop = offset + int(table["stored_bytes"][number])
            apart = offset - end > MAX_GAP_BYTES or max(stop, end) - start > max_bytes
            if run and (pack != last_pack or apart):
                yield made()
                run = []
            if not run:
                is_near = (
                    pack != last_pack and offset <= MAX_GAP_BYTES and packs[pack].id not in self._headers
                )
                start = end = 0 if is_near else offset
            last_pack, end = pack, max(end, stop)
            run.append(number)
        if run:
            yield made()

    def read(self, part: Range) -> Iterator[tuple[int, Buffer]]:
        """Number and verified bytes of each chunk in *part*; :class:`CorruptData` names the pack."""
        key = layout.pack_key(self._prefix, part.pack_id)
        data = memoryview(self._get(key, part.start, part.end))
        if part.pack_id not in self._headers:
            header = data if part.start == 0 else self._get(key, 0, objects.HEADER_BYTES)
            self._learn_surely(part.pack_id, header)
        if part.families is not None:
            yield from self._read_families(part, part.families, data, key)
            return
        for number in part.chunks:
            yield number, self._decode_surely(number, data, part.start, key)

    def _read_families(
        self, part: Range, families: Families, data: memoryview, key: str
    ) -> Iterator[tuple[int, Buffer]]:
        """Parents before the deltas upon them; at any time the plain bytes of one line of them are held."""
        parents = self._index.chunks["parent"]
        order = families.order(part.chunks)
        line: list[tuple[int, Buffer]] = []
        fetched: dict[int, tuple[memoryview, int, str]] = {}
        for at, number in enumerate(order):
            parent = int(parents[number])
            while line and line[-1][0] != parent:
                line.pop()
            if parent == NONE:
                plain = self._decode_surely(number, data, part.start, key)
            else:
                if number not in fetched:
                    fetched = self._fetch_deltas(families.batch(order, at, MAX_RANGE_BYTES))
                plain = self._decode_surely(number, *fetched.pop(number), parent=line[-1][1])
            line.append((number, plain))
            if number in families.wanted:
                yield number, plain

    def _fetch_deltas(self, numbers: Iterable[int]) -> dict[int, tuple[memoryview, int, str]]:
        """Of each delta bytes that hold its own, where they begin in its pack, and the pack's key."""
        table, packs = self._index.chunks, self._packs
        fetched = {}
        for pack, start, end, run in stretches(table, numbers):
            key = layout.pack_key(self._prefix, packs[pack].id)
            if packs[pack].id not in self._headers:
                self._learn_surely(packs[pack].id, self._get(key, 0, objects.HEADER_BYTES))
            data = memoryview(self._get(key, start, end))
            fetched.update(dict.fromkeys(run, (data, start, key)))
        return fetched

    def learn_header(self, pack_id: str, header: Buffer) -> None:
        """Check the first bytes of a pack; :class:`CorruptData`, :class:`~fsnap.errors.NewerSchema`."""
        self._boxes.learn(pack_id, header, layout.pack_key(self._prefix, pack_id))
        self._headers.add(pack_id)

    def decode(self, number: int, data: memoryview, at: int, where: str, *, parent: Buffer = b"") -> Buffer:
        """The verified chunk *number* out of *data*, which begins at byte *at* of its pack."""
        row = self._index.chunks[number]
        offset = int(row["offset"]) - at
        decoder: Decoder | None = getattr(self._local, "decoder", None)
        if decoder is None:
            decoder = self._local.decoder = Decoder(self._hash_key)
        kind, expected = int(row["codec"]), row["digest"].tobytes()
        stored = data[offset : offset + int(row["stored_bytes"])]
        if kind & SEALED:
            stored = self._box(int(row["pack"])).open(stored, expected, where)
        return decoder.decode(
            stored,
            codec=kind & KINDS,
            raw_bytes=int(row["raw_bytes"]),
            expected=expected,
            where=where,
            parent=parent,
        )

    def _box(self, pack: int) -> PackBox:
        pack_id = self._packs[pack].id
        while (box := self._boxes.find(pack_id)) is None:
            key = layout.pack_key(self._prefix, pack_id)
            self._learn_surely(pack_id, self._get(key, 0, objects.HEADER_BYTES))
        return box

    def _learn_surely(self, pack_id: str, header: Buffer) -> None:
        key = layout.pack_key(self._prefix, pack_id)

        def read() -> Buffer:
            return self._get(key, 0, objects.HEADER_BYTES)

        _surely(header, read, lambda given: self.learn_header(pack_id, given))

    def _decode_surely(
        self, number: int, data: memoryview, at: int, where: str, *, parent: Buffer = b""
    ) -> Buffer:
        row = self._index.chunks[number]
        start = int(row["offset"])
        end = start + int(row["stored_bytes"])

        def read() -> memoryview:
            return memoryview(self._get(where, start, end))

        return _surely(
            data[start - at : end - at],
            read,
            lambda given: self.decode(number, given, start, where, parent=parent),
        )

    def _get(self, key: str, start: int, end: int) -> bytes:
        try:
            return self._store.get(key, start=start, length=end - start)
        except ObjectMissing as error:
            raise CorruptData(f"{key} is missing") from error


def _surely(given: Given, read: Callable[[], Given], use: Callable[[Given], Used]) -> Used:
    """What *use* makes of *given*, or of what *read* brings if that is damaged.

    A part of an object comes without a check sum, so it may have changed on its way: before it counts as
    damaged, which gives up a snapshot and the work in it, it is read ``READS`` times.
    """
    for _ in range(READS - 1):
        try:
            return use(given)
        except CorruptData:
            given = read()
    return use(given)


def for_each(parts: Iterable[Range], act: Callable[[Range], None], *, threads: int) -> None:
    """Run *act* on every part, several at a time; the first failure stops the rest and is raised."""
    stopped = threading.Event()

    def guarded(part: Range) -> None:
        if not stopped.is_set():
            act(part)

    with ThreadPoolExecutor(threads, thread_name_prefix="fsnap-fetch") as pool:
        futures = [pool.submit(guarded, part) for part in parts]
        wait(futures, return_when=FIRST_EXCEPTION)
        stopped.set()
        for future in futures:
            future.result()
