"""Deltas: what is encoded comes back, and what is not a delta raises nothing but its own error."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fsnap.errors import CorruptData
from fsnap.snapshots import pagedelta
from fsnap.snapshots.pageindex import ANCHORS, PageIndex

PAGE = pagedelta.PAGE_BYTES


@given(
    seed=st.integers(0, 1 << 30),
    pages=st.integers(1, 40),
    shift=st.integers(-10, 10),
    tail=st.integers(0, PAGE - 1),
    changed=st.sets(st.integers(0, 39)),
)
def test_round_trip(seed: int, pages: int, shift: int, tail: int, changed: set[int]) -> None:
    source = random.Random(seed)
    parent = source.randbytes((pages + 10) * PAGE)
    same = np.array([i not in changed and 0 <= i + shift < pages + 10 for i in range(pages)])
    body = b"".join(
        parent[(i + shift) * PAGE : (i + shift + 1) * PAGE] if same[i] else source.randbytes(PAGE)
        for i in range(pages)
    )
    data = body + source.randbytes(tail)
    plain = pagedelta.encode(memoryview(data), same, shift)
    assert len(plain) <= pagedelta.plain_limit(len(data))
    assert pagedelta.apply(plain, parent, len(data), "x") == data


@given(plain=st.binary(max_size=3 * PAGE), pages=st.integers(1, 3), parent=st.binary(max_size=2 * PAGE))
def test_noise_is_damage(plain: bytes, pages: int, parent: bytes) -> None:
    try:
        found = pagedelta.apply(plain, parent, pages * PAGE, "x")
    except CorruptData:
        return
    assert len(found) == pages * PAGE


@given(
    seed=st.integers(0, 1 << 30),
    pages=st.integers(8, 60),
    at=st.integers(0, 7),
    changed=st.sets(st.integers(0, 59), max_size=3),
)
def test_a_chunk_is_found_wherever_its_pages_moved(seed: int, pages: int, at: int, changed: set[int]) -> None:
    source = random.Random(seed)
    old = [source.randbytes(PAGE) for _ in range(pages)]
    index = PageIndex()
    index.learn(b"old", index.prints(memoryview(b"".join(old))))
    new = [source.randbytes(PAGE) if n in changed else page for n, page in enumerate(old)][at:]
    match = index.find(index.prints(memoryview(b"".join(new))))
    kept = [n not in changed for n in range(at, pages)]
    if 2 * sum(kept) < len(kept):
        assert match is None
    elif pages - sum(kept) < ANCHORS:  # one of the pages that it is found by is there in any case
        assert match is not None
    if match is not None:
        assert (match.digest, match.shift, match.same.tolist()) == (b"old", at, kept)


def test_the_index_is_bounded() -> None:
    index = PageIndex(max_chunks=8)
    for number in range(40):
        data = random.Random(number).randbytes(4 * PAGE)
        index.learn(number.to_bytes(2, "big"), index.prints(memoryview(data)))
    held = [number for number in range(40) if number.to_bytes(2, "big") in index]
    assert held[-1] == 39
    assert len(held) <= 8


def test_zeros_are_no_way_to_find_a_chunk() -> None:
    index = PageIndex()
    index.learn(b"zeros", index.prints(memoryview(bytes(8 * PAGE) + random.Random(1).randbytes(PAGE))))
    other = memoryview(bytes(8 * PAGE) + random.Random(2).randbytes(PAGE))
    assert index.find(index.prints(other)) is None
