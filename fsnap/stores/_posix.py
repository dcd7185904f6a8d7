"""What the directory store needs of POSIX: durable directories by descriptor, and one line per errno.

Every step goes by a descriptor of its directory and with ``O_NOFOLLOW``, so that no
link below the root leads out of it, and a directory that is renamed under our feet
stays the one that was checked.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from fsnap.errors import StoreError, StoreUnavailable, StoreUnfit
from fsnap.stores._direct import write_direct
from fsnap.stores.base import Buffer

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
_NO_DIRECTORY_SYNC = frozenset({errno.EINVAL, errno.EOPNOTSUPP})
"""What some FUSE and SMB file systems answer to fsync of a directory: they have none."""

_MAY_PASS = frozenset(
    {
        errno.EAGAIN,
        errno.EBUSY,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.EINTR,
        errno.EIO,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOLCK,
        errno.ENOMEM,
        errno.ENOTCONN,
        errno.EREMOTEIO,
        errno.ESTALE,
        errno.ETIMEDOUT,
    }
)
"""What a network file system says while its server is away, and what a busy machine says."""

_HINTS = {
    errno.ENOSPC: "Free space on that file system, or use another store.",
    errno.EDQUOT: "Free space within that quota, or use another store.",
    errno.EACCES: "Give fsnap the right to read and write there.",
    errno.EROFS: "Mount it writable, or use another store.",
    errno.ENOTDIR: "A file or a symbolic link stands where the store needs a directory; remove it.",
    errno.ELOOP: "Symbolic links inside a store are not followed; remove it.",
}


def store_error(error: OSError, what: str) -> StoreError:
    """*error* met while doing *what* ("write /d/key"): one line, and the class that says whether to retry."""
    reason = error.strerror or str(error)
    kind = StoreUnavailable if error.errno in _MAY_PASS else StoreError
    return kind(f"cannot {what}: {reason}", hint=_HINTS.get(error.errno or 0))


@contextmanager
def reported(what: str) -> Iterator[None]:
    """Turn an ``OSError`` of the body into a :class:`~fsnap.errors.StoreError`."""
    try:
        yield
    except OSError as error:
        raise store_error(error, what) from error


def open_root(path: str, *, create: bool) -> int:
    """A descriptor of the directory *path*, which may be a link; made with its parents (0700) if *create*."""
    if create and not os.path.isdir(path):
        _make_durable(path)
    return os.open(path, _DIRECTORY)


def _make_durable(path: str) -> None:
    parent = os.path.dirname(path)
    if not os.path.isdir(parent):
        _make_durable(parent)
    fd = os.open(parent, _DIRECTORY)
    try:
        try:
            os.mkdir(os.path.basename(path), 0o700, dir_fd=fd)
        except FileExistsError:
            pass
        sync_directory(fd)
    finally:
        os.close(fd)


@contextmanager
def directory(root_fd: int, parts: Sequence[str], *, make: bool) -> Iterator[int]:
    """A descriptor of the directory *parts* below *root_fd*.

    With *make*, what is missing is made (0700), and every level is synced whoever made
    it: another writer may have made it just now and not have come to that yet.
    ``FileNotFoundError`` when it is not there, or was pruned meanwhile.
    """
    fd = os.open(".", _DIRECTORY, dir_fd=root_fd)
    try:
        for part in parts:
            if make:
                try:
                    os.mkdir(part, 0o700, dir_fd=fd)
                except FileExistsError:
                    pass
                sync_directory(fd)
            deeper = _open_directory(part, fd, made=make)
            os.close(fd)
            fd = deeper
        yield fd
    finally:
        os.close(fd)


def _open_directory(name: str, directory_fd: int, *, made: bool) -> int:
    try:
        return os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=directory_fd)
    except NotADirectoryError:
        # Below an object there is nothing to read; a link is somebody's doing, and worth telling.
        is_object = stat.S_ISREG(os.stat(name, dir_fd=directory_fd, follow_symlinks=False).st_mode)
        if is_object and not made:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name) from None
        raise


def sync_directory(fd: int) -> None:
    """Make the entries of the directory *fd* durable."""
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NO_DIRECTORY_SYNC:
            raise


@contextmanager
def temporary_file(directory_fd: int, name: str, data: Buffer) -> Iterator[None]:
    """A new file *name* (0600) with *data*, durable, its length checked; gone at the end unless renamed."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, flags, 0o600, dir_fd=directory_fd)
    try:
        try:
            _write_all(fd, data)
            os.fsync(fd)
            if os.fstat(fd).st_size != memoryview(data).nbytes:
                raise OSError(errno.EIO, "the file's length differs from what was written")
        finally:
            os.close(fd)
        yield
    finally:
        try:
            os.unlink(name, dir_fd=directory_fd)
        except OSError:
            pass  # it was renamed; or it stays, and a later sweep removes it


def _write_all(fd: int, data: Buffer) -> None:
    rest = memoryview(data).cast("B")
    rest = rest[write_direct(fd, rest) :]
    while rest:
        rest = rest[os.write(fd, rest) :]


def link_new(directory_fd: int, temporary: str, name: str, where: str) -> bool:
    """Give *temporary* the second name *name*; whether that was new.  *where* names the store in an error.

    An NFS server may carry a link out and lose the answer; the client's second try then
    says "exists".  The link count tells (open(2) on ``O_EXCL`` over NFS).
    """
    try:
        os.link(temporary, name, src_dir_fd=directory_fd, dst_dir_fd=directory_fd, follow_symlinks=False)
    except FileExistsError:
        return os.stat(temporary, dir_fd=directory_fd, follow_symlinks=False).st_nlink > 1
    except OSError as error:
        if error.errno in _NO_LINKS:
            raise StoreUnfit(
                f"the file system of {where} has no hard links, so nothing can be created only once"
            ) from error
        raise
    return True


def read_exactly(fd: int, start: int, length: int) -> bytes:
    """*length* bytes of *fd* from *start*, or fewer if the file ends."""
    pieces: list[bytes] = []
    while length > 0:
        piece = os.pread(fd, length, start)
        if not piece:
            break
        pieces.append(piece)
        start += len(piece)
        length -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
