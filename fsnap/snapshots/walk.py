"""Walking a directory tree: names in order, states without following links, one mount only.

Parents come before what they hold; names are ordered by their bytes, so that two walks
of equal trees agree.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from fsnap.snapshots.beneath import DIR_FLAGS, opened_root
from fsnap.snapshots.errors import CaptureFailed, UnreadableFile

MAX_DEPTH = 500
"""Directories nested deeper are refused: each holds a descriptor while the walk is below it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One thing that the walk met."""

    path: str
    """Relative to the root; ``""`` is the root itself."""
    parent_fd: int
    """Open until the walk goes on; for the root, its own descriptor."""
    name: str
    """Below ``parent_fd``; ``"."`` for the root."""
    state: os.stat_result


@dataclass(slots=True)
class Skipped:
    """What the walk passed over although no pattern asked for it."""

    paths: list[str] = field(default_factory=list)


def excluded(path: str, patterns: tuple[str, ...]) -> bool:
    """Whether a pattern names *path*.

    One without ``/`` names the last component wherever it is, one that begins with ``/`` a path from the
    root on, any other the whole relative path.
    """
    name = path.rpartition("/")[2]
    return any(
        fnmatchcase(path if "/" in pattern else name, pattern.removeprefix("/")) for pattern in patterns
    )


def walk(
    root: Path, exclude: tuple[str, ...] = (), *, skipped: Skipped | None = None, live: bool = False
) -> Iterator[Found]:
    """Everything below *root*, the root first.

    Other mounts are not entered, and noted in *skipped*.  What vanishes meanwhile raises
    :class:`UnreadableFile`, unless the tree is *live*: then it counts as never there.
    """
    try:
        with opened_root(root) as root_fd:
            yield Found(path="", parent_fd=root_fd, name=".", state=os.fstat(root_fd))
            yield from _Walk(exclude, skipped or Skipped(), live).below(root_fd)
    except OSError as error:
        raise UnreadableFile(f"{root} cannot be read: {error.strerror}") from error


class _Walk:
    def __init__(self, exclude: tuple[str, ...], skipped: Skipped, live: bool) -> None:
        self._exclude = exclude
        self._skipped = skipped
        self._live = live

    def below(self, root_fd: int) -> Iterator[Found]:
        mount = _mount_id(root_fd)
        stack: list[tuple[str, int, Iterator[str]]] = [("", root_fd, iter(_names(root_fd)))]
        try:
            while stack:
                above, fd, names = stack[-1]
                name = next(names, None)
                if name is None:
                    stack.pop()
                    if fd != root_fd:
                        os.close(fd)
                    continue
                path = f"{above}/{name}" if above else name
                if excluded(path, self._exclude):
                    continue
                found = self._look(path, fd, name)
                if found is None:
                    continue
                deeper = self._enter(found, mount, len(stack)) if stat.S_ISDIR(found.state.st_mode) else None
                if deeper is None and stat.S_ISDIR(found.state.st_mode):
                    continue
                if deeper is not None:
                    stack.append((path, deeper, iter(())))
                yield found
                if deeper is not None:
                    stack[-1] = (path, deeper, iter(_names(deeper)))
        finally:
            for _, fd, _ in stack:
                if fd != root_fd:
                    os.close(fd)

    def _look(self, path: str, fd: int, name: str) -> Found | None:
        try:
            return Found(path=path, parent_fd=fd, name=name, state=os.lstat(name, dir_fd=fd))
        except OSError as error:
            if self._live and isinstance(error, FileNotFoundError):
                return None
            raise UnreadableFile(f"{path!r} cannot be read: {error.strerror}") from error

    def _enter(self, found: Found, mount: str, depth: int) -> int | None:
        """A descriptor of the directory, or None where it is passed over."""
        if depth >= MAX_DEPTH:
            raise CaptureFailed(f"{found.path[:200]!r}… is nested more than {MAX_DEPTH} directories deep")
        try:
            fd = os.open(found.name, DIR_FLAGS, dir_fd=found.parent_fd)
        except OSError as error:
            if self._live and isinstance(error, FileNotFoundError):
                return None
            raise UnreadableFile(f"{found.path!r} cannot be read: {error.strerror}") from error
        if _mount_id(fd) != mount:
            os.close(fd)
            self._skipped.paths.append(found.path)
            return None
        return fd


def _names(fd: int) -> list[str]:
    return sorted(os.listdir(fd), key=os.fsencode)


def _mount_id(fd: int) -> str:
    """The id of the mount that *fd* is on (proc(5), ``fdinfo``); a device number does not tell binds."""
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as info:
        return next(line.split()[1] for line in info if line.startswith("mnt_id:"))
