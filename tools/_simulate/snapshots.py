"""Snapshots without chunks and compression: what the real capture and restore read and write.

A snapshot is packs, named by their digest, and a manifest after them that lists them, as in
``fsnap/snapshots``: a pack that is known to be stored is not put again, the manifest is
written when a listing shows all packs, and a restore checks every digest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from _simulate.node import SimNode
from fsnap.core.manifest import SnapshotAbout
from fsnap.core.values import from_plain, to_plain
from fsnap.errors import CorruptData, ObjectMissing, StoreError
from fsnap.stores.base import Store

UNITS_PER_PACK = 8
FOLDER = "state-0"
UNIT_BYTES = 1 << 20


def digest(data: bytes) -> str:
    """The name of *data*."""
    return hashlib.sha256(data).hexdigest()[:24]


def pack_key(prefix: str, name: str) -> str:
    return f"{prefix}/packs/{name}"


def manifest_key(prefix: str, snapshot_id: str) -> str:
    return f"{prefix}/snapshots/{snapshot_id}/manifest.json"


@dataclass(frozen=True, slots=True)
class Source:
    """A tree to capture; *content* when it was copied in a freeze."""

    name: str
    node: SimNode
    content: tuple[int, ...] | None = None


class SimTrees:
    """Stands in for :class:`fsnap.agent.trees.Trees`: one state dir, and nothing else that travels."""

    def __init__(self, *, settings: Any, mounts: Any, keep: Any, first: Any) -> None:
        self._node: SimNode = keep.node

    def state_names(self) -> list[tuple[str, Any]]:
        return [(FOLDER, self._node)]

    def scratch_names(self, scratch: Path) -> list[tuple[str, Path]]:
        return []

    def excluded(self, state_dir: Any) -> tuple[str, ...]:
        return ()

    def take_baseline(self) -> None:
        self._node.world.scheduler.sleep(0.01)

    def keep_baselines(self) -> None:
        pass

    def load_baselines(self) -> None:
        pass

    def forget_first(self) -> None:
        pass

    def set_baseline(self, name: str, baseline: Any) -> None:
        pass

    def stop(self) -> None:
        pass

    def learn(self, seen: Any) -> None:
        pass

    def file_sources(self) -> list[Source]:
        return [Source(FOLDER, self._node)]

    def all_sources(self, scratch: Path) -> list[Source]:
        return self.file_sources()

    def reread(self, sources: list[Source], mapped: Any) -> list[Source]:
        return sources


def stage(source: Source, staging: Any) -> Source:
    """Copied inside the freeze."""
    return Source(source.name, source.node, tuple(source.node.folder))


def images_source(images: Any) -> Source:
    """What CRIU wrote."""
    node: SimNode = images.node
    return Source("images", node, (node.images,))


@dataclass(slots=True)
class SimKnown:
    """Stands in for :class:`fsnap.snapshots.known.KnownChunks`."""

    packs: set[str] = field(default_factory=set)
    pages: object = None
    """There are no pages in here, so there are no deltas either."""
    key_id: str = ""

    def learn(self, index: Any) -> None:
        for packs in index.trees.values():
            self.packs.update(packs)

    def evict_pack(self, pack_id: str) -> None:
        self.packs.discard(pack_id)


def manifest_packs(store: Store, prefix: str, snapshot_id: str, keys: object = None) -> frozenset[str]:
    """Stands in for the function of :mod:`fsnap.snapshots.prune`."""
    trees = json.loads(store.get(manifest_key(prefix, snapshot_id)))["trees"]
    return frozenset(name for names in trees.values() for name in names)


class SimCapture:
    """Stands in for :class:`fsnap.snapshots.capture.Capture`."""

    def __init__(
        self,
        *,
        store: Store,
        prefix: str,
        snapshot_id: str,
        known: SimKnown,
        clock: Any,
        key: Any = None,
        pace: Any = None,
        learn_pages: bool = True,
        step: Callable[[], None] = lambda: None,
    ) -> None:
        self._step = step
        self._store = store
        self._prefix = prefix
        self._id = snapshot_id
        self._known = known
        self._trees: dict[str, list[str]] = {}
        self._put: set[str] = set()
        self._bytes = 0

    def __enter__(self) -> SimCapture:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def add_tree(self, source: Source, *, fed: Any = None) -> None:
        content = source.node.folder if source.content is None else source.content
        units = list(content)
        names = []
        for start in range(0, len(units), UNITS_PER_PACK):
            names.append(self._add(source.name, units[start : start + UNITS_PER_PACK]))
        self._trees[source.name] = names

    def add_blob(self, name: str, data: bytes) -> None:
        pass

    def _add(self, tree: str, units: list[int]) -> str:
        data = json.dumps([tree, units]).encode()
        name = digest(data)
        self._bytes += len(units)
        self._step()
        if name not in self._known.packs and name not in self._put:
            self._store.put(pack_key(self._prefix, name), data)
            self._put.add(name)
        return name

    def seal_index(self) -> Any:
        return SimpleNamespace(index=SimpleNamespace(trees=dict(self._trees), pack_rows=list), seen=None)

    def _missing(self) -> set[str]:
        """Packs that a listing does not show."""
        folder = pack_key(self._prefix, "")
        there = {row.key.removeprefix(folder) for row in self._store.list(folder)}
        return {name for names in self._trees.values() for name in names} - there

    def publish(self, about: SnapshotAbout) -> Any:
        if self._missing():
            raise StoreError("a pack is missing from the listing")
        sizes = {
            "bytes": self._bytes * UNIT_BYTES,
            "new_bytes": len(self._put) * UNIT_BYTES,
            "stored_bytes": len(self._put) * UNIT_BYTES,
        }
        document = {"about": to_plain(about), "trees": self._trees, "sizes": sizes}
        manifest = json.dumps(document).encode()
        self._store.put(manifest_key(self._prefix, self._id), manifest)
        return SimpleNamespace(manifest_digest=digest(manifest), **sizes)


class SimSnapshot:
    """Stands in for :class:`fsnap.snapshots.fetch.Snapshot`."""

    def __init__(self, store: Store, prefix: str, data: bytes) -> None:
        document = json.loads(data)
        self._store = store
        self._prefix = prefix
        self.about = from_plain(SnapshotAbout, document["about"])
        self.manifest = SimpleNamespace(**document["sizes"])
        self.manifest_digest = digest(data)
        self.index = SimpleNamespace(trees=document["trees"], streams=())

    @classmethod
    def open(
        cls, *, store: Store, prefix: str, snapshot_id: str, manifest_digest: str | None, keys: Any = None
    ) -> SimSnapshot:
        try:
            data = store.get(manifest_key(prefix, snapshot_id))
        except ObjectMissing as missing:
            raise CorruptData(f"the manifest of {snapshot_id} is missing") from missing
        if manifest_digest is not None and digest(data) != manifest_digest:
            raise CorruptData(f"the manifest of {snapshot_id} is not the journal's")
        return cls(store, prefix, data)

    def verify(self) -> Any:
        """Is every byte there and right?"""
        try:
            for name in self.index.trees:
                self._content(name)
        except (CorruptData, ObjectMissing):
            return SimpleNamespace(ok=False)
        return SimpleNamespace(ok=True)

    def _content(self, name: str) -> list[int]:
        found: list[int] = []
        for pack in self.index.trees[name]:
            data = self._store.get(pack_key(self._prefix, pack))
            if digest(data) != pack:
                raise CorruptData(f"pack {pack} is damaged")
            found += json.loads(data)[1]
        return found

    def removes(self, name: str) -> bool:
        return False

    def restore_tree(
        self, name: str, where: Any, *, remove_recorded: frozenset[str] = frozenset(), without: Any = ()
    ) -> None:
        node: SimNode = where.node
        content = self._content(name)
        if name == "images":
            node.images, node.images_of = content[0], self.about.snapshot_id
        else:
            node.world.checks.writes(node)
            node.folder[:] = content

    def check_inputs(self, name: str, where: Any) -> list[Any]:
        return []

    def rebase_baseline(self, name: str, where: Any, excluded: Any) -> None:
        return None

    def recorded_paths(self, name: str) -> frozenset[str]:
        return frozenset()

    def read_blob(self, name: str) -> bytes:
        return b""
