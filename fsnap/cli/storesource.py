"""A store as ``fsnap status`` sees it; nothing is written there.

A store with few tasks is read exactly, from the journals.  One with many is read from the
heads, so that 10,000 tasks cost tens of requests and not tens of thousands.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import TypeVar

from fsnap.cli.sources import Look, Read, Row, look_of, tried, unknown
from fsnap.core.model import State, TaskState
from fsnap.core.records import Record, check_chain
from fsnap.core.status import Seen, Signs, SnapshotView, TaskView, moment, sample_of_beat, seen_of, view_of
from fsnap.errors import NewerSchema, NotSealed, SealError
from fsnap.ids import task_from_key
from fsnap.journal.heads import Head, HeadSnapshot, newest_head, read_all
from fsnap.journal.heartbeat import Beat, Heartbeat
from fsnap.journal.mirror import journal_object, journal_prefix
from fsnap.journal.rows import decode_batch
from fsnap.keys import KeyRing
from fsnap.stores.base import Store
from fsnap.stores.urls import open_store

EXACT_TASKS = 50
"""Up to so many tasks are read from their journals, and up to so many heartbeats are read."""

LONG_JOURNAL = 64
"""Objects; an overview takes a longer journal's head instead, where that is as new."""

NAMES_SHOWN = 3
READERS = 8
PATIENCE_S = 10.0

T = TypeVar("T")
R = TypeVar("R")


