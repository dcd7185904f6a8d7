"""The cut is a function of the content: how a stream is split into buffers changes nothing."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsnap.snapshots.cut import MAX_CHUNK_BYTES, MIN_CHUNK_BYTES, PAGE_BYTES, ByteCutter, Cutter, PageCutter

PIECES = st.lists(
    st.one_of(
        st.tuples(st.just("noise"), st.integers(1, 600_000), st.integers(0, 9)),
        st.tuples(st.just("zeros"), st.integers(1, 600_000), st.just(0)),
        st.tuples(st.just("same"), st.integers(1, 300_000), st.integers(1, 255)),
    ),
    max_size=6,
)


def build(pieces: list[tuple[str, int, int]]) -> bytes:
    out = []
    for kind, length, number in pieces:
        out.append(random.Random(number).randbytes(length) if kind == "noise" else bytes([number]) * length)
    return b"".join(out)


def cut_in_parts(cutter: Cutter, data: bytes, sizes: list[int]) -> list[int]:
    """Hand the stream in as the feeder does: what comes after the last end again, with more behind it."""
    ends: list[int] = []
    start = stop = 0
    turn = 0
    while stop < len(data):
        stop = min(len(data), stop + sizes[turn % len(sizes)])
        turn += 1
        final = stop == len(data)
        ends += [start + end for end in cutter.ends(memoryview(data)[start:stop], final=final)]
        start = ends[-1] if ends else 0
    return ends


@pytest.mark.parametrize("cutter", [PageCutter(), ByteCutter()])
@settings(max_examples=40)
@given(pieces=PIECES, sizes=st.lists(st.integers(1, 1_500_000), min_size=1, max_size=3))
def test_buffers_change_nothing(cutter: Cutter, pieces: list[tuple[str, int, int]], sizes: list[int]) -> None:
    data = build(pieces)
    sizes = [max(size, len(data) // 40, 1) for size in sizes]
    whole = cutter.ends(memoryview(data), final=True)
    assert cut_in_parts(cutter, data, sizes) == whole
    assert whole == sorted(set(whole))
    assert (whole[-1] if whole else 0) == len(data)
    lengths = [end - start for start, end in zip([0, *whole], whole, strict=False)]
    assert all(length <= MAX_CHUNK_BYTES for length in lengths)
    assert all(length >= MIN_CHUNK_BYTES for length in lengths[:-1])


@settings(max_examples=30)
@given(pieces=PIECES, shift=st.integers(1, 40), seed=st.integers(10, 99))
def test_pages_are_found_again_after_a_shift(
    pieces: list[tuple[str, int, int]], shift: int, seed: int
) -> None:
    data = build(pieces)
    tail = random.Random(seed).randbytes(4 << 20)
    data += bytes(-len(data) % PAGE_BYTES) + tail
    shifted = random.Random(seed + 1).randbytes(shift * PAGE_BYTES) + data
    cutter = PageCutter()
    ends = set(cutter.ends(memoryview(data), final=True))
    moved = {end - shift * PAGE_BYTES for end in cutter.ends(memoryview(shifted), final=True)}
    settled = len(data) - len(tail) + 3 * MAX_CHUNK_BYTES
    assert {end for end in ends if end > settled} == {end for end in moved if end > settled}
