"""The local journal: one SQLite file per node, shared by all its agents.

Every write is durable before it returns.  A task's records are a chain: the first
``mirrored_seq`` of them are known to be in the store, the rest is the tail, which may
still lose against another node's record.  What lost is kept in ``orphaned``.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fsnap.core.fold import fold_all
from fsnap.core.model import TaskState
from fsnap.core.records import Record, canonical, check_chain, digest_of, record_to_plain
from fsnap.errors import CorruptData
from fsnap.journal import rows
from fsnap.journal.errors import LOCAL_HINT
from fsnap.journal.node import NodeFile, NodeNotice
from fsnap.journal.rows import Batch, Plain
from fsnap.journal.schema import set_aside
from fsnap.keys import KeyRing
from fsnap.sealing import key_needed, not_sealed

if TYPE_CHECKING:
    from sqlite_utils import Database

__all__ = ["NO_RECORDS", "Batch", "Head", "Journal", "NodeNotice", "Orphan", "set_aside"]

SEALED_META = "sealed"
"""Name of the small value that is the id of the key that objects in the store are sealed with, or empty."""

MAX_BATCH_RECORDS = 512
MAX_BATCH_BYTES = 4 * 1024 * 1024


class Head(NamedTuple):
    """Where a chain ends; ``(0, "")`` before its first record."""

    seq: int
    digest: str


NO_RECORDS = Head(0, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphan:
    """A record that lost against the store."""

    task: str
    seq: int
    digest: str
    record: str
    """JSON text, as it was; not necessarily readable."""
    reason: str


class Journal(NodeFile):
    """The journal of this node.  Methods may be called from several threads, and by several processes.

    ``Journal.open`` and ``Journal.open_readonly`` make one; small values and the node's
    notices are in :class:`~fsnap.journal.node.NodeFile`.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, database: Database | None) -> None:
        super().__init__(path, connection, database)
        self._folded: dict[str, TaskState] = {}
        self.keys: KeyRing | None = None
        """What objects for the store are sealed with; records here never are."""

    def tasks(self) -> list[str]:
        """Every task that has a record here, sorted."""
        return [row["task"] for row in self._rows("SELECT DISTINCT task FROM records ORDER BY task")]

    def records(self, task: str, *, after: int = 0) -> list[Record]:
        """*task*'s records with a higher number than *after*.

        :class:`~fsnap.errors.CorruptData` unless every digest and the chain are right.
        """
        return self._read(task, after=after)

    def head(self, task: str) -> Head:
        """The last local record, mirrored or not."""
        found = self._rows("SELECT seq, digest FROM records WHERE task = ? ORDER BY seq DESC LIMIT 1", task)
        return Head(found[0]["seq"], found[0]["digest"]) if found else NO_RECORDS

    def digest_at(self, task: str, seq: int) -> str | None:
        """The digest of record *seq*, or ``None`` when it is not here."""
        found = self._rows("SELECT digest FROM records WHERE task = ? AND seq = ?", task, seq)
        return str(found[0]["digest"]) if found else None

    def append(self, record: Record) -> None:
        """Add *record*, durably; ``ValueError`` unless it is sealed and follows the head.

        :class:`~fsnap.journal.errors.JournalFull` when there is no room: then nothing was added.
        """
        plain = record_to_plain(record)
        if record.digest != digest_of(plain):
            raise ValueError(f"record {record.seq} of {record.task} is not sealed")
        with self._transaction() as database:
            head = self.head(record.task)
            if (record.seq, record.prev) != (head.seq + 1, head.digest):
                raise ValueError(
                    f"record {record.seq} of {record.task} does not follow the head, which is {head.seq}"
                )
            database.table("records").insert(rows.to_row(plain))

    def state(self, task: str) -> TaskState:
        """The fold of all local records, the tail included."""
        with self._lock:
            known = self._folded.get(task)
            if known is None or self.digest_at(task, known.seq) != known.digest:
                known = TaskState(task=task)
            known = fold_all(known, self._read(task, after=known.seq))
            self._folded[task] = known
            return known

    # -- what the mirror needs

    def mirrored_seq(self, task: str) -> int:
        """The last record that is known to be in the store; 0 for none."""
        return int(
            self._rows("SELECT ifnull(max(last_seq), 0) AS last FROM mirrored WHERE task = ?", task)[0][
                "last"
            ]
        )

    def mirrored_head(self, task: str) -> Head:
        """The last mirrored record; its digest is empty when the record is missing here."""
        with self._lock:
            seq = self.mirrored_seq(task)
            return Head(seq, self.digest_at(task, seq) or "")

    def last_object(self, task: str) -> int:
        """The number of the first record in the last object that is known; 0 for none."""
        found = self._rows("SELECT ifnull(max(first_seq), 0) AS first FROM mirrored WHERE task = ?", task)
        return int(found[0]["first"])

    def mirrored_state(self, task: str) -> TaskState:
        """The fold of the mirrored records alone, all of them read and checked."""
        with self._lock:
            return fold_all(TaskState(task=task), self._read(task, upto=self.mirrored_seq(task)))

    def kept_batch(self, task: str) -> Batch | None:
        """The object under way, exactly as it was first put.

        :class:`~fsnap.errors.CorruptData` when its bytes are not what was kept;
        :class:`~fsnap.errors.SealError` when it was sealed with a key that is not here now.
        """
        kept = self._rows("SELECT * FROM batches WHERE task = ?", task)
        if not kept:
            return None
        body = bytes(kept[0]["body"])
        where = f"journal {self._path}: the kept batch {kept[0]['first_seq']} of {task}"
        if hashlib.sha256(body).hexdigest() != kept[0]["sha256"]:
            raise CorruptData(f"{where} is damaged", hint=LOCAL_HINT)
        return rows.decode_batch(task, body, where, first_seq=kept[0]["first_seq"], keys=self.keys)[0]

    def keep_batch(self, task: str, nonce: Callable[[], str]) -> Batch | None:
        """The object to put next, durable here before its first put; ``None`` when all is mirrored.

        One that is kept already is given again, whatever has been appended since.
        :class:`~fsnap.errors.CorruptData` when the tail cannot be read;
        :class:`~fsnap.errors.SealError` when what is in the store is sealed and this would not be, or the
        other way round.
        """
        with self._transaction() as database:
            kept = self.kept_batch(task)
            if kept is not None:
                return kept
            start = self.mirrored_seq(task)
            tail = self._read(task, after=start, limit=MAX_BATCH_RECORDS)
            if not tail:
                return None
            self._refuse_mixture(task)
            plains = [rows.from_row(row) for row in self._record_rows(task, start, limit=len(tail))]
            batch = rows.encode_batch(task, _bounded(plains), nonce(), self.keys)
            database.table("batches").insert(
                {
                    "task": task,
                    "first_seq": batch.first_seq,
                    "sha256": hashlib.sha256(batch.body).hexdigest(),
                    "body": batch.body,
                }
            )
            return batch

    def accept(self, task: str, batches: Sequence[Batch], *, anew: bool = False, reason: str) -> None:
        """Take *batches*, whose chain is checked, as what the store has after the mirrored prefix.

        With *anew* they are all that it has.  Local records that differ, and a tail
        that no longer follows or cannot be read, go to ``orphaned`` with *reason*.
        """
        with self._transaction() as database:
            if anew:
                database.execute("DELETE FROM mirrored WHERE task = ?", (task,))
            for batch in batches:
                self._accept_one(database, batch, reason)
            if batches:
                row = {"task": task, "key": SEALED_META, "value": self.keys.first.id if self.keys else ""}
                database.table("meta").insert(row, replace=True)
            self._settle_tail(database, task, reason)

    def orphan_tail(self, task: str, reason: str) -> None:
        """Move what is not mirrored to ``orphaned``."""
        with self._transaction() as database:
            self._orphan(database, task, self.mirrored_seq(task) + 1, reason)

    def forget(self, task: str, reason: str) -> None:
        """Move all records of *task* to ``orphaned``, mirrored or not: the next pull reads the store anew."""
        with self._transaction() as database:
            database.execute("DELETE FROM mirrored WHERE task = ?", (task,))
            database.execute("DELETE FROM meta WHERE task = ? AND key = ?", (task, SEALED_META))
            self._orphan(database, task, 0, reason)

    def _refuse_mixture(self, task: str) -> None:
        """Without the store to ask, as after a restart in an outage, this file tells whether it is sealed."""
        key_id, where = self.get_meta(task, SEALED_META), f"the journal of {task}"
        if key_id and self.keys is None:
            raise key_needed(key_id, where)
        if key_id == "" and self.keys is not None:
            raise not_sealed(where)

    def orphaned(self, task: str) -> list[Orphan]:
        """What lost against the store, oldest first."""
        found = self._rows("SELECT * FROM orphaned WHERE task = ? ORDER BY id", task)
        return [Orphan(**{name: row[name] for name in Orphan.__slots__}) for row in found]

    def _record_rows(self, task: str, after: int, *, upto: int = -1, limit: int = -1) -> list[dict[str, Any]]:
        return self._rows(
            "SELECT * FROM records WHERE task = ? AND seq > ? AND (? < 0 OR seq <= ?) ORDER BY seq LIMIT ?",
            *(task, after, upto, upto, limit),
        )

    def _read(self, task: str, *, after: int = 0, upto: int = -1, limit: int = -1) -> list[Record]:
        with self._lock:
            found = self._record_rows(task, after, upto=upto, limit=limit)
            prev = self.digest_at(task, after) if after and found else ""
        try:
            records = [rows.checked(rows.from_row(row)) for row in found]
            check_chain(records, task=task, prev=prev or "", first_seq=after + 1)
            if upto >= 0 and after + len(records) < upto:
                raise CorruptData(f"journal of {task}: record {after + len(records) + 1} is missing")
        except CorruptData as problem:
            raise CorruptData(f"journal {self._path}: {problem}", hint=LOCAL_HINT) from problem
        return records

    def _accept_one(self, database: Database, batch: Batch, reason: str) -> None:
        for plain in batch.records:
            there = self._record_rows(batch.task, plain["seq"] - 1, upto=plain["seq"])
            if there and _same(there[0], plain):
                continue
            for row in there:
                self._keep_orphan(database, row, reason)
            database.table("records").insert(rows.to_row(plain), replace=True)
        database.table("mirrored").insert(
            {"task": batch.task, "first_seq": batch.first_seq, "last_seq": batch.last_seq}, replace=True
        )
        database.execute(
            "DELETE FROM batches WHERE task = ? AND first_seq <= ?", (batch.task, batch.last_seq)
        )

    def _settle_tail(self, database: Database, task: str, reason: str) -> None:
        """Keep the tail if it follows the mirrored prefix and can be read, with the object made of it."""
        last = self.mirrored_seq(task)
        try:
            tail = self._read(task, after=last)
            kept = self.kept_batch(task)
            whole = kept is None or [plain["digest"] for plain in kept.records] == [
                record.digest for record in tail[: len(kept.records)]
            ]
        except CorruptData:
            whole = False
        if not whole:
            self._orphan(database, task, last + 1, reason)

    def _orphan(self, database: Database, task: str, first: int, reason: str) -> None:
        for row in self._record_rows(task, first - 1):
            self._keep_orphan(database, row, reason)
        database.execute("DELETE FROM records WHERE task = ? AND seq >= ?", (task, first))
        database.execute("DELETE FROM batches WHERE task = ?", (task,))

    def _keep_orphan(self, database: Database, row: dict[str, Any], reason: str) -> None:
        text = json.dumps({name: row[name] for name in rows.COLUMNS})
        database.table("orphaned").insert(
            {
                "task": row["task"],
                "seq": row["seq"],
                "digest": row["digest"],
                "record": text,
                "reason": reason,
            }
        )


def _same(row: dict[str, Any], plain: Plain) -> bool:
    try:
        return rows.from_row(row) == plain
    except CorruptData:
        return False


def _bounded(plains: Sequence[Plain]) -> list[Plain]:
    """As many of *plains* as one object may hold, at least one."""
    taken: list[Plain] = []
    size = 0
    for plain in plains:
        size += len(canonical(plain))
        if taken and size > MAX_BATCH_BYTES:
            break
        taken.append(plain)
    return taken
