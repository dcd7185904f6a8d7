"""The memory of running processes, in the order in which CRIU's page images will have it.

CRIU writes one ``pages-N.img`` per process (the present pages of its private mappings, by
address) and one per shared memory object (its data, by offset).  What is read here
belongs to no instant: the processes run on.  It is of use where a wrong guess costs
nothing, as for chunks that count only if a later dump has the same.

Source of the rules: ``criu/mem.c`` (should_dump_page, generate_iovs) and
``criu/shmem.c`` (do_dump_one_shmem) of CRIU 4.2; ``include/uapi/linux/fs.h`` for
PAGEMAP_SCAN (Linux 6.7).  Unlike CRIU this leaves swapped pages where they are.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

PAGE_BYTES = 4096
INIT = 1

_SCAN = 0xC0606610
"""linux/fs.h: ``_IOWR('f', 16, struct pm_scan_arg)``."""
_SCAN_ARG = struct.Struct("12Q")
_REGIONS = 1024
_FILE, _PRESENT, _ZERO = 1 << 2, 1 << 3, 1 << 5
_ENTRY_PRESENT, _ENTRY_FILE = np.uint64(1 << 63), np.uint64(1 << 61)
_ENTRY_FRAME = np.uint64((1 << 55) - 1)
_ENTRIES_AT_ONCE = 1 << 16
_UNWRITTEN = ("[vvar]", "[vvar_vclock]", "[vsyscall]")
_SHARED = ("/memfd:", "/dev/zero (deleted)", "/SYSV")

Run = tuple[int, int]
"""First address and the one after the last."""


class Mapping:
    """One line of ``/proc/PID/maps``."""

    __slots__ = ("end", "key", "name", "offset", "shared", "start")

    def __init__(self, line: str) -> None:
        words = line.split(maxsplit=5)
        self.start, self.end = (int(word, 16) for word in words[0].split("-"))
        self.shared = words[1][3] == "s"
        self.offset = int(words[2], 16)
        self.key = (words[3], words[4])
        self.name = words[5].rstrip("\n") if len(words) == 6 else ""


class Segment:
    """What one ``pages-N.img`` will hold, as of now and as long as its owner lives."""

    def __init__(self, name: str, fd: int, runs: Iterator[Run]) -> None:
        self.name = name
        self._fd = fd
        self._runs = runs
        self._at = self._end = 0

    def fill(self, view: memoryview) -> int:
        """Whole pages into *view* from its front; 0 when there are no more."""
        room = len(view) // PAGE_BYTES * PAGE_BYTES
        while room:
            if self._at >= self._end:
                run = next(self._runs, None)
                if run is None:
                    break
                self._at, self._end = run
            count = self._read(view[: min(room, self._end - self._at)])
            if count:
                self._at += count
                return count
            self._at += PAGE_BYTES  # it went away since it was listed
        return 0

    def _read(self, view: memoryview) -> int:
        try:
            return os.preadv(self._fd, [view], self._at) // PAGE_BYTES * PAGE_BYTES
        except OSError:
            return 0


def segments(proc: Path, helpers: frozenset[int] = frozenset()) -> Iterator[Segment]:
    """The segments of all processes that *proc* shows, but for its init and *helpers*.

    A segment is good until the next one is asked for.  Processes that come or go meanwhile are met
    or not; none of that is an error.
    """
    shared: set[tuple[str, str]] = set()
    for pid in sorted(int(name) for name in os.listdir(proc) if name.isdigit()):
        if pid != INIT and pid not in helpers:
            with contextlib.suppress(OSError):
                yield from _of_process(proc / str(pid), pid, shared)


def _of_process(folder: Path, pid: int, shared: set[tuple[str, str]]) -> Iterator[Segment]:
    text = (folder / "maps").read_text(encoding="utf-8", errors="surrogateescape")
    mappings = [Mapping(line) for line in text.splitlines()]
    private = [m for m in mappings if not m.shared and m.name not in _UNWRITTEN]
    fd = os.open(folder / "mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        map_fd = os.open(folder / "pagemap", os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield Segment(f"process {pid}", fd, _present(map_fd, private))
        finally:
            os.close(map_fd)
    finally:
        os.close(fd)
    for mapping in mappings:
        if mapping.shared and mapping.name.startswith(_SHARED) and mapping.key not in shared:
            shared.add(mapping.key)
            with contextlib.suppress(OSError):
                yield from _of_shared(folder / "map_files" / f"{mapping.start:x}-{mapping.end:x}", mapping)


def _of_shared(path: Path, mapping: Mapping) -> Iterator[Segment]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield Segment(f"shared {mapping.key[1]}", fd, _data(fd))
    finally:
        os.close(fd)


def _data(fd: int) -> Iterator[Run]:
    """Where a shared memory file has pages."""
    at = 0
    while True:
        try:
            at = os.lseek(fd, at, os.SEEK_DATA)
            end = os.lseek(fd, at, os.SEEK_HOLE)
        except OSError:
            return
        yield at, end
        at = end


def _present(map_fd: int, mappings: list[Mapping]) -> Iterator[Run]:
    scan = _scan
    for mapping in mappings:
        if mapping.name == "[vdso]":
            yield mapping.start, mapping.end
            continue
        try:
            yield from scan(map_fd, mapping.start, mapping.end)
        except OSError as error:
            if error.errno not in (errno.ENOTTY, errno.EINVAL) or scan is _entries:
                return  # the process has ended
            scan = _entries
            yield from scan(map_fd, mapping.start, mapping.end)


def _scan(map_fd: int, start: int, end: int) -> Iterator[Run]:
    """Pages present in memory, not those of a file, not the kernel's page of zeros."""
    regions = (ctypes.c_uint64 * (3 * _REGIONS))()
    unwanted = _FILE | _ZERO
    while start < end:
        arg = bytearray(
            _SCAN_ARG.pack(
                _SCAN_ARG.size, 0, start, end, 0, ctypes.addressof(regions), _REGIONS, 0,
                unwanted, _PRESENT | unwanted, 0, _PRESENT,
            )
        )  # fmt: skip
        count = fcntl.ioctl(map_fd, _SCAN, arg)
        for number in range(count):
            yield regions[3 * number], regions[3 * number + 1]
        start = _SCAN_ARG.unpack(arg)[4]


