"""Writing a snapshot: trees, blobs and files into packs, then the index, then the manifest.

Nothing here commits anything: a snapshot counts once the journal pins the digest that
:meth:`Capture.publish` returns.  Memory is bounded as :mod:`fsnap.snapshots.sink` says.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from fsnap.clock import Clock, SystemClock
from fsnap.core import manifest as manifests
from fsnap.core.manifest import Manifest, PackEntry, SnapshotAbout
from fsnap.errors import CorruptData, ObjectExists
from fsnap.keys import Key
from fsnap.snapshots import codec, layout
from fsnap.snapshots.cut import ByteCutter, PageCutter
from fsnap.snapshots.errors import CaptureFailed, PacksMissing, UnreadableFile
from fsnap.snapshots.feeder import Feeder, Fill
from fsnap.snapshots.headroom import Width, fitting_width, headroom_bytes, processors
from fsnap.snapshots.index import Index, StreamHead
from fsnap.snapshots.indexfile import IndexBuilder, decode_index, encode_index
from fsnap.snapshots.known import KnownChunks
from fsnap.snapshots.pace import Pace
from fsnap.snapshots.reading import bytes_reader, reader
from fsnap.snapshots.records import StagedTree, record_tree
from fsnap.snapshots.sealing import SnapshotSeal, seal_manifest
from fsnap.snapshots.seen import Extent, Seen, SeenFiles
from fsnap.snapshots.sink import ChunkSink
from fsnap.snapshots.treecapture import TreeCapture
from fsnap.snapshots.trees import TreeSource, TreeStats

if TYPE_CHECKING:
    from fsnap.stores.base import Store

MAX_FED_BYTES = 1 << 50
"""More than any process has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """A snapshot whose every byte but the manifest is in the store."""

    index_digest: str
    index_bytes: int
    bytes: int
    new_bytes: int
    stored_bytes: int
    packs: tuple[PackEntry, ...]
    index: Index
    """As read back from its own bytes."""
    seen: dict[str, Seen]
    """Per tree, what the next capture may take as unchanged, once this one is committed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A snapshot whose manifest is in the store and was read back."""

    manifest_digest: str
    """BLAKE3-256 of the manifest object, 64 hex digits: what the journal pins."""
    bytes: int
    new_bytes: int
    stored_bytes: int


