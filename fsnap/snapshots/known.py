"""The known set: which chunks the store has already, and where.

It holds chunks of retained committed snapshots, which a new snapshot may refer to, and
chunks whose put this process saw acknowledged.  It is a cache: forgetting costs a
second upload and nothing else, so it is bounded by two generations that take turns.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

from fsnap.snapshots.codec import ZERO
from fsnap.snapshots.index import Index
from fsnap.snapshots.pagedelta import MAX_DEPTH
from fsnap.snapshots.pageindex import PageIndex
from fsnap.snapshots.tables import NONE

MAX_CHUNKS = 1 << 20
"""Some 250 bytes each, so 256 MiB at most; with chunks of 128 KiB that is 128 GiB of content."""


class Location(NamedTuple):
    """Where a chunk's stored bytes lie."""

    pack_id: str
    pack_bytes: int
    offset: int
    stored_bytes: int
    raw_bytes: int
    codec: int
    committed: bool
    """Whether a committed snapshot has it; else this process put it and nothing refers to it yet."""
    parent: bytes | None = None
    """Digest of the chunk that this one is a delta of."""


class Stored(NamedTuple):
    """A chunk that the store has."""

    digest: bytes
    location: Location


class KnownChunks:
    """Digest to location.  Safe to use from several threads."""

    def __init__(
        self, *, max_chunks: int = MAX_CHUNKS, pages: PageIndex | None = None, key_id: str = ""
    ) -> None:
        self.key_id = key_id
        """Of the key that seals the chunks; empty where none does."""
        self.pages = pages
        """With it, a chunk that differs in few pages from a known one is stored as those pages."""
        self._half = max(1, max_chunks // 2)
        self._young: dict[bytes, Location] = {}
        self._old: dict[bytes, Location] = {}
        self._evicted: set[str] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        with self._lock:
            return len(self._young.keys() | self._old.keys())

    def lookup(self, digest: bytes) -> Location | None:
        """Where the chunk lies, if it is known."""
        chain = self.chain(digest)
        return chain[0].location if chain else None

    def chain(self, digest: bytes) -> tuple[Stored, ...]:
        """The chunk, its parent if it is a delta, and so on; nothing if one of them is not known."""
        found: list[Stored] = []
        wanted: bytes | None = digest
        with self._lock:
            while wanted is not None:
                location = self._find(wanted)
                if location is None or len(found) > MAX_DEPTH:
                    return ()
                found.append(Stored(wanted, location))
                wanted = location.parent
        return tuple(found)

    def add(self, digest: bytes, location: Location) -> None:
        """Note a chunk whose pack's put was acknowledged."""
        with self._lock:
            if location.pack_id not in self._evicted:
                self._keep(digest, location)

    def learn(self, index: Index) -> None:
        """Note the chunks of a committed snapshot that stays; one of another key has none to offer."""
        if index.key_id != self.key_id:
            return
        packs = index.pack_rows()
        ids: list[bytes] = [row.tobytes() for row in index.chunks["digest"]]
        names = ("pack", "offset", "stored_bytes", "raw_bytes", "codec", "parent")
        rows = zip(ids, *(index.chunks[name].tolist() for name in names), strict=True)
        with self._lock:
            for digest, pack, offset, stored, raw, codec, parent in rows:
                if codec != ZERO and packs[pack].id not in self._evicted:
                    place = (packs[pack].id, packs[pack].bytes, offset, stored, raw, codec, True)
                    self._keep(digest, Location(*place, None if parent == NONE else ids[parent]))

    def evict_pack(self, pack_id: str) -> None:
        """Forget a pack that is missing, damaged or about to be deleted, and never learn it again."""
        with self._lock:
            self._evicted.add(pack_id)
            self._young = {d: where for d, where in self._young.items() if where.pack_id != pack_id}
            self._old = {d: where for d, where in self._old.items() if where.pack_id != pack_id}

    def is_evicted(self, pack_id: str) -> bool:
        """Whether :meth:`evict_pack` named it."""
        with self._lock:
            return pack_id in self._evicted

    def readmit_pack(self, pack_id: str) -> None:
        """A pack of this very name was put anew: it may be known again."""
        with self._lock:
            self._evicted.discard(pack_id)

    def _find(self, digest: bytes) -> Location | None:
        location = self._young.get(digest)
        if location is None:
            location = self._old.pop(digest, None)
            if location is not None:
                self._keep(digest, location)
        return location

    def _keep(self, digest: bytes, location: Location) -> None:
        if len(self._young) >= self._half and digest not in self._young:
            self._old, self._young = self._young, {}
        self._young[digest] = location
