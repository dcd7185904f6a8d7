"""Where streams are cut: sizes, re-synchronisation, and independence of buffers."""

from __future__ import annotations

import random

import pytest

from fsnap.snapshots.cut import (
    MAX_CHUNK_BYTES,
    MIN_CHUNK_BYTES,
    PAGE_BYTES,
    ByteCutter,
    Cutter,
    PageCutter,
    spans,
)

MIB = 1 << 20
CUTTERS = [PageCutter, ByteCutter]


def noise(length: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(length)


def chunks(cutter: Cutter, data: bytes) -> list[bytes]:
    return [data[start:end] for start, end in spans(cutter.ends(memoryview(data), final=True))]


@pytest.mark.parametrize("cutter", CUTTERS)
def test_sizes_are_bounded_and_average_32_pages(cutter: type[Cutter]) -> None:
    data = noise(64 * MIB)
    sizes = [len(chunk) for chunk in chunks(cutter(), data)]
    assert sum(sizes) == len(data)
    assert max(sizes) <= MAX_CHUNK_BYTES
    assert min(sizes[:-1]) >= MIN_CHUNK_BYTES
    assert 28 * PAGE_BYTES < len(data) / len(sizes) < 36 * PAGE_BYTES


def test_pages_are_never_split() -> None:
    data = noise(8 * MIB + 100)
    assert all(len(chunk) % PAGE_BYTES == 0 for chunk in chunks(PageCutter(), data)[:-1])


@pytest.mark.parametrize(
    ("cutter", "inserted"),
    [(PageCutter(), PAGE_BYTES), (PageCutter(), 17 * PAGE_BYTES), (ByteCutter(), 1), (ByteCutter(), 4099)],
)
def test_the_cut_resynchronises_after_an_insertion(cutter: Cutter, inserted: int) -> None:
    data = noise(16 * MIB)
    at = 5 * MIB
    before = set(chunks(cutter, data))
    after = set(chunks(cutter, data[:at] + noise(inserted, seed=2) + data[at:]))
    new_bytes = sum(len(chunk) for chunk in after - before)
    assert inserted <= new_bytes <= 2 * MAX_CHUNK_BYTES + inserted


def test_pages_after_zeros_do_not_depend_on_how_many_zeros_there_were() -> None:
    content = noise(2 * MIB, seed=3)
    cut = {
        pages: set(chunks(PageCutter(), noise(MIB) + bytes(pages * PAGE_BYTES) + content))
        for pages in (100, 131)
    }
    common = sum(len(chunk) for chunk in cut[100] & cut[131])
    assert common >= len(content) + MIB - 2 * MAX_CHUNK_BYTES


@pytest.mark.parametrize("cutter", CUTTERS)
def test_zeros_are_cut_at_the_maximum(cutter: type[Cutter]) -> None:
    sizes = {len(chunk) for chunk in chunks(cutter(), bytes(8 * MIB))}
    assert sizes == {MAX_CHUNK_BYTES}


@pytest.mark.parametrize("cutter", CUTTERS)
@pytest.mark.parametrize("length", [0, 1, PAGE_BYTES, MIN_CHUNK_BYTES - 1, MIN_CHUNK_BYTES + 1])
def test_a_short_stream_is_one_chunk(cutter: type[Cutter], length: int) -> None:
    assert chunks(cutter(), noise(length)) == ([noise(length)] if length else [])


@pytest.mark.parametrize("cutter", CUTTERS)
def test_a_full_buffer_always_yields_a_chunk(cutter: type[Cutter]) -> None:
    for data in (bytes(MAX_CHUNK_BYTES), noise(MAX_CHUNK_BYTES), b"ab" * (MAX_CHUNK_BYTES // 2)):
        assert cutter().ends(memoryview(data), final=False)
