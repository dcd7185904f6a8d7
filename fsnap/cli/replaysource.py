"""Where ``fsnap replay`` reads: a journal file, a store, or records as JSON lines; nothing is written there.

Whatever can be read is read, record by record: a journal is looked at most closely when
something is wrong with it.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fsnap.cli.storesource import task_names
from fsnap.core.model import SCHEMA
from fsnap.core.replay import Found
from fsnap.errors import CorruptData, FsnapError, NewerSchema, ObjectMissing, UsageError
from fsnap.journal import rows
from fsnap.journal.errors import reported
from fsnap.journal.heads import head_from_key, head_prefix
from fsnap.journal.mirror import journal_prefix
from fsnap.journal.schema import open_reader
from fsnap.journal.sealing import open_batch
from fsnap.keys import KeyRing
from fsnap.stores.base import Store
from fsnap.stores.urls import open_store

SQLITE_MAGIC = b"SQLite format 3\0"
NEWER = "an fsnap that reads it is needed"
READERS = 8
MAX_BATCH_RECORDS = 512
PATIENCE_S = 10.0
MAX_SKIPPED_ROWS = 100_000
"""Row numbers that are tried one by one behind a page that can't be read."""


class CannotRead(FsnapError):
    """SOURCE, or all of it, can't be read.

    What went wrong may have an exit code of its own, which means something else here.
    """

    code = "replay-source"