class StoreSource:
    """A store, of which *readers* objects are read at once.

    Journals that were read once are only read on from there.  A sealed task whose key is not
    in *keys* is shown from its head; one that is not sealed where there are *keys* is shown
    too, since nothing is done on the strength of it.  Notes say which.
    """

    def __init__(self, store: Store, *, readers: int, keys: KeyRing | None = None) -> None:
        self._store = store
        self._readers = readers
        self._keys = keys
        self._known: dict[str, Read] = {}
        self._sealed: dict[str, str] = {}
        self._plain: set[str] = set()

    def look(self, task: str | None, now: datetime) -> Look:
        if task is not None:
            view = self._one(task, now)
            return Look(source=self._store.url, now=now, views=(view,), notes=tuple(self._remarks([task])))
        heads = {head.task: head for head in read_all(self._store)}
        if len(heads) > EXACT_TASKS:
            return self._from_heads(heads, now)
        return self._from_journals(heads, now)

    def _one(self, task: str, now: datetime) -> TaskView:
        try:
            read = self._follow(task, self._objects(task), self._readers)
        except SealError as problem:
            found = newest_head(self._store, task)
            if found is None:
                raise
            return self._shut(task, found, problem, now)
        if not read.state.seq:
            raise unknown(task, f"{self._store.url} has no journal of it")
        return self._view(read, now)

    def _shut(self, task: str, head: Head, problem: SealError, now: datetime) -> TaskView:
        """What may be seen of a journal that does not open here."""
        self._sealed[task] = str(problem)
        return view_of(_seen_of_head(head), Signs(), now)

    def _remarks(self, tasks: list[str]) -> list[str]:
        """Which of *tasks* did not open, and which are not sealed though there are keys."""
        sealed = [task for task in tasks if task in self._sealed]
        plain = [task for task in tasks if task in self._plain]
        notes = []
        if sealed:
            notes.append(f"of {_names(sealed)} only the head is shown: {self._sealed[sealed[0]]}")
        if plain:
            notes.append(f"not sealed, so whoever can write to the store may have made it: {_names(plain)}")
        return notes

    def _from_heads(self, heads: dict[str, Head], now: datetime) -> Look:
        seen = [tried(task, lambda task: _seen_of_head(heads[task])) for task in sorted(heads)]
        live = [row.found.task for row in seen if row.found and row.found.live]
        notes = ["of this many tasks the heads are shown, not the journals"]
        beats: dict[str, Beat | None] = {}
        if len(live) <= EXACT_TASKS:
            # A head without a command is a sealed task's, whose heartbeat takes a key.
            live = [task for task in live if self._keys or heads[task].command]
            read = _in_parallel(lambda task: self._beat(task, heads[task]), live, self._readers)
            beats = dict(zip(live, read, strict=True))
        else:
            notes.append("nor heartbeats and margins; name a TASK to see them")

        def row(found: Seen) -> TaskView:
            signs = _signs_of_beat(beats[found.task]) if found.task in beats else Signs()
            return view_of(found, signs, now)

        rows = [
            Row(task=each.task, found=row(each.found) if each.found else None, error=each.error)
            for each in seen
        ]
        return look_of(self._store.url, now, rows, notes)

    def _from_journals(self, heads: dict[str, Head], now: datetime) -> Look:
        """With those tasks whose node died between its first record and its first head."""
        most = 2 * EXACT_TASKS
        names = list(itertools.islice(task_names(self._store), most + 1))
        notes = ["more tasks than these have a journal, but no head"] if len(names) > most else []

        def row(task: str) -> Row[TaskView]:
            head = heads.get(task)
            try:
                found = tried(task, lambda task: self._overview_row(task, head, now))
            except SealError as problem:
                if head is None:
                    return Row(task=task, found=None, error=str(problem))
                return Row(task=task, found=self._shut(task, head, problem, now))
            if found.error and head is not None:
                shown = tried(task, lambda _: view_of(_seen_of_head(head), Signs(), now))
                return Row(task=task, found=shown.found, error=found.error)
            return found

        wanted = sorted({*heads, *names[:most]})
        rows = _in_parallel(row, wanted, self._readers)
        return look_of(self._store.url, now, rows, [*notes, *self._remarks(wanted)])

    def _overview_row(self, task: str, head: Head | None, now: datetime) -> TaskView | None:
        """``None`` for a head whose journal is gone."""
        objects = self._objects(task)
        if head is not None and len(objects) > LONG_JOURNAL and head.seq >= objects[-1]:
            seen = _seen_of_head(head)
            signs = _signs_of_beat(self._beat(task, head)) if seen.live else Signs()
            return view_of(seen, signs, now)
        read = self._follow(task, objects, 1)
        return self._view(read, now) if read.state.seq else None

    def _view(self, read: Read, now: datetime) -> TaskView:
        seen = seen_of(read.state)
        if not seen.live:
            return view_of(seen, Signs(), now)
        keys = None if seen.task in self._plain else self._keys
        beat = Heartbeat.read(self._store, seen.task, keys)
        return view_of(seen, read.signs(beat, known=True), now)

    def _beat(self, task: str, head: Head) -> Beat | None:
        return Heartbeat.read(self._store, task, None if head.command else self._keys)

    def _objects(self, task: str) -> list[int]:
        """The numbers of *task*'s journal objects that are to be read: the last known one, and newer ones."""
        known = self._known.get(task)
        after = journal_object(task, known.last_object - 1) if known else ""
        prefix = journal_prefix(task)
        names = (row.key.removeprefix(prefix) for row in self._store.list(prefix, after=after))
        return [int(name[:10]) for name in names if re.fullmatch(r"[0-9]{10}\.json", name)]

    def _follow(self, task: str, objects: list[int], readers: int) -> Read:
        """What the journal amounts to, reading on from what is known of it.

        :class:`~fsnap.errors.CorruptData` names the object that is damaged;
        :class:`~fsnap.errors.NewerSchema`; :class:`~fsnap.errors.StoreError`.
        """
        known = self._known.pop(task, None)
        if known is not None and objects[:1] != [known.last_object]:
            return self._follow(task, self._objects(task), readers)  # it was deleted, or begun anew
        read = known or Read(state=TaskState(task=task))
        new = objects[1:] if known else objects
        fetched = _in_parallel(lambda number: self._records(task, number), new, readers)
        for number, records in zip(new, fetched, strict=True):
            check_chain(records, task=task, prev=read.state.digest, first_seq=read.state.seq + 1)
            read = read.and_then(records, number)
        if read.last_object:
            self._known[task] = read
        return read

    def _records(self, task: str, number: int) -> list[Record]:
        key = journal_object(task, number)
        body, where = self._store.get(key), f"{self._store.url}: {key}"
        try:
            return decode_batch(task, body, where, first_seq=number, keys=self._keys)[1]
        except NotSealed:
            self._plain.add(task)
            return decode_batch(task, body, where)[1]


