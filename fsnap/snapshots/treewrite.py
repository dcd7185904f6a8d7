"""Making a directory's recorded paths exactly what a tree of a snapshot says.

Order: what must go is removed, then directories, then everything else is made anew (an
existing file is unlinked, never written through: it may have other names), then content,
then owners, modes, attributes and times, directories last and deepest first.  Files are
not synced: the copy that counts is the one in the store.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from fsnap.snapshots import attributes, beneath
from fsnap.snapshots.errors import RestoreTargetFailed
from fsnap.snapshots.index import Index
from fsnap.snapshots.tables import EntryRow, Kind

_NODES = {
    Kind.FIFO: stat.S_IFIFO,
    Kind.SOCKET: stat.S_IFSOCK,
    Kind.CHAR: stat.S_IFCHR,
    Kind.BLOCK: stat.S_IFBLK,
}
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_WRITE_FLAGS = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC


class TreeWriter:
    """One tree below one directory.  :meth:`prepare`, then the content, then :meth:`finish`."""

    def __init__(self, *, index: Index, name: str, root_fd: int, where: str) -> None:
        self._index = index
        self._overlay = index.trees[name].kind == "overlay-upper"
        self._root_fd = root_fd
        self._where = where
        self._first = index.trees[name].first
        self._name = name
        self.displaced: list[str] = []
        """Where directories with unknown files went that stood where the snapshot has no directory."""

    def prepare(self, remove: Iterable[str]) -> None:
        """Remove what must go and make every path, empty."""
        wanted = {path for path in remove if beneath.is_safe_path(os.fsencode(path))}
        for _, path, row in self._entries():
            if row.kind == Kind.GONE:
                wanted.add(path)
            else:
                wanted.discard(path)
        for path in sorted(wanted, key=_depth, reverse=True):
            self._remove(path)
        for kinds in ((Kind.DIR,), (Kind.FILE, Kind.SYMLINK, *_NODES), (Kind.LINK,)):
            for _, path, row in self._entries():
                if path and row.kind in kinds:
                    with self._at(path) as (fd, name):
                        self._make(fd, name, path, row)

    def remove_recorded(self) -> None:
        """Remove what the tree has, as if it had never been made; what it does not have stays."""
        for path in sorted(self._index.recorded_paths(self._name), key=_depth, reverse=True):
            self._remove(path)

    def write(self, number: int, at: int, data: memoryview) -> None:
        """Put *data* at byte *at* of the file whose entry has this number."""
        path = self.path(number)
        with self._at(path) as (parent_fd, name):
            fd = os.open(name, _WRITE_FLAGS, dir_fd=parent_fd)
            try:
                while data:
                    count = os.pwrite(fd, data, at)
                    data, at = data[count:], at + count
            finally:
                os.close(fd)

    def path(self, number: int) -> str:
        """The path of the entry with this number."""
        row = self._index.row(number)
        return os.fsdecode(self._index.text(row.path_at, row.path_len))

    def _entries(self) -> Iterator[tuple[int, str, EntryRow]]:
        return self._index.tree_entries(self._name)

    def finish(self) -> None:
        """Owners, modes, attributes, times."""
        for _, path, row in self._entries():
            if row.kind in (Kind.FILE, Kind.SYMLINK, *_NODES):
                with self._at(path) as (fd, name):
                    self._dress(fd, name, row)
        directories = [(path, row) for _, path, row in self._entries() if path and row.kind == Kind.DIR]
        for path, row in sorted(directories, key=lambda item: _depth(item[0]), reverse=True):
            with self._at(path) as (fd, name):
                self._dress(fd, name, row)
        with self._reported(""):
            self._dress_root(self._index.row(self._first))

    def _remove(self, path: str) -> None:
        """Unlink *path* if it is there; a directory only if nothing is in it."""
        with self._reported(path):
            try:
                with beneath.opened_parent(self._root_fd, path) as (fd, name):
                    if stat.S_ISDIR(os.lstat(name, dir_fd=fd).st_mode):
                        os.rmdir(name, dir_fd=fd)
                    else:
                        os.unlink(name, dir_fd=fd)
            except OSError as error:
                if error.errno not in (*_ABSENT, errno.ENOTEMPTY, errno.EEXIST):
                    raise

    def _make(self, fd: int, name: str, path: str, row: EntryRow) -> None:
        if row.kind == Kind.DIR and self._is_dir(fd, name):
            return
        try:
            self._create(fd, name, row)
        except FileExistsError:
            self._clear(fd, name, path)
            self._create(fd, name, row)

    def _create(self, fd: int, name: str, row: EntryRow) -> None:
        """Make a new inode, or a new name of one; nothing that is there is touched."""
        kind = Kind(row.kind)
        if kind == Kind.DIR:
            os.mkdir(name, 0o700, dir_fd=fd)
        elif kind == Kind.FILE:
            new = os.open(name, _WRITE_FLAGS | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=fd)
            try:
                os.ftruncate(new, row.size)
            finally:
                os.close(new)
        elif kind == Kind.SYMLINK:
            os.symlink(self._index.text(row.aux_at, row.aux_len), os.fsencode(name), dir_fd=fd)
        elif kind == Kind.LINK:
            with beneath.opened_parent(self._root_fd, self.path(row.link)) as (there_fd, there):
                os.link(there, name, src_dir_fd=there_fd, dst_dir_fd=fd, follow_symlinks=False)
        else:
            os.mknod(name, 0o600 | _NODES[kind], row.rdev, dir_fd=fd)

    def _is_dir(self, fd: int, name: str) -> bool:
        try:
            return stat.S_ISDIR(os.lstat(name, dir_fd=fd).st_mode)
        except FileNotFoundError:
            return False

    def _clear(self, fd: int, name: str, path: str) -> None:
        """Make room for a new inode; a directory that is not empty is moved aside, not deleted."""
        try:
            if not self._is_dir(fd, name):
                os.unlink(name, dir_fd=fd)
                return
            os.rmdir(name, dir_fd=fd)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            self._displace(fd, name, path)

    def _displace(self, fd: int, name: str, path: str) -> None:
        above = path.rpartition("/")[0]
        for number in range(1000):
            aside = f".fsnap-displaced.{number}"
            try:
                os.lstat(aside, dir_fd=fd)
            except FileNotFoundError:
                os.rename(name, aside, src_dir_fd=fd, dst_dir_fd=fd)
                self.displaced.append(f"{above}/{aside}" if above else aside)
                return
        raise OSError(errno.EEXIST, "too many displaced directories")

    def _dress(self, fd: int, name: str, row: EntryRow) -> None:
        """Owner first, since a change of owner clears set-id bits and capabilities."""
        state = os.lstat(name, dir_fd=fd)
        uid, gid, mode = row.uid, row.gid, row.mode
        if (state.st_uid, state.st_gid) != (uid, gid):
            os.chown(name, uid, gid, dir_fd=fd, follow_symlinks=False)
        attributes.apply(
            f"/proc/self/fd/{fd}/{name}", self._index.entry_xattrs(row), overlay_upper=self._overlay
        )
        if row.kind != Kind.SYMLINK:
            os.chmod(name, mode, dir_fd=fd)
        times = (row.atime_ns, row.mtime_ns)
        os.utime(name, ns=times, dir_fd=fd, follow_symlinks=False)

    def _dress_root(self, row: EntryRow) -> None:
        state = os.fstat(self._root_fd)
        if (state.st_uid, state.st_gid) != (row.uid, row.gid):
            os.fchown(self._root_fd, row.uid, row.gid)
        attributes.apply(self._root_fd, self._index.entry_xattrs(row), overlay_upper=self._overlay)
        os.fchmod(self._root_fd, row.mode)
        os.utime(self._root_fd, ns=(row.atime_ns, row.mtime_ns))

    @contextmanager
    def _at(self, path: str) -> Iterator[tuple[int, str]]:
        with self._reported(path), beneath.opened_parent(self._root_fd, path) as place:
            yield place

    @contextmanager
    def _reported(self, path: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            what = f"{path!r} cannot be restored: {error.strerror}"
            raise RestoreTargetFailed(f"{self._where}: {what}") from error


def _depth(path: str) -> int:
    return path.count("/")
