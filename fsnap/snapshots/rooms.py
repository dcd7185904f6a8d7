"""Memory for bytes on their way: whole pages of its own, in few pieces.

Each room is a mapping of its own: so it begins where a page does, as a write past the
kernel's cache wants it, and huge pages can be asked for, which are found and cleared
some ten times faster than as many small ones.
"""

from __future__ import annotations

import contextlib
import mmap

Room = mmap.mmap


def new_room(size_bytes: int) -> Room:
    """*size_bytes* of zeros; they take memory once they are written."""
    room = mmap.mmap(-1, size_bytes)
    with contextlib.suppress(OSError):  # a kernel without huge pages
        room.madvise(mmap.MADV_HUGEPAGE)
    return room
