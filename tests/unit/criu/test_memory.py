"""Reading a process's own memory as CRIU lays it out; tests/e2e/test_warm.py compares with CRIU."""

from __future__ import annotations

import ctypes
import mmap
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from fsnap.criu import memory
from fsnap.criu.memory import Mapping, Segment, segments

PAGE = memory.PAGE_BYTES


def read(segment: Segment, step: int = 1 << 20) -> bytes:
    found = bytearray()
    buffer = memoryview(bytearray(step))
    while count := segment.fill(buffer):
        found += buffer[:count]
    return bytes(found)


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A process listing with this process alone."""
    (tmp_path / str(os.getpid())).symlink_to(f"/proc/{os.getpid()}")
    return tmp_path


@pytest.fixture
def private() -> Iterator[mmap.mmap]:
    """Sixteen pages: three written, one only read, the others untouched."""
    with mmap.mmap(-1, 16 * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as pages:
        pages.madvise(mmap.MADV_NOHUGEPAGE)
        for number in (2, 3, 9):
            pages[number * PAGE : (number + 1) * PAGE] = random.Random(number).randbytes(PAGE)
        assert pages[12 * PAGE] == 0
        yield pages


def address(pages: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(pages))


@pytest.mark.parametrize("scan", [memory._scan, memory._entries])
def test_written_pages_are_found_and_no_others(private: mmap.mmap, scan: object) -> None:
    if scan is memory._entries and os.geteuid() != 0:
        pytest.skip("page frames are told to root alone")
    start = address(private)
    fd = os.open("/proc/self/pagemap", os.O_RDONLY)
    try:
        runs = list(scan(fd, start, start + 16 * PAGE))  # type: ignore[operator]
    except OSError as error:
        pytest.skip(f"this kernel has no PAGEMAP_SCAN: {error}")
    finally:
        os.close(fd)
    assert [((first - start) // PAGE, (end - start) // PAGE) for first, end in runs] == [(2, 4), (9, 10)]


def test_a_process_reads_in_order_of_addresses(proc: Path, private: mmap.mmap) -> None:
    found = [read(segment) for segment in segments(proc) if segment.name.startswith("process")]
    expected = b"".join(random.Random(number).randbytes(PAGE) for number in (2, 3, 9))
    assert len(found) == 1
    assert len(found[0]) % PAGE == 0
    assert expected in found[0]


def test_shared_memory_is_one_segment_however_often_it_is_mapped(proc: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("map_files is for root alone")
    fd = os.memfd_create("twice")
    os.ftruncate(fd, 8 * PAGE)
    content = random.Random(1).randbytes(PAGE)
    with mmap.mmap(fd, 8 * PAGE) as one, mmap.mmap(fd, 8 * PAGE) as other:
        one[4 * PAGE : 5 * PAGE] = content
        assert other[4 * PAGE] == content[0]
        found = [read(segment) for segment in segments(proc) if segment.name.startswith("shared")]
    os.close(fd)
    assert found.count(content) == 1


def test_a_run_that_went_away_is_passed_over() -> None:
    fd = os.open("/proc/self/mem", os.O_RDONLY)
    with mmap.mmap(-1, 4 * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as pages:
        pages[:] = bytes(range(256)) * (4 * PAGE // 256)
        start = address(pages)
        gone = (0, 2 * PAGE)  # nothing is ever mapped there
        segment = Segment("x", fd, iter([gone, (start, start + 4 * PAGE)]))
        assert read(segment, 2 * PAGE) == pages[:]
    os.close(fd)


def test_init_and_helpers_are_left_out(tmp_path: Path) -> None:
    for pid in ("1", "7"):
        (tmp_path / pid).symlink_to(f"/proc/{os.getpid()}")
    assert list(segments(tmp_path, frozenset({7}))) == []


def test_a_process_that_is_gone_is_none(tmp_path: Path) -> None:
    (tmp_path / "4000000").mkdir()
    assert list(segments(tmp_path)) == []


def test_a_line_of_the_map() -> None:
    mapping = Mapping("7f00-7fff r--s 00001000 00:01 2049 /dev/zero (deleted)")
    assert (mapping.start, mapping.end, mapping.shared, mapping.offset) == (0x7F00, 0x7FFF, True, 0x1000)
    assert (mapping.key, mapping.name) == (("00:01", "2049"), "/dev/zero (deleted)")
