"""What is in a directory, as values that can be compared and put back."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

BLOCK_BYTES = 512
"""The unit of ``st_blocks`` (stat(2))."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One path of a directory; times are left out where they can't be equal in two runs."""

    kind: int
    """``stat.S_IFMT`` of its mode."""
    mode: int
    uid: int
    gid: int
    content: str
    """SHA-256 of a file, the target of a symlink."""
    size_bytes: int
    xattrs: tuple[tuple[str, bytes], ...]
    links: tuple[str, ...]
    """All names, within the directory, of a file that has more than one."""


def describe(folder: Path) -> dict[str, Entry]:
    """Every path below *folder*, relative; inodes become the groups of names that share them."""
    names: dict[tuple[int, int], list[str]] = {}
    found: dict[str, os.stat_result] = {}
    for top, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(top, name)
            relative = str(path.relative_to(folder))
            info = path.lstat()
            found[relative] = info
            if not stat.S_ISDIR(info.st_mode):
                names.setdefault((info.st_dev, info.st_ino), []).append(relative)
    return {
        relative: _entry(folder / relative, info, names.get((info.st_dev, info.st_ino), []))
        for relative, info in sorted(found.items())
    }


def _entry(path: Path, info: os.stat_result, names: list[str]) -> Entry:
    return Entry(
        kind=stat.S_IFMT(info.st_mode),
        mode=stat.S_IMODE(info.st_mode),
        uid=info.st_uid,
        gid=info.st_gid,
        content=_content(path, info),
        size_bytes=info.st_size if stat.S_ISREG(info.st_mode) else 0,
        xattrs=tuple(
            (name, os.getxattr(path, name, follow_symlinks=False))
            for name in sorted(os.listxattr(path, follow_symlinks=False))
        ),
        links=tuple(sorted(names)) if len(names) > 1 else (),
    )


def _content(path: Path, info: os.stat_result) -> str:
    if stat.S_ISLNK(info.st_mode):
        return os.readlink(path)
    if not stat.S_ISREG(info.st_mode):
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def wipe(folder: Path) -> None:
    """Empty *folder*, itself kept, as a fresh node has it."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def has_holes(path: Path) -> bool:
    """Less is allocated than its size says."""
    info = path.stat()
    return info.st_blocks * BLOCK_BYTES < info.st_size
