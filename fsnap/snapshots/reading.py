"""Reading file content for a capture: data without the holes, and nothing that changes meanwhile."""

from __future__ import annotations

import errno
import os

from fsnap.snapshots.errors import UnreadableFile
from fsnap.snapshots.feeder import Feeder, Fill
from fsnap.snapshots.seen import Extent

_NO_SEEK = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP)


def data_ranges(fd: int, start: int, size: int) -> list[tuple[int, int]]:
    """Offset and length of each stretch of data between *start* and *size*; holes lie between them."""
    ranges = []
    at = start
    while at < size:
        try:
            begin = os.lseek(fd, at, os.SEEK_DATA)
            end = os.lseek(fd, begin, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break
            if error.errno in _NO_SEEK:
                return [(start, size - start)]
            raise
        begin, end = min(begin, size), min(end, size)
        if begin < end:
            ranges.append((begin, end - begin))
        at = end
    return ranges


def feed_file(
    feeder: Feeder, fd: int, *, start: int, size: int, name: str, shift: int = 0, has_holes: bool = True
) -> list[Extent]:
    """Feed bytes *start* to *size* of a file; its extents.

    Byte *n* of the file is byte ``n + shift`` of *fd*.  Raises :class:`UnreadableFile` when the file,
    called *name*, turns out shorter.
    """
    if os.fstat(fd).st_size < size + shift:
        # Beyond the end the kernel reports a hole, so this cannot be left to the reading.
        raise UnreadableFile(f"{name} shrank before it was read")
    extents = []
    for at, length in data_ranges(fd, start, size) if has_holes else [(start, size - start)]:
        if length:
            stream_at = feeder.position
            if feeder.feed(reader(fd, at + shift), length) != length:
                raise UnreadableFile(f"{name} shrank while it was read")
            extents.append((at, length, stream_at))
    return extents


def reader(fd: int, at: int) -> Fill:
    """Reads on from *at*."""

    def fill(buffer: memoryview) -> int:
        nonlocal at
        count = os.preadv(fd, [buffer], at)
        at += count
        return count

    return fill


def bytes_reader(data: bytes) -> Fill:
    """Hands out *data*."""
    at = 0

    def fill(buffer: memoryview) -> int:
        nonlocal at
        count = min(len(buffer), len(data) - at)
        buffer[:count] = data[at : at + count]
        at += count
        return count

    return fill
