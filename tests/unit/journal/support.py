"""Records, nodes and stores that fail, for the journal's tests."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from fsnap.core.events import Tick
from fsnap.core.model import Facts, State
from fsnap.core.records import Record, seal
from fsnap.errors import StoreUnavailable
from fsnap.ids import task_key
from fsnap.journal.local import Head, Journal
from fsnap.journal.mirror import Mirror, journal_object
from fsnap.stores.base import Buffer, ObjectInfo, Store
from fsnap.stores.memory import MemoryStore

TASK = "job:7/align"
AT = "2026-11-21T22:09:52.123Z"


def note(head: Head, *, task: str = TASK, node: str = "node-a", text: str = "") -> Record:
    """A record that follows *head*; what it says is unlike that of other nodes and texts."""
    return seal(
        Record(
            task=task,
            seq=head.seq + 1,
            epoch=1,
            node=node,
            at=AT,
            mono_ms=12,
            trigger="note",
            source=State.RUNNING,
            dest=State.RUNNING,
            event=Tick(),
            facts=Facts(left_ms=-5, unsupported="é “quoted” \\ \n"),
            effects=(),
            config={"lease_ms": 120_000, "nested": [1, None, {"ü": True}]},
            note=text or f"{node} {head.seq + 1}",
            chart="0123456789abcdef",
            prev=head.digest,
        )
    )


class Node:
    """A machine: its journal file, and its view of one task in a store."""

    def __init__(self, path: Path, store: Store, *, name: str = "node-a", task: str = TASK) -> None:
        self.path, self.store, self.name, self.task = path, store, name, task
        self._nonces = (f"nonce {name} {number:04d}" for number in itertools.count())
        self._open()

    def _open(self) -> None:
        self.journal = Journal.open(self.path)
        self.mirror = Mirror(
            journal=self.journal,
            store=self.store,
            task=self.task,
            nonce=lambda: next(self._nonces),
            readers=1,
        )

    def append(self, count: int = 1) -> None:
        for _ in range(count):
            self.journal.append(note(self.journal.head(self.task), task=self.task, node=self.name))

    def restart(self) -> None:
        """A new process on the same file."""
        self.journal.close()
        self._open()

    def digests(self) -> list[str]:
        return [record.digest for record in self.journal.records(self.task)]

    def mirrored(self) -> list[str]:
        return self.digests()[: self.journal.mirrored_seq(self.task)]

    def lost(self) -> list[tuple[int, str]]:
        """Number of each orphaned record, and what it said."""
        return [(orphan.seq, orphan.record) for orphan in self.journal.orphaned(self.task)]


def tamper(path: Path, sql: str, *parameters: object) -> None:
    """Change a journal behind its back."""
    with closing(sqlite3.connect(path)) as connection, connection:
        changed = connection.execute(sql, parameters).rowcount
    assert changed > 0, "the test changed nothing"


class FaultyStore:
    """Memory whose *create* fails as *faults* says, one item per call: ``ok``, ``before`` (nothing was
    applied), ``after`` (applied, the answer lost)."""

    def __init__(self, inner: Store | None = None) -> None:
        self.inner = inner or MemoryStore()
        self.faults: list[str] = []
        self.down = False
        self.creates: list[tuple[str, bytes]] = []
        self.lists = 0
        self.gets = 0

    @property
    def url(self) -> str:
        return self.inner.url

    def _up(self) -> None:
        if self.down:
            raise StoreUnavailable("the store does not answer")

    def put(self, key: str, data: Buffer) -> None:
        self._up()
        self.inner.put(key, data)

    def create(self, key: str, data: Buffer) -> None:
        self._up()
        self.creates.append((key, bytes(data)))
        fault = self.faults.pop(0) if self.faults else "ok"
        if fault != "before":
            self.inner.create(key, data)
        if fault != "ok":
            raise StoreUnavailable(f"lost {fault} it was applied")

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        self._up()
        self.gets += 1
        return self.inner.get(key, start=start, length=length)

    def list(self, prefix: str = "", *, after: str = "") -> Iterator[ObjectInfo]:
        self._up()
        self.lists += 1
        return self.inner.list(prefix, after=after)

    def delete(self, key: str) -> None:
        self._up()
        self.inner.delete(key)


NodeMaker = Callable[..., Node]


def keys(store: Store, task: str = TASK) -> list[str]:
    return [row.key for row in store.list(f"tasks/{task_key(task)}/journal/")]


def damage(store: Store, first_seq: int, change: Callable[[bytes], bytes], task: str = TASK) -> str:
    key = journal_object(task, first_seq)
    store.put(key, change(store.get(key)))
    return key


def flip(data: bytes) -> bytes:
    """One byte of a record's text."""
    return data.replace(b'"node":"node-a"', b'"node":"node-A"', 1)


def halve(data: bytes) -> bytes:
    return data[: len(data) // 2]


def fill(journal: Journal, count: int, task: str = TASK) -> None:
    for _ in range(count):
        journal.append(note(journal.head(task), task=task))
