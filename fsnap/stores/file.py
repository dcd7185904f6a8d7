"""A directory as a store: one file per object, on a local disk or a shared file system.

*put* writes a temporary file beside its object, syncs it, renames it over and syncs
the directory.  *create* gives the temporary file the object's name by ``link``, which
fails if that name is taken, on NFS too.  Temporary names begin with ``~``, which no key
may contain.  A writer that dies leaves its temporary file behind; it is not listed, and
whoever writes into that directory first in a later process removes it once it is a day
old.

The directory is held open, and at each call compared with what its path names now: a
file system that was unmounted, or a directory that was replaced, must not be mistaken
for an empty store.
"""

from __future__ import annotations

import os
import re
import stat
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from secrets import token_hex
from typing import NamedTuple
from urllib.parse import quote

from fsnap.clock import Clock, SystemClock
from fsnap.errors import CorruptData, ObjectExists, ObjectMissing, StoreError, StoreUnavailable
from fsnap.stores._posix import (
    directory,
    link_new,
    open_root,
    read_exactly,
    reported,
    sync_directory,
    temporary_file,
)
from fsnap.stores.base import Buffer, ObjectInfo
from fsnap.stores.keys import check_key, check_prefix, check_range, is_key

_TEMPORARY = "~"
_STALE_S = 24 * 3600.0
_PRUNE_RACES = 100
"""How often a write may lose its directory to a concurrent delete before that counts as a fault."""

_NFS_LEFTOVER = re.compile(r"\.nfs[0-9a-f]{16,}")
"""What an NFS client makes of a file that is deleted while it is open there."""

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""``O_NONBLOCK``: a FIFO put there by somebody must not hang the open."""


class _Entry(NamedTuple):
    order: str
    """The name, a directory's with ``/``: so sorted, a walk yields whole keys in byte order."""

    name: str
    is_directory: bool
    size_bytes: int
    modified_s: float


