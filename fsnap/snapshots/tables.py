"""The index's tables: fixed-width little-endian rows, as ``docs/format.rst`` lists them."""

from __future__ import annotations

import enum
import stat
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

Table = npt.NDArray[Any]

NONE: Final = 0xFFFFFFFF
"""In a 32-bit column that names a row: no row."""

PACK: Final = np.dtype([("id", "V32"), ("bytes", "<u8")])

CHUNK: Final = np.dtype(
    [
        ("digest", "V32"),
        ("raw_bytes", "<u4"),
        ("stored_bytes", "<u4"),
        ("pack", "<u4"),
        ("offset", "<u4"),
        ("parent", "<u4"),
        ("codec", "u1"),
        ("reserved", "V3"),
    ]
)

REF: Final = np.dtype("<u4")

ENTRY: Final = np.dtype(
    [
        ("path_at", "<u4"),
        ("path_len", "<u2"),
        ("kind", "u1"),
        ("reserved", "u1"),
        ("mode", "<u4"),
        ("uid", "<u4"),
        ("gid", "<u4"),
        ("link", "<u4"),
        ("size", "<u8"),
        ("rdev", "<u8"),
        ("mtime_ns", "<i8"),
        ("atime_ns", "<i8"),
        ("extent_at", "<u4"),
        ("extent_n", "<u4"),
        ("xattr_at", "<u4"),
        ("xattr_n", "<u4"),
        ("aux_at", "<u4"),
        ("aux_len", "<u4"),
    ]
)


class EntryRow(NamedTuple):
    """A row of ``ENTRY``, in plain numbers."""

    path_at: int
    path_len: int
    kind: int
    reserved: int
    mode: int
    uid: int
    gid: int
    link: int
    size: int
    rdev: int
    mtime_ns: int
    atime_ns: int
    extent_at: int
    extent_n: int
    xattr_at: int
    xattr_n: int
    aux_at: int
    aux_len: int


assert EntryRow._fields == ENTRY.names

EXTENT: Final = np.dtype([("file_at", "<u8"), ("length", "<u8"), ("stream_at", "<u8")])

XATTR: Final = np.dtype([("name_at", "<u4"), ("name_len", "<u4"), ("value_at", "<u4"), ("value_len", "<u4")])

assert [kind.itemsize for kind in (PACK, CHUNK, ENTRY, EXTENT, XATTR)] == [40, 56, 80, 24, 16]


class Kind(enum.IntEnum):
    """What an entry is."""

    FILE = 1
    DIR = 2
    SYMLINK = 3
    FIFO = 4
    SOCKET = 5
    CHAR = 6
    BLOCK = 7
    LINK = 8
    """One more name of the inode whose entry ``link`` names."""
    INPUT = 9
    """A file that was there before the task: size, and digest in ``aux`` when it is known; no content."""
    GONE = 10
    """A path that was there before the task and that the task removed."""
    THERE = 11
    """A link, fifo, socket or device that was there before the task; it is expected there, and left alone."""


KIND_OF_FORMAT: Final = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIR,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFSOCK: Kind.SOCKET,
    stat.S_IFCHR: Kind.CHAR,
    stat.S_IFBLK: Kind.BLOCK,
}
