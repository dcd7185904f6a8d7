"""Reading a snapshot back, verified.

A manifest is used only if its digest is the one that the journal pins, an index only if
its digest is the manifest's, and a chunk only if its digest is the index's.  With keys, all
three must be sealed with one of them, as the objects that they are; without, none is.  An object
that is damaged or missing raises :class:`~fsnap.errors.CorruptData`, which names it; then
nothing counts as restored, and the caller restores an older snapshot over it.
"""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Callable, Container, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from fsnap.core.manifest import Manifest, PackEntry, SnapshotAbout
from fsnap.errors import CorruptData, NewerSchema, ObjectMissing
from fsnap.keys import KeyRing
from fsnap.snapshots import baseline, beneath, codec, layout
from fsnap.snapshots.baseline import Baseline
from fsnap.snapshots.errors import RestoreTargetFailed
from fsnap.snapshots.index import Index, StreamHead
from fsnap.snapshots.indexfile import decode_index
from fsnap.snapshots.ordered import OrderedReader
from fsnap.snapshots.packread import PackReader, Range, for_each
from fsnap.snapshots.sealing import SnapshotSeal, open_manifest
from fsnap.snapshots.tables import EntryRow, Kind
from fsnap.snapshots.treewrite import TreeWriter

if TYPE_CHECKING:
    from fsnap.stores.base import Buffer, Store

MAX_BLOB_BYTES = 1 << 30
THREADS = 4
"""Of a restore; each holds a range of a pack (16 MiB) and a chunk."""

MAX_FEED_THREADS = 16
FEED_THREADS_PER_CPU = 2
"""Of ordered reading: most of their time they wait for the store."""


