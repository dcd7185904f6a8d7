"""Where a stream is cut into chunks: at places that its content chooses.

A boundary depends only on the bytes shortly before it and on the boundary before
that, so the same content gives the same chunks again a little after any insertion.
Both cutters give the same boundaries however the stream is split into buffers.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

import numpy as np
import numpy.typing as npt

PAGE_BYTES = 4096
MIN_PAGES = 8
MAX_PAGES = 128
MIN_CHUNK_BYTES = MIN_PAGES * PAGE_BYTES
MAX_CHUNK_BYTES = MAX_PAGES * PAGE_BYTES

U64 = npt.NDArray[np.uint64]
U32 = npt.NDArray[np.uint32]
U8 = npt.NDArray[np.uint8]
Places = npt.NDArray[np.int64]


class Cutter(Protocol):
    """A rule for boundaries."""

    def ends(self, data: memoryview, *, final: bool) -> list[int]:
        """Where the chunks of *data* end, ascending; *data* begins at a boundary.

        Without *final* more bytes follow, and what comes after the last end is to be handed in again
        with them; with *final* the last end is ``len(data)``.  Chunks are at most ``MAX_CHUNK_BYTES``
        long, so a buffer of that size always yields one.
        """
        ...


class PageCutter:
    """Cuts a stream of 4 KiB memory pages, at pages only: 8 to 128 of them, about 32 on average.

    A page ends a chunk when a mix of eight of its words falls into 1/25 of the range (with the
    minimum of 8 that makes 32 pages on average); so does the last page of eight or more zero
    pages in a row, as far as the sampled words tell, so that what follows a run of zeros does not
    depend on the run's length.  A tail shorter than a page belongs to the last chunk.
    """

    _WORDS = np.array([0, 71, 137, 203, 274, 347, 409, 479])
    _FACTORS = np.array(
        [
            0x9E3779B97F4A7C15,
            0xC2B2AE3D27D4EB4F,
            0x165667B19E3779F9,
            0xD6E8FEB86659FD93,
            0xA0761D6478BD642F,
            0xE7037ED1A0B428DB,
            0x8EBC6AF09C88C6E3,
            0x589965CC75374CC3,
        ],
        dtype=np.uint64,
    )
    _ABOVE = np.uint64((1 << 64) - (1 << 64) // 25)
    """Zeros mix to 0, so the comparison is with the top of the range: zeros never end a chunk."""

    def ends(self, data: memoryview, *, final: bool) -> list[int]:
        pages = len(data) // PAGE_BYTES
        words: U64 = np.frombuffer(data, np.uint64, pages * (PAGE_BYTES // 8)).reshape(pages, PAGE_BYTES // 8)
        mixed = _mix(words[:, self._WORDS], self._FACTORS)
        marks = mixed > self._ABOVE
        if pages > MIN_PAGES:
            marks[:-1] |= _after_zeros(mixed == 0)
        places: Places = (np.flatnonzero(marks) + 1) * PAGE_BYTES
        return _choose(places, len(data), final)


def _mix(words: U64, factors: U64) -> U64:
    mixed: U64 = (words * factors).sum(axis=1, dtype=np.uint64)
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    return mixed


def _after_zeros(zero: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """For each page but the last: whether it and the seven before it are zero, and the next one is not."""
    count = np.cumsum(zero, dtype=np.int64)
    run = np.zeros(len(zero), np.bool_)
    run[MIN_PAGES - 1 :] = count[MIN_PAGES - 1 :] - np.concatenate(([0], count[:-MIN_PAGES])) == MIN_PAGES
    found: npt.NDArray[np.bool_] = run[:-1] & ~zero[1:]
    return found


class ByteCutter:
    """Cuts any stream, at any byte: 32 KiB to 512 KiB, about 128 KiB on average.

    A chunk ends after 16 bytes whose weighted sum falls into 1/98304 of the range.  The sum is
    formed for every byte offset at once, over four interleaved views of 32-bit words; runs of zeros
    never end a chunk.
    """

    _WINDOW = 16
    _FACTORS = (np.uint32(0x9E3779B1), np.uint32(0x85EBCA77), np.uint32(0xC2B2AE3D))
    _ABOVE = np.uint32((1 << 32) - (1 << 32) // 98304)
    _BLOCK = 1 << 17
    """Bytes per step: what the intermediate arrays need stays in the core's own cache."""

    def __init__(self) -> None:
        words = (self._BLOCK + self._WINDOW) // 4
        self._pairs: U32 = np.empty(words, np.uint32)
        self._sums: U32 = np.empty(words, np.uint32)

    def ends(self, data: memoryview, *, final: bool) -> list[int]:
        array: U8 = np.frombuffer(data, np.uint8)
        found: list[Places] = []
        # Nothing can end before the minimum, so the search starts there.
        first = MIN_CHUNK_BYTES - self._WINDOW
        for start in range(first, len(array) - self._WINDOW + 1, self._BLOCK):
            stop = min(len(array), start + self._BLOCK + self._WINDOW - 1)
            for lane in range(4):
                ends = self._lane(array[start + lane : stop])
                if ends is not None:
                    found.append(ends + (start + lane))
        places = np.sort(np.concatenate(found)) if found else np.zeros(0, np.int64)
        return _choose(places, len(data), final)

    def _lane(self, array: U8) -> Places | None:
        """Ends of the windows that start at every fourth byte of *array* and qualify."""
        words: U32 = array[: len(array) // 4 * 4].view(np.uint32)
        count = len(words)
        if count < self._WINDOW // 4:
            return None
        near, far, outer = self._FACTORS
        pairs, sums = self._pairs[: count - 1], self._sums[: count - 1]
        np.multiply(words[:-1], near, out=pairs)
        np.multiply(words[1:], far, out=sums)
        np.add(pairs, sums, out=pairs)
        sums = sums[: count - 3]
        np.multiply(pairs[2:], outer, out=sums)
        np.add(sums, pairs[:-2], out=sums)
        if sums.max() <= self._ABOVE:
            return None
        ends: Places = np.flatnonzero(sums > self._ABOVE) * 4 + self._WINDOW
        return ends


def _choose(places: Places, length: int, final: bool) -> list[int]:
    """Of the candidate *places*, those that keep the minimum; forced ends where none comes in time."""
    ends: list[int] = []
    start = 0
    for place in places.tolist():
        while place - start > MAX_CHUNK_BYTES:
            start += MAX_CHUNK_BYTES
            ends.append(start)
        if place - start >= MIN_CHUNK_BYTES:
            start = place
            ends.append(start)
    while length - start > MAX_CHUNK_BYTES or (length - start == MAX_CHUNK_BYTES and not final):
        start += MAX_CHUNK_BYTES
        ends.append(start)
    if final and start < length:
        ends.append(length)
    return ends


def spans(ends: Sequence[int]) -> list[tuple[int, int]]:
    """Start and end of each chunk."""
    return list(pairwise([0, *ends]))
