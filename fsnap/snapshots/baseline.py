"""What lay in a directory before the task started: its inputs.

A file whose state still equals its baseline entry is an input and is not stored.  That
is sound only if every later write shows in the state, so a scan ends after the clock
that stamps files has moved past every stamp it saw.
"""

from __future__ import annotations

import json
import os
import stat
import threading
from collections.abc import Callable, Container, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import zstandard
from blake3 import blake3

from fsnap.clock import Clock, SystemClock
from fsnap.errors import CorruptData, NewerSchema
from fsnap.snapshots import beneath, codec
from fsnap.snapshots.walk import walk

SCHEMA = 1
MAX_BYTES = 1 << 30
TICK_NS = 20_000_000
"""Local file systems stamp with the kernel's tick, 10 ms at the slowest (CONFIG_HZ=100)."""
COARSE_TICK_NS = 2_000_000_000
"""A stamp of whole seconds may come from a file system that keeps no more (FAT: 2 s)."""
_READ_BYTES = 1 << 20


class Entry(NamedTuple):
    """A path's state at the scan."""

    type: int
    """``S_IFMT`` of the mode."""
    ino: int
    size: int
    mtime_ns: int
    ctime_ns: int
    mode: int
    """Permission bits."""
    digest: bytes | None
    """BLAKE3-256 of a regular file's content, once it was read."""


_GONE = Entry(type=0, ino=0, size=0, mtime_ns=0, ctime_ns=0, mode=0, digest=None)
"""Stands for an input that is known to be gone already; nothing is ever equal to it."""


def entry_of(state: os.stat_result) -> Entry:
    """The entry that *state* gives, without a digest."""
    return Entry(
        type=stat.S_IFMT(state.st_mode),
        ino=state.st_ino,
        size=state.st_size,
        mtime_ns=state.st_mtime_ns,
        ctime_ns=state.st_ctime_ns,
        mode=stat.S_IMODE(state.st_mode),
        digest=None,
    )


