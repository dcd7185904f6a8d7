"""Large writes past the kernel's cache, where the file system has that.

A pack is read again by another node or not at all, so a copy of it in memory serves
nobody: to find and clear the pages for one takes the processor longer than sending the
bytes to the disk, and in a container they count as the task's.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os

LEAST_BYTES = 1 << 20
"""Smaller ones go through the cache: few of them are packs, and a disk likes large requests."""

ALIGNED_BYTES = 4096
"""Address, length and place in the file are multiples of this (open(2), ``O_DIRECT``)."""

_REFUSED = frozenset({errno.EINVAL, errno.EOPNOTSUPP})
"""It has no such writes, or wants another alignment."""


def write_direct(fd: int, data: memoryview) -> int:
    """Write the beginning of *data* to the fresh file *fd*; how many bytes that were, perhaps none.

    What is left is the caller's to write as usual.  ``OSError`` for anything but a refusal.
    """
    length = len(data) // ALIGNED_BYTES * ALIGNED_BYTES
    if length < LEAST_BYTES or data.readonly or _address(data) % ALIGNED_BYTES:
        return 0
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    done = 0
    try:
        fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_DIRECT)
        while done < length:
            done += os.write(fd, data[done:length])
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
    finally:
        fcntl.fcntl(fd, fcntl.F_SETFL, flags)
    return done


def _address(data: memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(data))
