"""Which stored chunk has most of the pages of a new one: how a delta finds its parent.

Of each chunk the fingerprints of its pages are kept, 16 bytes a page: XXH3-128 with a
seed of the process's own.  Equal fingerprints are taken for equal pages, since the
parent's bytes are not at hand.  Among 2**40 different pages (4 PiB) two agree with a
probability of 2**-49; content can't be made to collide by who does not know the seed; and
a collision is found, not restored, since a chunk's digest is that of its whole content.

Memory: some 1.2 KiB per chunk of 128 KiB, ``MAX_CHUNKS`` of them, so 80 MiB at most.
"""

from __future__ import annotations

import secrets
import threading
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash

from fsnap.snapshots.pagedelta import PAGE_BYTES, Flags

MAX_CHUNKS = 1 << 16
"""With chunks of 128 KiB that is 8 GiB of memory; of more, what was met last is kept."""

ANCHORS = 4
"""A chunk is found by so many of its pages: those with the smallest fingerprints, which a chunk that
shares most pages has too, wherever its boundaries are."""
_CANDIDATES = 3

Prints = npt.NDArray[np.uint64]
"""One row of two words per whole page."""


class Match(NamedTuple):
    """A chunk that has most of the pages looked for."""

    digest: bytes
    shift: int
    same: Flags
    """Per page, whether the other chunk has it, *shift* pages further on."""


class PageIndex:
    """Fingerprints by chunk, and chunks by anchor.  Safe to use from several threads."""

    def __init__(self, *, max_chunks: int = MAX_CHUNKS) -> None:
        self._seed = secrets.randbits(64)
        self._half = max(1, max_chunks // 2)
        self._young: dict[bytes, bytes] = {}
        self._old: dict[bytes, bytes] = {}
        self._by_anchor: dict[int, bytes] = {}
        self._old_by_anchor: dict[int, bytes] = {}
        self._zero = int(self.prints(memoryview(bytes(PAGE_BYTES)))[0, 0])
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        return bool(self._young)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._young or digest in self._old

    def prints(self, data: memoryview) -> Prints:
        """Fingerprints of the whole pages of *data*."""
        one, seed = xxhash.xxh3_128_digest, self._seed
        last = len(data) - PAGE_BYTES
        pages = b"".join([one(data[at : at + PAGE_BYTES], seed) for at in range(0, last + 1, PAGE_BYTES)])
        return np.frombuffer(pages, np.uint64).reshape(-1, 2)

    def learn(self, digest: bytes, prints: Prints) -> None:
        """Keep the fingerprints of the chunk *digest*."""
        anchors = self._anchors(prints)
        with self._lock:
            if len(self._young) >= self._half:
                self._old, self._young = self._young, {}
                self._old_by_anchor, self._by_anchor = self._by_anchor, {}
            self._young[digest] = prints.tobytes()
            for anchor in anchors:
                self._by_anchor[anchor] = digest

    def find(self, prints: Prints) -> Match | None:
        """The chunk with most of these pages in one stretch, if it has half of them."""
        best: Match | None = None
        for digest, anchor in self._candidates(prints):
            match = self._compare(digest, anchor, prints)
            if match is not None and (best is None or match.same.sum() > best.same.sum()):
                best = match
        return best if best is not None and 2 * int(best.same.sum()) >= len(prints) else None

    def _anchors(self, prints: Prints) -> list[int]:
        words = sorted(set(prints[:, 0].tolist()))[: ANCHORS + 1]
        return [word for word in words if word != self._zero][:ANCHORS]

    def _candidates(self, prints: Prints) -> list[tuple[bytes, int]]:
        """Up to three chunks, and for each a page that it shares."""
        found: dict[bytes, int] = {}
        with self._lock:
            # Of a chunk that was split or joined only some anchors are among the first few here.
            for anchor in sorted(set(prints[:, 0].tolist())):
                digest = self._by_anchor.get(anchor) or self._old_by_anchor.get(anchor)
                if digest is not None and anchor != self._zero:
                    found.setdefault(digest, anchor)
                    if len(found) == _CANDIDATES:
                        break
        return list(found.items())

    def _compare(self, digest: bytes, anchor: int, prints: Prints) -> Match | None:
        with self._lock:
            known = self._young.get(digest) or self._old.get(digest)
        if known is None:
            return None
        theirs = np.frombuffer(known, np.uint64).reshape(-1, 2)
        places = np.flatnonzero(theirs[:, 0] == anchor)
        if len(places) == 0:
            return None
        shift = int(places[0]) - int(np.flatnonzero(prints[:, 0] == anchor)[0])
        same = np.zeros(len(prints), np.bool_)
        first, last = max(0, -shift), min(len(prints), len(theirs) - shift)
        same[first:last] = (prints[first:last] == theirs[first + shift : last + shift]).all(axis=1)
        return Match(digest, shift, same)