class FileStore:
    """Objects below the directory *root*, an absolute path, which is made unless *create* is false."""

    def __init__(self, root: str, *, create: bool = True, clock: Clock | None = None) -> None:
        if not os.path.isabs(root):
            raise ValueError(f"not an absolute path: {root}")
        self._root = os.path.normpath(root)
        self._clock = clock or SystemClock()
        with reported(f"open the store directory {self._root}"):
            self._root_fd = open_root(self._root, create=create)
        self._identity = _identity(os.fstat(self._root_fd))
        self._close = weakref.finalize(self, os.close, self._root_fd)
        self._swept: set[tuple[str, ...]] = set()
        self._sweeping = threading.Lock()

    @property
    def url(self) -> str:
        return "file://" + quote(self._root)

    def close(self) -> None:
        """Let go of the directory; no call may follow."""
        self._close()

    def put(self, key: str, data: Buffer) -> None:
        def publish(directory_fd: int, temporary: str, name: str) -> None:
            os.rename(temporary, name, src_dir_fd=directory_fd, dst_dir_fd=directory_fd)

        self._write(key, data, publish)

    def create(self, key: str, data: Buffer) -> None:
        def publish(directory_fd: int, temporary: str, name: str) -> None:
            if link_new(directory_fd, temporary, name, self._root):
                return
            if stat.S_ISDIR(os.stat(name, dir_fd=directory_fd, follow_symlinks=False).st_mode):
                raise StoreError(f"cannot write {self._path(key)}: it is a directory")
            sync_directory(directory_fd)  # what ObjectExists speaks of is durable
            raise ObjectExists(f"{self._path(key)} exists already")

        self._write(key, data, publish)

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        *parents, name = check_key(key)
        check_range(start, length)
        with reported(f"read {self._path(key)}"):
            self._check_root()
            try:
                with directory(self._root_fd, parents, make=False) as parent:
                    fd = os.open(name, _READ, dir_fd=parent)
            except FileNotFoundError:
                raise ObjectMissing(f"no object {self._path(key)}") from None
            try:
                return self._read(fd, key, start, length)
            finally:
                os.close(fd)

    def list(self, prefix: str = "", *, after: str = "") -> Iterator[ObjectInfo]:
        parts = check_prefix(prefix)
        check_prefix(after)
        return self._walk(parts, prefix, after)

    def delete(self, key: str) -> None:
        *parents, name = check_key(key)
        with reported(f"delete {self._path(key)}"):
            self._check_root()
            try:
                with directory(self._root_fd, parents, make=False) as parent:
                    os.unlink(name, dir_fd=parent)
                    sync_directory(parent)
            except (FileNotFoundError, IsADirectoryError):
                return
            self._prune(parents)

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"

    def _check_root(self) -> None:
        try:
            same = _identity(os.stat(self._root)) == self._identity
        except FileNotFoundError:
            same = False
        if not same:
            raise StoreUnavailable(
                f"the store directory {self._root} is not the one that was opened:"
                " it was unmounted, removed or replaced",
                hint="Bring it back; fsnap does not make a store anew while it runs.",
            )

    def _write(self, key: str, data: Buffer, publish: Callable[[int, str, str], None]) -> None:
        *parents, name = check_key(key)
        temporary = f"{_TEMPORARY}{os.getpid()}.{token_hex(8)}"
        with reported(f"write {self._path(key)}"):
            for _ in range(_PRUNE_RACES):
                self._check_root()
                try:
                    with directory(self._root_fd, parents, make=True) as parent:
                        self._sweep_once(parent, tuple(parents))
                        with temporary_file(parent, temporary, data):
                            publish(parent, temporary, name)
                            sync_directory(parent)
                    return
                except FileNotFoundError:
                    continue  # a delete pruned the directory between its making and our file in it
        raise StoreUnavailable(f"cannot write {self._path(key)}: its directory is removed again and again")

    def _read(self, fd: int, key: str, start: int, length: int | None) -> bytes:
        status = os.fstat(fd)
        if stat.S_ISDIR(status.st_mode):
            raise ObjectMissing(f"no object {self._path(key)}")
        if not stat.S_ISREG(status.st_mode):
            raise StoreError(f"cannot read {self._path(key)}: it is not a regular file")
        end = max(start, status.st_size) if length is None else start + length
        if end > status.st_size:
            raise CorruptData(f"{self._path(key)} has {status.st_size} bytes, not the {end} asked for")
        data = read_exactly(fd, start, end - start)
        if len(data) != end - start:
            raise CorruptData(f"{self._path(key)} became shorter while it was read")
        return data

    def _walk(self, parts: Sequence[str], prefix: str, after: str) -> Iterator[ObjectInfo]:
        base = "".join(part + "/" for part in parts)
        with reported(f"list {self._root}/{base}"):
            self._check_root()
            entries = self._entries(parts)
        for entry in entries:
            key = base + entry.order
            if entry.is_directory:
                some_match = key.startswith(prefix) or prefix.startswith(key)
                some_later = key > after or after.startswith(key)
                if some_match and some_later:
                    yield from self._walk((*parts, entry.name), prefix, after)
            elif key.startswith(prefix) and key > after:
                yield ObjectInfo(key=key, size_bytes=entry.size_bytes, modified_s=entry.modified_s)

    def _entries(self, parts: Sequence[str]) -> Sequence[_Entry]:
        """The directory's files and directories (links and others are none of ours), in order."""
        found: list[_Entry] = []
        try:
            with directory(self._root_fd, parts, make=False) as fd, os.scandir(fd) as entries:
                for entry in entries:
                    if not is_key(entry.name) or _NFS_LEFTOVER.fullmatch(entry.name):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        found.append(_Entry(entry.name + "/", entry.name, True, 0, 0.0))
                    elif entry.is_file(follow_symlinks=False):
                        try:
                            status = entry.stat(follow_symlinks=False)
                        except FileNotFoundError:
                            continue  # deleted since
                        found.append(_Entry(entry.name, entry.name, False, status.st_size, status.st_mtime))
        except FileNotFoundError:
            return ()
        return sorted(found)

    def _prune(self, parts: Sequence[str]) -> None:
        """Remove *parts* and the directories above it as far as they are empty.

        A writer that has opened such a directory, but has no file in it yet, sees
        ``FileNotFoundError`` and makes it again; one that has keeps it from being removed.
        """
        for depth in range(len(parts), 0, -1):
            try:
                with directory(self._root_fd, parts[: depth - 1], make=False) as parent:
                    os.rmdir(parts[depth - 1], dir_fd=parent)
            except OSError:
                return  # not empty, mostly; an empty directory that stays does no harm

    def _sweep_once(self, directory_fd: int, parts: tuple[str, ...]) -> None:
        """Remove what writers that died a day ago left there; once per directory and process."""
        with self._sweeping:
            if parts in self._swept:
                return
            self._swept.add(parts)
        oldest_s = self._clock.wall().timestamp() - _STALE_S
        with os.scandir(directory_fd) as entries:
            names = [entry.name for entry in entries if entry.name.startswith(_TEMPORARY)]
        for name in names:
            try:
                if os.stat(name, dir_fd=directory_fd, follow_symlinks=False).st_mtime < oldest_s:
                    os.unlink(name, dir_fd=directory_fd)
            except OSError:
                continue  # its writer is alive after all, or somebody else swept


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