class Baseline:
    """The entries by path.  Safe to use from several threads."""

    def __init__(self, entries: dict[str, Entry] | None = None) -> None:
        self._entries = dict(entries or {})
        self._lock = threading.Lock()

    @classmethod
    def scan(cls, root: Path, exclude: tuple[str, ...], *, clock: Clock | None = None) -> Baseline:
        """What is below *root* now; states only.  May wait for a tick of the file system's clock."""
        clock = clock or SystemClock()
        entries = {
            found.path: entry_of(found.state) for found in walk(root, exclude, live=True) if found.path
        }
        _outlast(entries, clock)
        return cls(entries)

    def paths(self) -> frozenset[str]:
        """Every path of the scan."""
        with self._lock:
            return frozenset(self._entries)

    def get(self, path: str) -> Entry | None:
        """The entry of *path*, if it was there."""
        with self._lock:
            return self._entries.get(path)

    def is_input(self, path: str, state: os.stat_result) -> bool:
        """Whether *path*, in *state*, was there and is as it was."""
        entry = self.get(path)
        return entry is not None and entry._replace(digest=None) == entry_of(state)

    def unhashed_bytes(self) -> int:
        """What :meth:`hash_all` has still to read."""
        with self._lock:
            return sum(e.size for e in self._entries.values() if e.type == stat.S_IFREG and e.digest is None)

    def learn_digest(self, path: str, digest: bytes) -> None:
        """Note the digest of an input that was read while it was as it was."""
        with self._lock:
            entry = self._entries.get(path)
            if entry is not None:
                self._entries[path] = entry._replace(digest=digest)

    def hash_all(self, root: Path, stop: Callable[[], bool]) -> None:
        """Read every input and note its digest, until *stop* says so.

        For a background thread.  Files that have changed or gone are passed over; one that changes while
        it is read gets no digest.
        """
        with self._lock:
            todo = [p for p, e in self._entries.items() if e.type == stat.S_IFREG and e.digest is None]
        with beneath.opened_root(root) as root_fd:
            for path in todo:
                if stop():
                    return
                digest = self._hash_unchanged(root_fd, path, stop)
                if digest is not None:
                    self.learn_digest(path, digest)

    def _hash_unchanged(self, root_fd: int, path: str, stop: Callable[[], bool]) -> bytes | None:
        try:
            with beneath.opened_file(root_fd, path) as fd:
                if not self.is_input(path, os.fstat(fd)):
                    return None
                digest = hash_file(fd, stop)
                return digest if self.is_input(path, os.fstat(fd)) else None
        except OSError:
            return None

    def rebased(self, *, own: Container[str], digests: Mapping[str, bytes], gone: Iterable[str]) -> Baseline:
        """This scan of a restored tree without the task's *own* paths, and with what the task had removed."""
        with self._lock:
            entries = {
                path: entry._replace(digest=digests.get(path) if entry.type == stat.S_IFREG else None)
                for path, entry in self._entries.items()
                if path not in own
            }
        return Baseline({**dict.fromkeys(gone, _GONE), **entries})

    def since(self, first: Baseline, *, gone: bool) -> Baseline:
        """What of this scan are inputs, where the task was on this very disk before and found *first* then.

        A file that came or changed since may be the work of a copy that died here, and nobody can tell: it
        is the task's own now, and stored.  What was compared with a snapshot's inputs stays one.  With
        *gone*, inputs that are missing by now are known as such.
        """
        with self._lock:
            mine = dict(self._entries)
        kept = {
            path: entry
            for path, entry in mine.items()
            if entry.digest is not None or entry is _GONE or first._had(path, entry)
        }
        missing = [path for path in first.paths() if path not in mine] if gone else []
        return Baseline({**dict.fromkeys(missing, _GONE), **kept})

    def _had(self, path: str, entry: Entry) -> bool:
        mine = self.get(path)
        return mine is not None and mine._replace(digest=None) == entry._replace(digest=None)

    def to_bytes(self) -> bytes:
        """For :meth:`from_bytes`."""
        with self._lock:
            items = self._entries.items()
            rows = [[path, *entry[:-1], entry.digest and entry.digest.hex()] for path, entry in items]
        text = json.dumps({"schema": SCHEMA, "rows": rows}, separators=(",", ":"))
        return zstandard.ZstdCompressor(level=3).compress(text.encode("ascii"))

    @classmethod
    def from_bytes(cls, data: bytes, *, where: str = "baseline") -> Baseline:
        """The baseline that :meth:`to_bytes` wrote; :class:`CorruptData` or :class:`NewerSchema`."""
        try:
            size = zstandard.frame_content_size(data)
        except zstandard.ZstdError as error:
            raise CorruptData(f"{where} is damaged: {error}") from error
        if not 0 <= size <= MAX_BYTES:
            raise CorruptData(f"{where} is damaged: it claims {size} bytes")
        text = codec.inflate(zstandard.ZstdDecompressor(), data, size, where)
        try:
            document = json.loads(text)
            if document["schema"] > SCHEMA:
                raise NewerSchema(f"{where} has schema {document['schema']}; this fsnap reads {SCHEMA}")
            return cls({row[0]: _entry_from(row) for row in document["rows"]})
        except (ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
            raise CorruptData(f"{where} is damaged: its rows cannot be read") from error


def hash_file(fd: int, stop: Callable[[], bool] = lambda: False) -> bytes | None:
    """BLAKE3-256 of what *fd* holds from its start, or None when *stop* said so meanwhile."""
    hasher = blake3()
    buffer = memoryview(bytearray(_READ_BYTES))
    at = 0
    while count := os.preadv(fd, [buffer], at):
        hasher.update(buffer[:count])
        at += count
        if stop():
            return None
    return hasher.digest()


def _entry_from(row: list[Any]) -> Entry:
    path, kind, ino, size, mtime_ns, ctime_ns, mode, digest = row
    numbers = (kind, ino, size, mtime_ns, ctime_ns, mode)
    if not isinstance(path, str) or not all(type(number) is int for number in numbers):
        raise ValueError("not a baseline row")
    plain = None if digest is None else bytes.fromhex(digest)
    if plain is not None and len(plain) != codec.DIGEST_BYTES:
        raise ValueError("not a digest")
    return Entry(*numbers, plain)


def _outlast(entries: dict[str, Entry], clock: Clock) -> None:
    """Wait until a write could no longer get a stamp that the scan has seen."""
    now_ns = int(clock.wall().timestamp() * 1_000_000_000)
    longest = 0
    for entry in entries.values():
        tick = TICK_NS if entry.ctime_ns % 1_000_000_000 else COARSE_TICK_NS
        left = entry.ctime_ns + tick - now_ns
        longest = max(longest, left if left <= tick else 0)
    clock.sleep(longest / 1_000_000_000)