def _entries(map_fd: int, start: int, end: int) -> Iterator[Run]:
    """The same by reading a number for each page, for kernels without PAGEMAP_SCAN."""
    zero = _zero_frame()
    for at in range(start, end, _ENTRIES_AT_ONCE * PAGE_BYTES):
        pages = min(_ENTRIES_AT_ONCE, (end - at) // PAGE_BYTES)
        numbers = np.frombuffer(os.pread(map_fd, 8 * pages, at // PAGE_BYTES * 8), np.uint64)
        wanted = (numbers & _ENTRY_PRESENT != 0) & (numbers & _ENTRY_FILE == 0)
        wanted &= numbers & _ENTRY_FRAME != zero
        edges = np.flatnonzero(np.diff(np.concatenate(([0], wanted.astype(np.int8), [0]))))
        for first, last in edges.reshape(-1, 2).tolist():
            yield at + first * PAGE_BYTES, at + last * PAGE_BYTES


def _zero_frame() -> np.uint64:
    """The number of the kernel's page of zeros, which an untouched mapping shows once it is read."""
    with mmap.mmap(-1, PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as page:
        address = ctypes.addressof(ctypes.c_char.from_buffer(page)) if page[0] == 0 else 0
        with open("/proc/self/pagemap", "rb", buffering=0) as file:
            number = os.pread(file.fileno(), 8, address // PAGE_BYTES * 8)
    return np.uint64(int.from_bytes(number, "little")) & _ENTRY_FRAME
