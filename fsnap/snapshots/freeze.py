"""Taking a tree aside while its task is frozen for a moment.

For periodic checkpoints: inside the freeze every path's state is recorded and only
files that changed since the last capture are cloned, or copied where the file system
cannot clone.  The capture follows when the task runs on.
"""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import os
from pathlib import Path

from fsnap.clock import Clock, SystemClock
from fsnap.snapshots import beneath
from fsnap.snapshots.errors import CaptureFailed, UnreadableFile
from fsnap.snapshots.reading import data_ranges
from fsnap.snapshots.records import Place, Record, StagedTree, record_tree
from fsnap.snapshots.seen import Seen
from fsnap.snapshots.state import key_of, state_key
from fsnap.snapshots.tables import Kind
from fsnap.snapshots.trees import TreeSource

FICLONE = 0x40049409
"""linux/fs.h: ``_IOW(0x94, 9, int)``; btrfs, xfs and overlays of them clone."""
SPOOL_BYTES = 128 << 10
"""Smaller files go into one spool: a read and a write instead of a new inode each."""
_CANNOT = (
    errno.EOPNOTSUPP,
    errno.EXDEV,
    errno.EINVAL,
    errno.ENOTTY,
    errno.ENOSYS,
    errno.EPERM,
    errno.EBADF,
    errno.ETXTBSY,
)


def stage_tree(
    source: TreeSource, staging: Path, unchanged: Seen | None = None, *, clock: Clock | None = None
) -> StagedTree:
    """Record *source* and copy aside what is not *unchanged*, into the directory *staging*.

    The result goes to :meth:`Capture.add_tree` later; *staging* must stay until then, and is the
    caller's to remove.  Raises :class:`UnreadableFile` for the tree, :class:`CaptureFailed` when
    *staging* has no room.
    """
    if unchanged is not None:
        source = dataclasses.replace(source, unchanged=unchanged)
    tree = record_tree(source, clock or SystemClock())
    with _Stage(source, staging) as stage, beneath.opened_root(source.root) as root_fd:
        for number, record in enumerate(tree.records):
            if record.kind == Kind.FILE and record.read_bytes:
                record.staged = stage.take(root_fd, number, record)
    return dataclasses.replace(
        tree, is_staged=True, copied_bytes=stage.copied_bytes, cloned_bytes=stage.cloned_bytes
    )


class _Stage:
    """The directory that copies go to."""

    def __init__(self, source: TreeSource, staging: Path) -> None:
        self._source = source
        self._staging = staging
        self._spool = staging / f"{source.name}.spool"
        self._spool_fd = -1
        self._spool_at = 0
        self._clones = True
        self.copied_bytes = 0
        self.cloned_bytes = 0

    def __enter__(self) -> _Stage:
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            self._spool_fd = os.open(self._spool, flags, 0o600)
        except OSError as error:
            raise CaptureFailed(f"{self._staging} cannot be written: {error.strerror}") from error
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._spool_fd)

    def take(self, root_fd: int, number: int, record: Record) -> Place:
        """Copy the content of *record* from its ``start`` on."""
        state = record.state
        name = f"{record.path!r} in {self._source.root}"
        try:
            with beneath.opened_file(root_fd, record.path) as fd:
                if key_of(fd) != state_key(state):
                    raise UnreadableFile(f"{name} changed while it was read")
                if record.start == 0 and state.size <= SPOOL_BYTES and not _has_holes(fd):
                    return self._to_spool(fd, state.size, name)
                return self._to_file(fd, number, record.start, state.size, name)
        except OSError as error:
            raise UnreadableFile(f"{name} cannot be copied to {self._staging}: {error.strerror}") from error

    def _to_spool(self, fd: int, size: int, name: str) -> Place:
        data = os.pread(fd, size, 0)
        if len(data) != size:
            raise UnreadableFile(f"{name} shrank while it was read")
        at = self._spool_at
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._spool_fd, rest) :]
        self._spool_at += size
        self.copied_bytes += size
        return Place(self._spool, at, False)

    def _to_file(self, fd: int, number: int, start: int, size: int, name: str) -> Place:
        path = self._staging / f"{self._source.name}.{number}"
        copy_fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            if self._clones and self._clone(fd, copy_fd):
                self.cloned_bytes += size
                return Place(path, 0, True)
            os.ftruncate(copy_fd, size)
            for at, length in data_ranges(fd, start, size):
                if _copy(fd, copy_fd, at, length) != length:
                    raise UnreadableFile(f"{name} shrank while it was read")
                self.copied_bytes += length
            return Place(path, 0, True)
        finally:
            os.close(copy_fd)

    def _clone(self, fd: int, copy_fd: int) -> bool:
        try:
            fcntl.ioctl(copy_fd, FICLONE, fd)
        except OSError as error:
            if error.errno not in _CANNOT:
                raise
            self._clones = False
            return False
        return True


def _has_holes(fd: int) -> bool:
    """Whether the file takes less room than it is long."""
    state = os.fstat(fd)
    return state.st_blocks * 512 < state.st_size


def _copy(fd: int, copy_fd: int, at: int, length: int) -> int:
    """Copy inside the kernel, to the same place; how much there was."""
    end = at + length
    begin = at
    while at < end:
        try:
            count = os.copy_file_range(fd, copy_fd, end - at, at, at)
        except OSError as error:
            if error.errno not in _CANNOT:
                raise
            os.lseek(copy_fd, at, os.SEEK_SET)
            count = os.sendfile(copy_fd, fd, at, end - at)
        if count == 0:
            break
        at += count
    return at - begin
