"""Opening paths below a directory without ever following a symbolic link.

Every component is opened by itself with ``O_NOFOLLOW``, so neither a path out of an
index nor a link that appears meanwhile leads anywhere else.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DIR_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

MAX_PATH_BYTES = 4095
MAX_NAME_BYTES = 255


def is_safe_path(path: bytes) -> bool:
    """Whether *path* is relative, stays below its root, and is one that Linux could hold."""
    if len(path) > MAX_PATH_BYTES or b"\0" in path:
        return False
    parts = path.split(b"/")
    return all(0 < len(part) <= MAX_NAME_BYTES and part not in (b".", b"..") for part in parts)


@contextmanager
def opened_root(path: Path) -> Iterator[int]:
    """A descriptor of the directory *path*; its last component may be a ``/proc`` link."""
    root_fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield root_fd
    finally:
        os.close(root_fd)


@contextmanager
def opened_parent(root_fd: int, path: str) -> Iterator[tuple[int, str]]:
    """The descriptor of the directory that holds *path*, and the last component of *path*.

    Raises ``OSError``: ``ELOOP``, ``ENOTDIR`` or ``ENOENT`` where a component is no directory, ``EINVAL``
    for a path that is not :func:`is_safe_path`.
    """
    if not is_safe_path(os.fsencode(path)):
        raise OSError(errno.EINVAL, "not a path below a directory")
    *above, name = path.split("/")
    fd = root_fd
    try:
        for part in above:
            deeper = os.open(part, DIR_FLAGS, dir_fd=fd)
            if fd != root_fd:
                os.close(fd)
            fd = deeper
        yield fd, name
    finally:
        if fd != root_fd:
            os.close(fd)


@contextmanager
def opened_file(root_fd: int, path: str) -> Iterator[int]:
    """A descriptor for reading *path*, whose access time stays as it is where the owner may say so."""
    with opened_parent(root_fd, path) as (parent_fd, name):
        fd = open_quietly(name, parent_fd)
    try:
        yield fd
    finally:
        os.close(fd)


def open_quietly(name: str, dir_fd: int) -> int:
    """Open for reading, without touching the access time if that is allowed."""
    try:
        return os.open(name, READ_FLAGS | os.O_NOATIME, dir_fd=dir_fd)
    except PermissionError:
        return os.open(name, READ_FLAGS, dir_fd=dir_fd)