Problem = Literal["missing", "size", "digest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What a full check found."""

    packs: int
    chunks: int
    bytes: int
    """Stored bytes read."""
    problems: tuple[str, ...]
    """One line per damaged or missing pack; empty when every byte is as it was written."""
    bad_packs: tuple[str, ...]
    """Their ids, for ``KnownChunks.evict_pack``."""

    @property
    def ok(self) -> bool:
        """Whether nothing was wrong."""
        return not self.problems


@dataclass(frozen=True, slots=True, kw_only=True)
class InputProblem:
    """A file that the task was started with and that is not here as it was."""

    path: str
    problem: Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreReport:
    """What a restore had to do beside the plain."""

    displaced: tuple[str, ...]
    """Where directories with unknown files went that stood where the snapshot has none."""


class Snapshot:
    """A snapshot whose manifest and index were verified."""

    def __init__(
        self,
        *,
        store: Store,
        prefix: str,
        manifest: Manifest,
        index: Index,
        manifest_digest: str,
        seal: SnapshotSeal | None = None,
    ) -> None:
        self._store = store
        self._prefix = prefix
        self._reader = PackReader(store=store, prefix=prefix, index=index, seal=seal)
        self.manifest = manifest
        self.manifest_digest = manifest_digest
        self.about: SnapshotAbout = manifest.about
        self.index = index

    @classmethod
    def open(
        cls,
        *,
        store: Store,
        prefix: str,
        snapshot_id: str,
        manifest_digest: str | None,
        keys: KeyRing | None = None,
    ) -> Snapshot:
        """Read and verify manifest and index.

        *manifest_digest* is what the journal pins; None only to adopt a snapshot that lacks its record.
        Raises :class:`CorruptData` when something is damaged or missing, :class:`NewerSchema`, and a
        :class:`~fsnap.errors.SealError` when it and *keys* do not go together.
        """
        key = layout.manifest_key(prefix, snapshot_id)
        data = _get(store, key)
        digest = codec.hexdigest(data)
        if manifest_digest is not None and digest != manifest_digest:
            raise CorruptData(f"{key} is not the manifest that the journal names")
        manifest, seal = open_manifest(data, keys, prefix=prefix, snapshot_id=snapshot_id, where=key)
        key = layout.index_key(prefix, snapshot_id)
        data = _get(store, key)
        if len(data) != manifest.index_bytes or codec.hexdigest(data) != manifest.index_digest:
            raise CorruptData(f"{key} is damaged: it does not match the digest in its manifest")
        index = decode_index(data, where=key, seal=seal, name=key)
        listed = [(pack.id, pack.bytes) for pack in manifest.packs]
        if listed != [(pack.id, pack.bytes) for pack in index.pack_rows()]:
            raise CorruptData(f"{key} and its manifest name different packs")
        if index.content_bytes != manifest.bytes:
            raise CorruptData(f"{key} and its manifest disagree about the content's size")
        return cls(
            store=store, prefix=prefix, manifest=manifest, index=index, manifest_digest=digest, seal=seal
        )

    def verify(self, progress: Callable[[int, int], None] | None = None) -> VerifyReport:
        """Read every pack whole; check its name and each chunk.

        Damage is reported, not raised; what the store does not answer is raised.  *progress* gets bytes
        done and bytes in all.
        """
        total = sum(pack.bytes for pack in self.manifest.packs)
        of_pack: dict[int, list[int]] = defaultdict(list)
        for number, (pack, kind) in enumerate(self.index.chunks[["pack", "codec"]].tolist()):
            if kind & codec.KINDS not in (codec.ZERO, codec.DELTA):
                of_pack[pack].append(number)
        packs = self.manifest.packs
        done = 0
        problems, bad = [], []
        with ThreadPoolExecutor(THREADS, thread_name_prefix="fsnap-verify") as pool:
            found = pool.map(self._verify_pack, packs, (of_pack[number] for number in range(len(packs))))
            for pack, problem in zip(packs, found, strict=True):
                if problem:
                    problems.append(problem)
                    bad.append(pack.id)
                done += pack.bytes
                if progress is not None:
                    progress(done, total)
        deltas = np.flatnonzero(self.index.chunks["codec"] & codec.KINDS == codec.DELTA).tolist()
        if not problems:
            problems += self._verify_deltas(deltas)
        return VerifyReport(
            packs=len(packs),
            chunks=sum(len(chunks) for chunks in of_pack.values()) + len(deltas),
            bytes=total,
            problems=tuple(problems),
            bad_packs=tuple(bad),
        )

    def _verify_pack(self, pack: PackEntry, chunks: list[int]) -> str:
        """What is wrong with the pack, or an empty string."""
        key = layout.pack_key(self._prefix, pack.id)
        try:
            data = memoryview(_get(self._store, key))
            if len(data) != pack.bytes or codec.hexdigest(data) != pack.id:
                raise CorruptData(f"{key} is damaged: it does not match its name")
            self._reader.learn_header(pack.id, data)
            for chunk in chunks:
                self._reader.decode(chunk, data, 0, key)
        except (CorruptData, NewerSchema) as error:
            return str(error)
        return ""

    def _verify_deltas(self, deltas: list[int]) -> list[str]:
        """What is wrong with chunks that are made of others; their packs are sound."""
        reader = self._reader
        try:
            for_each(reader.ranges(deltas), lambda part: _exhaust(reader.read(part)), threads=THREADS)
        except (CorruptData, NewerSchema) as error:
            return [str(error)]
        return []

    def recorded_paths(self, name: str) -> frozenset[str]:
        """Paths of the tree that are stored; inputs and the root itself are not among them."""
        return self.index.recorded_paths(name)

    def restore_tree(
        self,
        name: str,
        dest: Path,
        *,
        remove_recorded: Iterable[str] = (),
        without: Container[str] = (),
    ) -> RestoreReport:
        """Make the recorded paths below *dest*, a directory that exists, exactly the tree's.

        The files *without* keep their place and get their size, and nothing is written into them.
        Removed are the paths in *remove_recorded* (what fsnap recorded of a later state) that this
        snapshot does not have, and inputs that the task had removed; all else stays.  Raises
        :class:`CorruptData`, or :class:`RestoreTargetFailed` where *dest* does not take it; what is
        below *dest* is then in between, and another snapshot can be restored over it.
        """
        try:
            with beneath.opened_root(dest) as root_fd:
                writer = TreeWriter(index=self.index, name=name, root_fd=root_fd, where=str(dest))
                writer.prepare(remove_recorded)
                self._write_content(name, writer, without)
                writer.finish()
        except OSError as error:
            raise RestoreTargetFailed(f"{dest} cannot be opened: {error.strerror}") from error
        return RestoreReport(displaced=tuple(writer.displaced))

    def _write_content(self, name: str, writer: TreeWriter, without: Container[str]) -> None:
        targets: dict[int, list[tuple[int, int, int, int]]] = defaultdict(list)
        for number, path, entry in self.index.tree_entries(name):
            if path in without:
                continue
            for file_at, length, stream_at in self.index.entry_extents(entry):
                at = file_at
                for chunk, inside, take in self.index.pieces(stream_at, length):
                    targets[chunk].append((number, at, inside, take))
                    at += take

        def place(chunk: int, data: Buffer) -> None:
            view = memoryview(data)
            for number, at, inside, take in targets[chunk]:
                writer.write(number, at, view[inside : inside + take])

        def fetch(part: Range) -> None:
            for chunk, data in self._reader.read(part):
                place(chunk, data)

        # A new file is zeros already; for a plain tree they are written, so that no hole appears.
        if not self.index.trees[name].page_structured:
            for chunk in targets:
                if self.index.chunks[chunk]["codec"] == codec.ZERO:
                    place(chunk, bytes(int(self.index.chunks[chunk]["raw_bytes"])))
        for_each(self._reader.ranges(targets), fetch, threads=THREADS)

    def remove_tree(self, name: str, dest: Path) -> None:
        """Remove the tree's recorded paths below *dest* again; :class:`RestoreTargetFailed`."""
        try:
            with beneath.opened_root(dest) as root_fd:
                TreeWriter(index=self.index, name=name, root_fd=root_fd, where=str(dest)).remove_recorded()
        except OSError as error:
            raise RestoreTargetFailed(f"{dest} cannot be opened: {error.strerror}") from error

    def removes(self, name: str) -> bool:
        """Whether restoring the tree removes what was there before the task: that can't be taken back."""
        return any(row.kind == Kind.GONE for _, _, row in self.index.tree_entries(name))

    def files(self, name: str) -> dict[str, EntryRow]:
        """The regular files of the tree *name*, by path."""
        return {path: row for _, path, row in self.index.tree_entries(name) if row.kind == Kind.FILE}

    def ordered(self, files: int) -> OrderedReader:
        """A reader for up to *files* files at once, each in its own order."""
        threads = min(MAX_FEED_THREADS, FEED_THREADS_PER_CPU * (os.cpu_count() or 1))
        return OrderedReader(index=self.index, reader=self._reader, files=files, threads=threads)

    def check_inputs(self, name: str, root: Path) -> list[InputProblem]:
        """Compare the inputs that lie below *root* with what the task was started with; reads them all.

        Of links, fifos and the like only whether something is there.
        """
        problems = []
        with beneath.opened_root(root) as root_fd:
            for _, path, entry in self.index.tree_entries(name):
                problem: Problem | None = None
                if entry.kind == Kind.INPUT:
                    expected = self.index.text(entry.aux_at, entry.aux_len)
                    problem = _input_problem(root_fd, path, entry.size, expected)
                elif entry.kind == Kind.THERE and not _is_there(root_fd, path):
                    problem = "missing"
                if problem is not None:
                    problems.append(InputProblem(path=path, problem=problem))
        return problems

    def rebase_baseline(self, name: str, root: Path, exclude: tuple[str, ...]) -> Baseline:
        """The baseline for an attempt that goes on from this snapshot, scanned after the restore.

        What the snapshot stores is the task's; everything else below *root* is an input, with the digest
        known from before where :meth:`check_inputs` has compared it, and so is what the task had removed.
        """
        found = Baseline.scan(root, exclude)
        return found.rebased(
            own=self.recorded_paths(name),
            digests={
                path: self.index.text(row.aux_at, row.aux_len)
                for _, path, row in self.index.tree_entries(name)
                if row.kind == Kind.INPUT and row.aux_len
            },
            gone=[path for _, path, row in self.index.tree_entries(name) if row.kind == Kind.GONE],
        )

    def read_blob(self, name: str) -> bytes:
        """A document that was stored with ``add_blob``.  ``KeyError`` if there is none of this name."""
        stream = self.index.streams[name]
        if stream.length > MAX_BLOB_BYTES:
            raise CorruptData(f"the blob {name!r} has {stream.length} bytes, more than any has")
        out = bytearray(stream.length)

        def put(at: int, data: memoryview) -> None:
            out[at : at + len(data)] = data

        self._read_stream(stream, put)
        return bytes(out)

    def restore_file(self, name: str, dest: Path) -> None:
        """Write a file that was stored with ``add_file`` to *dest*, replacing what is there."""
        stream = self.index.streams[name]
        try:
            fd = os.open(dest, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                os.ftruncate(fd, stream.length)
                self._read_stream(stream, lambda at, data: _pwrite_all(fd, at, data))
            finally:
                os.close(fd)
        except OSError as error:
            raise RestoreTargetFailed(f"{dest} cannot be written: {error.strerror}") from error

    def _read_stream(self, stream: StreamHead, put: Callable[[int, memoryview], None]) -> None:
        targets: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
        at = 0
        for chunk, inside, take in self.index.pieces(stream.stream_at, stream.length):
            targets[chunk].append((at, inside, take))
            at += take

        def fetch(part: Range) -> None:
            for chunk, data in self._reader.read(part):
                for at, inside, take in targets[chunk]:
                    put(at, memoryview(data)[inside : inside + take])

        for_each(self._reader.ranges(targets), fetch, threads=THREADS)


def _get(store: Store, key: str) -> bytes:
    try:
        return store.get(key)
    except ObjectMissing as error:
        raise CorruptData(f"{key} is missing") from error


def _exhaust(chunks: Iterable[object]) -> None:
    for _ in chunks:
        pass


def _is_there(root_fd: int, path: str) -> bool:
    try:
        with beneath.opened_parent(root_fd, path) as (parent_fd, name):
            os.lstat(name, dir_fd=parent_fd)
    except OSError:
        return False
    return True


def _input_problem(root_fd: int, path: str, size: int, digest: bytes) -> Problem | None:
    try:
        with beneath.opened_file(root_fd, path) as fd:
            state = os.fstat(fd)
            if not stat.S_ISREG(state.st_mode):
                return "missing"
            if state.st_size != size:
                return "size"
            return "digest" if digest and baseline.hash_file(fd) != digest else None
    except OSError:
        return "missing"


def _pwrite_all(fd: int, at: int, data: memoryview) -> None:
    while data:
        count = os.pwrite(fd, data, at)
        data, at = data[count:], at + count
