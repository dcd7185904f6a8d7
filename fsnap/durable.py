"""Files that survive a crash of the machine once the call has returned.

POSIX promises a file's content only after ``fsync`` of the file, and its name only
after ``fsync`` of the directory that holds it.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def sync_directory(path: Path) -> None:
    """Make the names in the directory *path* durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_directory(path: Path, *, mode: int = 0o700) -> None:
    """Make *path* and what is missing above it, all with *mode*; what is there stays as it is."""
    if path.is_dir():
        return
    if path.parent != path:
        make_directory(path.parent, mode=mode)
    try:
        path.mkdir(mode=mode)
    except FileExistsError:
        if not path.is_dir():
            raise
        return
    sync_directory(path.parent)


def write_atomic(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Replace the file *path* by *data*: after a crash it has the old bytes or the new ones."""
    temporary = _temporary(path, data, mode)
    try:
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    sync_directory(path.parent)


def write_private(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Write *data* to the file *path* for its owner alone, whatever the umask; not durable, not at once."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        os.fchmod(fd, mode)
        file.write(data)


def _temporary(path: Path, data: bytes, mode: int) -> str:
    fd, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(fd, "wb") as file:
            os.fchmod(fd, mode)
            file.write(data)
            file.flush()
            os.fsync(fd)
    except BaseException:
        os.unlink(temporary)
        raise
    return temporary