def open_source(url: str, keys: KeyRing | None = None) -> StoreSource:
    """The store at *url*, which is never made.

    :class:`~fsnap.errors.UsageError` for a bad URL; :class:`~fsnap.errors.StoreError`.
    """
    store = open_store(url, create=False)
    if store.url.startswith("file:"):
        return StoreSource(store, readers=1, keys=keys)
    from fsnap.clock import SystemClock
    from fsnap.stores.retrying import Patience, RetryingStore

    patience = Patience(attempts=3, base_s=0.2, cap_s=1.0, total_s=PATIENCE_S)
    retrying = RetryingStore(store, patience=patience, clock=SystemClock())
    return StoreSource(retrying, readers=READERS, keys=keys)


def _names(tasks: list[str]) -> str:
    return ", ".join(tasks) if len(tasks) <= NAMES_SHOWN else f"{tasks[0]} and {len(tasks) - 1} more"


def open_for_work(url: str | None) -> Store:
    """The store of the line or of ``FSNAP_STORE``, else this node's own, for reading at length or deleting.

    :class:`~fsnap.errors.UsageError`; :class:`~fsnap.errors.StoreError` for a directory that is not there.
    """
    from fsnap.agent.home import home_path
    from fsnap.clock import SystemClock
    from fsnap.stores.retrying import Patience, RetryingStore

    named = url or os.environ.get("FSNAP_STORE") or f"file://{home_path(os.environ)}/store"
    patience = Patience(attempts=10, base_s=0.2, cap_s=2.0, total_s=30.0)
    return RetryingStore(open_store(named, create=False), patience=patience, clock=SystemClock())


def task_names(store: Store) -> Iterator[str]:
    """Every task that has an object in *store*, by one listing request each."""
    after, last = "", ""
    while (row := next(iter(store.list("tasks/", after=after)), None)) is not None:
        part = row.key.split("/")[1]
        # No object of a task has a name that begins with z; where a stranger's does, go on key by key.
        after = row.key if part == last else f"tasks/{part}/z"
        if part != last:
            with suppress(ValueError):
                yield task_from_key(part)
        last = part


def _signs_of_beat(beat: Beat | None) -> Signs:
    if beat is None:
        return Signs(heartbeat_known=True)
    return Signs(
        heartbeat_at=moment(beat.at),
        heartbeat_epoch=beat.epoch,
        heartbeat_known=True,
        sample=sample_of_beat(beat.sample, beat.epoch),
    )


def _seen_of_head(head: Head) -> Seen:
    """:class:`~fsnap.errors.NewerSchema` for a state that this version does not know."""
    try:
        state = State(head.state)
    except ValueError:
        raise NewerSchema(f"its head has the unknown state {head.state[:32]!r}") from None
    return Seen(
        task=head.task,
        state=state,
        epoch=head.epoch,
        node=head.node or None,
        since=moment(head.since),
        command=head.command or None,
        held=head.held,
        lease_ms=head.lease_ms,
        provider=head.provider,
        snapshot=_snapshot(head.snapshot) if head.snapshot else None,
        quarantined=head.quarantined,
        deadline=moment(head.deadline),
        exit_code=head.exit_code,
        outcome=head.outcome,
        reclaims_survived=head.reclaims_survived,
        work_saved_ms=head.work_saved_ms,
    )


def _snapshot(shown: HeadSnapshot) -> SnapshotView:
    return SnapshotView(
        id=shown.id,
        bytes=shown.bytes,
        new_bytes=shown.new_bytes,
        stored_bytes=shown.stored_bytes,
        committed_at=moment(shown.committed_at),
    )


def _in_parallel(work: Callable[[T], R], items: list[T], readers: int) -> list[R]:
    if readers < 2 or len(items) < 2:
        return [work(item) for item in items]
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(min(readers, len(items)), thread_name_prefix="status")
    try:
        return list(pool.map(work, items))
    finally:
        pool.shutdown(cancel_futures=True)
