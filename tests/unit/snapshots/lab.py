"""What the snapshot tests share: one store, captures and restores in a line each, and trees as values."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from fsnap.core.manifest import SnapshotAbout
from fsnap.keys import KeyRing
from fsnap.snapshots.capture import Capture, Published, Sealed
from fsnap.snapshots.fetch import Snapshot
from fsnap.snapshots.known import KnownChunks
from fsnap.snapshots.reading import data_ranges
from fsnap.snapshots.records import StagedTree
from fsnap.snapshots.trees import TreeSource, TreeStats
from fsnap.stores.memory import MemoryStore

PREFIX = "tasks/t1"


def about(snapshot_id: str, **fields: Any) -> SnapshotAbout:
    defaults: dict[str, Any] = {
        "task": "t1",
        "epoch": 1,
        "seq": 7,
        "final": True,
        "created_at": "2026-11-21T22:09:52.123Z",
        "command": ("sort", "in.txt"),
        "cwd": "/data",
    }
    return SnapshotAbout(snapshot_id=snapshot_id, **{**defaults, **fields})


class Lab:
    """One task's store and the process that captures into it."""

    def __init__(self, store: MemoryStore | None = None, keys: KeyRing | None = None) -> None:
        self.store = store or MemoryStore()
        self.keyring = keys
        self.known = KnownChunks(key_id=keys.first.id if keys else "")
        self.published: dict[str, Published] = {}
        self.stats: list[TreeStats] = []

    def capture(
        self,
        snapshot_id: str,
        *trees: TreeSource | StagedTree,
        more: Callable[[Capture], None] = lambda capture: None,
        commit: bool = True,
    ) -> Sealed:
        """Capture, publish and, unless told otherwise, count as committed."""
        with Capture(
            store=self.store,
            prefix=PREFIX,
            snapshot_id=snapshot_id,
            known=self.known,
            key=self.keyring.first if self.keyring else None,
        ) as capture:
            self.stats = [capture.add_tree(tree) for tree in trees]
            more(capture)
            sealed = capture.seal_index()
            self.published[snapshot_id] = capture.publish(about(snapshot_id))
        if commit:
            self.known.learn(sealed.index)
        return sealed

    def open(self, snapshot_id: str) -> Snapshot:
        """As a claimant opens it, with the digest out of the journal."""
        digest = self.published[snapshot_id].manifest_digest
        return Snapshot.open(
            store=self.store,
            prefix=PREFIX,
            snapshot_id=snapshot_id,
            manifest_digest=digest,
            keys=self.keyring,
        )

    def keys(self, part: str = "") -> list[str]:
        """Keys of the objects whose key contains *part*."""
        return [info.key for info in self.store.list() if part in info.key]

    def damage(self, key: str, at: int, flip: int = 0x01) -> None:
        """Flip bits of one byte of an object."""
        data = bytearray(self.store.get(key))
        data[at] ^= flip
        self.store.put(key, data)


def tree(root: Path, **fields: Any) -> TreeSource:
    """A source called ``state-0``."""
    return TreeSource(**{"name": "state-0", "root": root, **fields})


def look(root: Path, *, holes: bool = True) -> dict[str, dict[str, Any]]:
    """All that a restore has to bring back, by path; equal trees give equal values."""
    names: dict[tuple[int, int], str] = {}
    found = {}
    walked = [os.path.join(top, name) for top, dirs, files in os.walk(root) for name in dirs + files]
    paths = ["", *sorted(os.path.relpath(path, root) for path in walked)]
    for path in paths:
        full = os.path.join(root, path) if path else str(root)
        state = os.lstat(full)
        row: dict[str, Any] = {
            "type": stat.S_IFMT(state.st_mode),
            "mode": stat.S_IMODE(state.st_mode),
            "owner": (state.st_uid, state.st_gid),
            "mtime_ns": state.st_mtime_ns,
            "xattrs": {n: os.getxattr(full, n, follow_symlinks=False) for n in _xattrs(full)},
        }
        if stat.S_ISREG(state.st_mode):
            row |= _content(full, state.st_size, holes)
        if stat.S_ISLNK(state.st_mode):
            row["target"] = os.readlink(full)
        if stat.S_ISCHR(state.st_mode) or stat.S_ISBLK(state.st_mode):
            row["rdev"] = state.st_rdev
        if not stat.S_ISDIR(state.st_mode):
            row["first_name"] = names.setdefault((state.st_dev, state.st_ino), path)
        found[path] = row
    return found


def _xattrs(path: str) -> list[str]:
    return sorted(os.listxattr(path, follow_symlinks=False))


def _content(path: str, size: int, holes: bool) -> dict[str, Any]:
    with open(path, "rb") as file:
        ranges = data_ranges(file.fileno(), 0, size) if holes else None
        file.seek(0)
        return {"content": file.read(), "ranges": ranges}


def contents(root: Path) -> dict[str, bytes]:
    """Path to content of the regular files."""
    return {path: cast(bytes, row["content"]) for path, row in look(root).items() if "content" in row}


def fill(root: Path, files: dict[str, bytes]) -> None:
    """Write *files* below *root*, directories as needed."""
    for path, data in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