@dataclass(slots=True, kw_only=True)
class TaskJournal:
    """What was found of one task's journal."""

    task: str
    found: list[Found] = field(default_factory=list)
    known_last_seq: int = 0
    """A record that something else in SOURCE speaks of."""
    known_by: str = ""
    """What does."""
    remarks: list[str] = field(default_factory=list)

    def remark(self, text: str) -> None:
        """Add *text* to the remarks, once."""
        if text not in self.remarks:
            self.remarks.append(text)

    def last_seq(self) -> int:
        """The highest number so far."""
        return max((one.seq for one in self.found), default=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Journals:
    """All journals that were asked for."""

    source: str
    tasks: tuple[TaskJournal, ...]
    problems: tuple[str, ...] = ()
    """What could be read and belongs to no task."""


def read_source(source: str, task: str | None, keys: KeyRing | None = None) -> Journals:
    """The journal of *task*, or of all tasks, in *source*; a sealed one takes *keys*.

    :class:`~fsnap.errors.UsageError` for a SOURCE that is none; :class:`CannotRead`.
    """
    try:
        journals = _read(source, task, keys)
    except UsageError:
        raise
    except FsnapError as problem:
        raise CannotRead(str(problem), hint=problem.hint) from problem
    if task is not None and not journals.tasks:
        raise CannotRead(
            f"no task {task!r} in {journals.source}", hint="Without --task all there are are replayed."
        )
    if not journals.tasks:
        raise CannotRead(
            f"no records in {journals.source}",
            hint="SOURCE is a journal.db, a store's URL, or an export of records as JSON lines.",
        )
    return journals


def _read(source: str, task: str | None, keys: KeyRing | None) -> Journals:
    if "://" in source:
        return _from_store(_store(source), task, keys)
    path = Path(source)
    if not source:
        raise UsageError("SOURCE is empty", hint="Name a journal.db, a store's URL, or an export.")
    if path.is_dir():
        if not (path / "journal.db").exists():
            raise UsageError(
                f"{path} is a directory without a journal.db",
                hint=f"For a store say file://{path.absolute()}",
            )
        path = path / "journal.db"
    try:
        with path.open("rb") as file:
            magic = file.read(len(SQLITE_MAGIC))
            if magic == SQLITE_MAGIC:
                return _from_file(path, task)
            file.seek(0)
            return _from_lines(str(path), file, task)
    except OSError as problem:
        raise CannotRead(f"{path}: {problem.strerror or problem}", hint="") from problem


# -- records as they are read


def _found(plain: Any, seq: int, task: str) -> Found:
    """The record in *plain*; *seq* is its place where it can't be trusted to say so itself."""
    try:
        record = rows.checked(plain)
    except FsnapError as problem:
        return Found(seq=seq, problem=_told(problem))
    except RecursionError:
        return Found(seq=seq, problem="is nested too deep")
    if record.task != task:
        return Found(seq=seq, problem=f"belongs to task {record.task[:80]!r}")
    return Found(seq=record.seq, record=record)


def _told(problem: FsnapError) -> str:
    """Without the number, which stands before it anyway."""
    text = re.sub(r"^journal record \S+:? (?=does|can't|has|\w+ is not)", "", str(problem))
    return f"{text}: {NEWER}" if isinstance(problem, NewerSchema) else text


# -- a journal file


def _from_file(path: Path, task: str | None) -> Journals:
    problems: list[str] = []
    journals: dict[str, TaskJournal] = {}
    with closing(open_reader(path)) as connection, reported(path):
        connection.execute("BEGIN")  # all queries see one moment
        for row in _rows(connection, problems):
            name = str(row["task"])
            if task is None or name == task:
                journal = journals.setdefault(name, TaskJournal(task=name))
                seq = row["seq"] if type(row["seq"]) is int else journal.last_seq() + 1
                journal.found.append(_found(_plain(row), seq, name))
        for journal in journals.values():
            _add_remarks(connection, journal)
    ordered = tuple(journals[name] for name in sorted(journals))
    return Journals(source=str(path), tasks=ordered, problems=tuple(problems))


def _plain(row: dict[str, Any]) -> Any:
    try:
        return rows.from_row(row)
    except FsnapError:
        return {**row, "digest": None}


def _rows(connection: sqlite3.Connection, problems: list[str]) -> Iterator[dict[str, Any]]:
    """All records in the order in which they were written; those on damaged pages are passed over."""
    last = 0
    try:
        for row in connection.execute("SELECT rowid AS place, * FROM records NOT INDEXED ORDER BY rowid"):
            last = row["place"]
            yield dict(row)
    except sqlite3.DatabaseError as problem:
        problems.append(f"a page of the file is damaged ({problem}): records on it can't be read")
    else:
        return
    for place in range(last + 1, last + 1 + MAX_SKIPPED_ROWS):
        try:
            query = "SELECT rowid AS place, * FROM records NOT INDEXED WHERE rowid = ?"
            found = connection.execute(query, (place,)).fetchone()
            if (
                found is None
                and not connection.execute(
                    "SELECT 1 FROM records NOT INDEXED WHERE rowid > ? LIMIT 1", (place,)
                ).fetchone()
            ):
                return
        except sqlite3.DatabaseError:
            continue
        if found is not None:
            yield dict(found)


def _add_remarks(connection: sqlite3.Connection, journal: TaskJournal) -> None:
    """What the other tables say of the task; they may be damaged too."""
    try:
        mirrored = _single(connection, "SELECT max(last_seq) FROM mirrored WHERE task = ?", journal.task)
        orphaned = _single(connection, "SELECT count(*) FROM orphaned WHERE task = ?", journal.task)
    except sqlite3.DatabaseError as problem:
        journal.remarks.append(f"what was mirrored or lost can't be read ({problem})")
        return
    journal.known_last_seq, journal.known_by = mirrored, "the file says that it was mirrored"
    tail = journal.last_seq() - mirrored
    if tail > 0:
        journal.remarks.append(f"the last {tail} of these records had not reached the store")
    if orphaned:
        journal.remarks.append(
            f"{orphaned} more records of this node lost against another node's, and count for nothing"
        )


def _single(connection: sqlite3.Connection, query: str, task: str) -> int:
    return int(connection.execute(query, (task,)).fetchone()[0] or 0)


# -- records as JSON lines


def _from_lines(source: str, lines: Iterable[bytes], task: str | None) -> Journals:
    """One record a line; a journal object of a store is understood too."""
    journals: dict[str, TaskJournal] = {}
    bad: list[int] = []
    current: TaskJournal | None = None
    for number, line in enumerate(lines, 1):
        for plain in _of_line(line):
            name = plain.get("task") if isinstance(plain, dict) else None
            if not isinstance(name, str) or not name:
                bad.append(number)
                continue
            current = journals.setdefault(name, TaskJournal(task=name))
            _add_bad(current, bad)
            current.found.append(_found(plain, current.last_seq() + 1, name))
    if current is None:
        raise CannotRead(
            f"{source} holds no records",
            hint="SOURCE is a journal.db, a store's URL, or an export of records as JSON lines.",
        )
    _add_bad(current, bad)
    wanted = tuple(journals[name] for name in sorted(journals) if task is None or name == task)
    return Journals(source=source, tasks=wanted)


def _add_bad(journal: TaskJournal, numbers: list[int]) -> None:
    """Lines that name no task belong to the one around them, most likely."""
    for number in numbers:
        journal.found.append(Found(seq=journal.last_seq() + 1, problem=f"line {number} is not a record"))
    numbers.clear()


def _of_line(line: bytes) -> list[Any]:
    if not line.strip():
        return []
    try:
        plain = json.loads(line)
    except (ValueError, RecursionError):
        return [None]
    if isinstance(plain, dict) and isinstance(plain.get("records"), list) and "seq" not in plain:
        return plain["records"] or [None]
    return [plain]


# -- a store


def _store(url: str) -> Store:
    """The store at *url*, which is never made."""
    store = open_store(url, create=False)
    if store.url.startswith("file:"):
        return store
    from fsnap.clock import SystemClock
    from fsnap.stores.retrying import Patience, RetryingStore

    patience = Patience(attempts=3, base_s=0.2, cap_s=1.0, total_s=PATIENCE_S)
    return RetryingStore(store, patience=patience, clock=SystemClock())


def _from_store(store: Store, task: str | None, keys: KeyRing | None) -> Journals:
    names = sorted(task_names(store)) if task is None else [_checked(task)]
    journals = (_task_in_store(store, name, keys) for name in names)
    return Journals(
        source=store.url, tasks=tuple(one for one in journals if one.last_seq() or one.known_last_seq)
    )


def _checked(task: str) -> str:
    if not task:
        raise UsageError("--task is empty", hint="Name a task, or leave the flag out.")
    return task


def _task_in_store(store: Store, task: str, keys: KeyRing | None) -> TaskJournal:
    journal = TaskJournal(task=task, known_by="its head speaks of it")
    # Read before the journal: in a store that is written to, the head is never ahead then.
    heads = (head_from_key(row.key) for row in store.list(head_prefix(task)))
    journal.known_last_seq = max((head.seq for head in heads if head is not None), default=0)
    prefix = journal_prefix(task)
    objects = [
        row.key for row in store.list(prefix) if re.fullmatch(r"[0-9]{10}\.json", row.key[len(prefix) :])
    ]
    firsts = [int(key[len(prefix) : -len(".json")]) for key in objects]
    bodies = _bodies(store, objects)
    for first, after, body in zip(firsts, [*firsts, 0][1:], bodies, strict=True):
        plains = _of_object(body, keys, journal, first) if isinstance(body, bytes) else body
        if isinstance(plains, str):
            last = min(max(first, after - 1), first + MAX_BATCH_RECORDS)
            journal.found += [Found(seq=seq, problem=plains) for seq in range(first, last + 1)]
            continue
        journal.found += [_found(plain, first + place, task) for place, plain in enumerate(plains)]
    return journal


def _of_object(body: bytes, keys: KeyRing | None, journal: TaskJournal, first_seq: int) -> list[Any] | str:
    """The records of an object, or what is wrong with it."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return "the object is damaged: not JSON"
    if not isinstance(document, dict):
        return "the object is damaged: no records in it"
    schema = document.get("schema")
    if type(schema) is int and schema > SCHEMA:
        return f"the object has schema {schema}; this fsnap reads up to {SCHEMA}: {NEWER}"
    try:
        if keys is not None and "seal" not in document:
            journal.remark("it is not sealed, so anybody who can write to the store may have made it")
            keys = None
        document = open_batch(document, body, keys, journal.task, first_seq, "the object")
    except FsnapError as problem:
        return str(problem)
    plains = document.get("records")
    return plains if isinstance(plains, list) and plains else "the object is damaged: no records in it"


def _bodies(store: Store, keys: list[str]) -> list[bytes | str]:
    """Every object, or why it can't be read; a store that fails altogether is another matter."""

    def one(key: str) -> bytes | str:
        try:
            return store.get(key)
        except (ObjectMissing, CorruptData) as problem:
            return f"the object can't be read: {problem}"

    if len(keys) < 2 or store.url.startswith("file:"):
        return [one(key) for key in keys]
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(min(READERS, len(keys)), thread_name_prefix="replay")
    try:
        return list(pool.map(one, keys))
    finally:
        pool.shutdown(cancel_futures=True)