class Capture:
    """One snapshot being written.  Not committed until the journal says so.

    For one thread, except that :meth:`abort` may come from any.  As a context manager it aborts what
    was not published; called off, it does not wait for the packs that are on their way.  Errors:
    :class:`UnreadableFile` and other ``CaptureFailed`` for the trees, the store's own for the store.

    *pace* carries what was learnt about the store from one capture to the next.

    *step* is called every few MiB and several times a second; what it raises calls the capture off.
    *learn_pages*: later snapshots of this process may store deltas upon the chunks of this one.  *width*:
    how many things are done at once; by default what processors and the container's memory allow.
    """

    def __init__(
        self,
        *,
        store: Store,
        prefix: str,
        snapshot_id: str,
        known: KnownChunks,
        width: Width | None = None,
        pace: Pace | None = None,
        step: Callable[[], None] = lambda: None,
        clock: Clock | None = None,
        key: Key | None = None,
        learn_pages: bool = True,
    ) -> None:
        if not layout.is_snapshot_id(snapshot_id):
            raise ValueError(f"{snapshot_id!r} cannot name a snapshot")
        if known.key_id != (key.id if key else ""):
            raise ValueError("the known chunks are sealed with another key")
        self._seal = None if key is None else SnapshotSeal(key, prefix)
        self._manifest: tuple[Manifest, bytes] | None = None
        self._store = store
        self._prefix = prefix
        self._snapshot_id = snapshot_id
        self._known = known
        self._clock = clock or SystemClock()
        self._given_step = step
        self._called_off = False
        fits = width or fitting_width(processors(), headroom_bytes())
        self._sink = ChunkSink(
            store=store,
            prefix=prefix,
            known=known,
            threads=fits.threads,
            pace=pace or Pace(),
            connections=fits.connections,
            seal=self._seal,
            learn_pages=learn_pages,
            step=self._step,
        )
        self._feeder = Feeder(self._sink)
        self._builder = IndexBuilder()
        self._names: set[str] = set()
        self._whole = True
        self._seen: dict[str, SeenFiles] = {}
        self._sealed: Sealed | None = None

    def __enter__(self) -> Capture:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sink.stop(wait=not self._called_off)

    @property
    def new_bytes(self) -> int:
        """Content so far, before compression, that no committed snapshot had."""
        return self._sink.new_bytes

    @property
    def put_bytes(self) -> int:
        """Bytes of packs that the store has acknowledged."""
        return self._sink.put_bytes

    def feed_pages(self, name: str, fill: Fill) -> list[Extent]:
        """Take one pages image from *fill* to its end, before the tree that it belongs to is added.

        Where it lies, for the *fed* of :meth:`add_tree`.
        """
        self._take_name(f"pages {name}")
        self._feeder.begin(PageCutter())
        stream_at = self._feeder.position
        length = self._feeder.feed(fill, MAX_FED_BYTES)
        self._feeder.end()
        self._whole = True
        return [(0, length, stream_at)] if length else []

    def add_tree(
        self, source: TreeSource | StagedTree, *, fed: Mapping[str, list[Extent]] | None = None
    ) -> TreeStats:
        """Capture one tree.  :class:`UnreadableFile` names what vanished, changed or refused.

        Paths in *fed* are not read: :meth:`feed_pages` took their content, and what the tree has there is
        a file of that length.
        """
        tree = source if isinstance(source, StagedTree) else record_tree(source, self._clock)
        if not layout.is_tree_name(tree.source.name):
            raise ValueError(f"{tree.source.name!r} cannot name a tree")
        self._take_name(f"tree {tree.source.name}")
        work = TreeCapture(
            tree=tree,
            known=self._known,
            sink=self._sink,
            feeder=self._feeder,
            builder=self._builder,
            step=self._step,
            fed=fed or {},
        )
        stats, seen = work.run()
        self._seen[tree.source.name] = seen
        self._whole = True
        return stats

    def add_blob(self, name: str, data: bytes) -> None:
        """Store a small document with the snapshot."""
        self._add_stream(name, bytes_reader(data), len(data), where=name)

    def add_file(self, name: str, path: Path, length: int) -> None:
        """Store the first *length* bytes of *path*, which may grow meanwhile but not shrink."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise UnreadableFile(f"{path} cannot be read: {error.strerror}") from error
        try:
            self._add_stream(name, reader(fd, 0), length, where=str(path))
        except OSError as error:
            raise UnreadableFile(f"{path} cannot be read: {error.strerror}") from error
        finally:
            os.close(fd)

    def seal_index(self) -> Sealed:
        """Finish the packs, put the index, and see in a listing that every pack is there, whole.

        Raises :class:`PacksMissing` when one is not; the capture is of no use then.
        """
        if not self._whole:
            raise CaptureFailed("an earlier part of this capture failed")
        self._sink.flush()
        packs, chunks, refs = self._sink.tables()
        index = self._builder.build(packs=packs, chunks=chunks, refs=refs)
        key = layout.index_key(self._prefix, self._snapshot_id)
        data = encode_index(index, seal=self._seal, name=key)
        index = decode_index(data, where=key, seal=self._seal, name=key)
        self._step()
        self._store.put(key, data)
        self._step()
        self._check_listing(index, key, len(data))
        self._sink.stop()
        self._sealed = Sealed(
            index_digest=codec.hexdigest(data),
            index_bytes=len(data),
            bytes=index.content_bytes,
            new_bytes=self._sink.new_bytes,
            stored_bytes=self._sink.put_bytes + len(data),
            packs=tuple(PackEntry(id=pack.id, bytes=pack.bytes) for pack in index.pack_rows()),
            index=index,
            seen={name: Seen(index=index, files=files) for name, files in self._seen.items()},
        )
        return self._sealed

    def publish(self, about: SnapshotAbout) -> Published:
        """Write the manifest, the last object, and read it back.

        May be repeated with the same *about*; with another one it raises :class:`CorruptData`, since a
        manifest is never replaced.
        """
        sealed = self._sealed
        if sealed is None or about.snapshot_id != self._snapshot_id:
            raise ValueError("publish() follows seal_index(), with the same snapshot id")
        manifest = Manifest(
            about=about,
            index_digest=sealed.index_digest,
            index_bytes=sealed.index_bytes,
            packs=sealed.packs,
            bytes=sealed.bytes,
            new_bytes=sealed.new_bytes,
            stored_bytes=sealed.stored_bytes,
        )
        key = layout.manifest_key(self._prefix, self._snapshot_id)
        data = self._manifest_data(manifest, key)
        try:
            self._store.create(key, data)
        except ObjectExists:
            pass  # a create whose answer was lost, or another manifest: the comparison tells
        if self._store.get(key) != data:
            raise CorruptData(f"{key} reads back differently from what was written")
        return Published(
            manifest_digest=codec.hexdigest(data),
            bytes=sealed.bytes,
            new_bytes=sealed.new_bytes,
            stored_bytes=sealed.stored_bytes,
        )

    def _manifest_data(self, manifest: Manifest, key: str) -> bytes:
        """The same bytes for the same manifest, though sealing twice gives different ones."""
        if self._manifest is None or self._manifest[0] != manifest:
            plain = manifests.encode(manifest)
            manifests.decode(plain, where=key)
            data = plain if self._seal is None else seal_manifest(plain, self._seal.key, key)
            self._manifest = (manifest, data)
        return self._manifest[1]

    def abort(self) -> None:
        """Stop the threads; nothing more is put once this returns."""
        self._sink.stop()

    def _add_stream(self, name: str, fill: Fill, length: int, *, where: str) -> None:
        if not layout.is_stream_name(name):
            raise ValueError(f"{name!r} cannot name a stream")
        self._take_name(f"stream {name}")
        self._feeder.begin(ByteCutter())
        stream_at = self._feeder.position
        if self._feeder.feed(fill, length) != length:
            raise UnreadableFile(f"{where} has less than the {length} bytes to store")
        self._feeder.end()
        self._builder.streams.append(StreamHead(name=name, stream_at=stream_at, length=length))
        self._whole = True

    def _step(self) -> None:
        try:
            self._given_step()
        except BaseException:
            self._called_off = True
            raise

    def _take_name(self, name: str) -> None:
        if name in self._names:
            raise ValueError(f"{name} was added before")
        self._names.add(name)
        self._whole = False

    def _check_listing(self, index: Index, index_key: str, index_bytes: int) -> None:
        prefix = layout.packs_prefix(self._prefix)
        sizes = {info.key: info.size_bytes for info in self._store.list(prefix)}
        missing = [
            pack.id
            for pack in index.pack_rows()
            if sizes.get(layout.pack_key(self._prefix, pack.id)) != pack.bytes
        ]
        for pack_id in missing:
            self._known.evict_pack(pack_id)
        if missing:
            raise PacksMissing(f"{len(missing)} packs of {self._prefix} are not listed: {missing[0]} …")
        listed = [info.size_bytes for info in self._store.list(index_key) if info.key == index_key]
        if listed != [index_bytes]:
            raise PacksMissing(f"{index_key} is not in the listing, or not whole")
