"""Capturing one tree: what is kept, what is read in which order, and its entries in the index."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase

from fsnap.snapshots import baseline, beneath
from fsnap.snapshots.cut import ByteCutter, PageCutter
from fsnap.snapshots.errors import CaptureFailed, UnreadableFile
from fsnap.snapshots.feeder import Feeder
from fsnap.snapshots.index import TreeHead
from fsnap.snapshots.indexfile import IndexBuilder
from fsnap.snapshots.known import KnownChunks
from fsnap.snapshots.reading import feed_file
from fsnap.snapshots.records import Place, Record, StagedTree
from fsnap.snapshots.seen import Extent, Reuse, SeenFiles, settled_key
from fsnap.snapshots.sink import ChunkSink
from fsnap.snapshots.state import key_of, state_key
from fsnap.snapshots.tables import NONE, Kind
from fsnap.snapshots.trees import TreeStats

SMALL_BYTES = 1 << 20
"""Files shorter than this are concatenated before the cut."""
_BEFORE = (Kind.INPUT, Kind.GONE, Kind.THERE)
PAGES_GLOB = "pages-*.img"
MAX_SKIPPED = 1000
"""Directories on other mounts that the index names; more are only counted."""


class TreeCapture:
    """The capture of one tree.  ``run`` is called once."""

    def __init__(
        self,
        *,
        tree: StagedTree,
        known: KnownChunks,
        sink: ChunkSink,
        feeder: Feeder,
        builder: IndexBuilder,
        step: Callable[[], None],
        fed: Mapping[str, list[Extent]],
    ) -> None:
        self._tree = tree
        self._source = tree.source
        self._known = known
        self._sink = sink
        self._feeder = feeder
        self._builder = builder
        self._step = step
        self._fed = fed
        self._files = [n for n, record in enumerate(tree.records) if record.kind == Kind.FILE]
        self._extents: dict[int, list[Extent]] = {}
        self._root_fd: int | None = None
        self._read_bytes = 0

    def run(self) -> tuple[TreeStats, SeenFiles]:
        """Feed the content and add the entries."""
        with ExitStack() as stack:
            if not self._tree.is_staged:
                self._root_fd = stack.enter_context(beneath.opened_root(self._source.root))
            self._hash_inputs()
            self._take_fed()
            self._refer_kept()
            self._feed_small()
            self._feed_large()
        return self._stats(), self._add_entries()

    def _hash_inputs(self) -> None:
        """Fill in the digests of inputs that the background has not read yet."""
        for record in self._tree.records:
            if record.kind != Kind.INPUT or record.digest is not None:
                continue
            if self._root_fd is None:
                continue
            with self._opened(record) as fd:
                record.digest = baseline.hash_file(fd, self._goes_on)
            if self._source.baseline is not None and record.digest is not None:
                self._source.baseline.learn_digest(record.path, record.digest)

    def _goes_on(self) -> bool:
        """For a hash that asks whether to stop: it ends by what *step* raises, or not at all."""
        self._step()
        return False

    def _take_fed(self) -> None:
        """Files whose content is in the stream already."""
        for number in self._files:
            record = self._tree.records[number]
            extents = self._fed.get(record.path)
            if extents is None:
                continue
            length = sum(extent[1] for extent in extents)
            if length != record.state.size:
                raise CaptureFailed(f"{self._name(record)} has {record.state.size} bytes, {length} were fed")
            record.start = length
            self._extents[number] = extents
            self._read_bytes += length

    def _refer_kept(self) -> None:
        """Refer to what an earlier snapshot stores already, unless its packs turned out bad."""
        if self._source.unchanged is None:
            return
        reuse = Reuse(self._source.unchanged.index)
        keep = []
        for number in self._files:
            record = self._tree.records[number]
            if not record.kept:
                continue
            if reuse.can(record.kept, self._known):
                reuse.want(record.kept)
                keep.append((number, record.kept))
            elif self._tree.is_staged:
                raise CaptureFailed(f"{self._name(record)} was not staged, and its pack is damaged")
            else:
                record.kept, record.start = None, 0
        reuse.refer_all(self._sink, self._feeder)
        for number, kept in keep:
            self._extents[number] = reuse.moved(kept)

    def _is_pages(self, record: Record) -> bool:
        name = record.path.rpartition("/")[2]
        return self._source.page_structured and fnmatchcase(name, PAGES_GLOB)

    def _is_small(self, record: Record) -> bool:
        return record.start == 0 and record.read_bytes < SMALL_BYTES and not self._is_pages(record)

    def _feed_small(self) -> None:
        small = [n for n in self._files if self._is_small(self._tree.records[n])]
        self._feeder.begin(ByteCutter())
        for number in small:
            self._feed(number)
        self._feeder.end()

    def _feed_large(self) -> None:
        for number in self._files:
            record = self._tree.records[number]
            if record.read_bytes and not self._is_small(record):
                self._feeder.begin(PageCutter() if self._is_pages(record) else ByteCutter())
                self._feed(number)
                self._feeder.end()

    def _feed(self, number: int) -> None:
        record = self._tree.records[number]
        if not record.read_bytes:
            return
        before = self._feeder.position
        if record.staged is not None:
            extents = self._feed_staged(record, record.staged)
        else:
            with self._opened(record) as fd:
                extents = self._feed_from(fd, record, shift=0, has_holes=True)
        self._extents.setdefault(number, []).extend(extents)
        self._read_bytes += self._feeder.position - before

    def _feed_staged(self, record: Record, place: Place) -> list[Extent]:
        try:
            fd = os.open(place.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise UnreadableFile(f"the copy of {self._name(record)} is gone: {error.strerror}") from error
        try:
            return self._feed_from(fd, record, shift=place.shift, has_holes=place.has_holes)
        finally:
            os.close(fd)

    def _feed_from(self, fd: int, record: Record, *, shift: int, has_holes: bool) -> list[Extent]:
        return feed_file(
            self._feeder,
            fd,
            start=record.start,
            size=record.start + record.read_bytes,
            name=self._name(record),
            shift=shift,
            has_holes=has_holes,
        )

    @contextmanager
    def _opened(self, record: Record) -> Iterator[int]:
        """A descriptor of the recorded file, and of no other."""
        if self._root_fd is None:
            raise CaptureFailed(f"{self._name(record)} was not staged")
        try:
            with beneath.opened_file(self._root_fd, record.path) as fd:
                self._check_unchanged(record, fd)
                yield fd
                self._check_unchanged(record, fd)
        except OSError as error:
            raise UnreadableFile(f"{self._name(record)} cannot be read: {error.strerror}") from error

    def _name(self, record: Record) -> str:
        return f"{record.path!r} in {self._source.root}"

    def _check_unchanged(self, record: Record, fd: int) -> None:
        if key_of(fd) != state_key(record.state):
            raise UnreadableFile(f"{self._name(record)} changed while it was read")

    def _add_entries(self) -> SeenFiles:
        source, builder = self._source, self._builder
        first = builder.entry_count
        seen: SeenFiles = {}
        for number, record in enumerate(self._tree.records):
            state = record.state
            if record.kind == Kind.FILE:
                mapped = record.path in source.reread
                key = settled_key(state, at_ns=self._tree.at_ns, is_mapped=mapped)
                seen[record.path] = (builder.entry_count, key)
            sized = record.kind in (Kind.FILE, Kind.INPUT)
            builder.add_entry(
                path=os.fsencode(record.path),
                kind=record.kind,
                mode=stat.S_IMODE(state.mode),
                uid=state.uid,
                gid=state.gid,
                link=first + record.link if record.kind == Kind.LINK else NONE,
                size=state.size if sized else 0,
                rdev=state.rdev if record.kind in (Kind.CHAR, Kind.BLOCK) else 0,
                mtime_ns=state.mtime_ns,
                atime_ns=state.atime_ns,
                extents=self._extents.get(number, []),
                xattrs={os.fsencode(name): value for name, value in (record.xattrs or {}).items()},
                aux=os.fsencode(record.target) if record.kind == Kind.SYMLINK else record.digest or b"",
            )
        builder.trees.append(
            TreeHead(
                name=source.name,
                kind=source.kind,
                page_structured=source.page_structured,
                first=first,
                count=len(self._tree.records),
                skipped=self._tree.skipped[:MAX_SKIPPED],
            )
        )
        return seen

    def _stats(self) -> TreeStats:
        records = self._tree.records
        counts = {kind: sum(record.kind == kind for record in records) for kind in Kind}
        not_other = sum(counts[kind] for kind in (Kind.FILE, Kind.DIR, *_BEFORE))
        total = sum(length for extents in self._extents.values() for _, length, _ in extents)
        return TreeStats(
            name=self._source.name,
            files=counts[Kind.FILE],
            directories=counts[Kind.DIR],
            others=len(records) - not_other,
            bytes=total,
            read_bytes=self._read_bytes,
            reused_bytes=total - self._read_bytes,
            inputs=counts[Kind.INPUT] + counts[Kind.THERE],
            input_bytes=sum(record.state.size for record in records if record.kind == Kind.INPUT),
            deleted_inputs=counts[Kind.GONE],
            skipped=self._tree.skipped,
        )
