"""The file under the journal as an object, and what in it belongs to no record.

Small values per task, and the reclaim notices, which concern the whole node: the
first agent that sees one keeps it for all.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from fsnap.core.records import canonical
from fsnap.journal import schema
from fsnap.journal.errors import reported

if TYPE_CHECKING:
    from sqlite_utils import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeNotice:
    """A reclaim notice that concerns the whole node."""

    notice_id: str
    provider: str
    window_ms: int
    seen_at: str
    payload: dict[str, Any]


class NodeFile:
    """One open journal file."""

    def __init__(self, path: Path, connection: sqlite3.Connection, database: Database | None) -> None:
        self._path = path
        self._connection = connection
        self._database = database
        self._lock = threading.RLock()

    @classmethod
    def open(cls, path: Path) -> Self:
        """The journal at *path*, made if it is missing.

        :class:`~fsnap.errors.CorruptData` for a damaged file, which the caller may
        :func:`set_aside`; :class:`~fsnap.errors.NewerSchema`;
        :class:`~fsnap.journal.errors.JournalError`.
        """
        database = schema.open_writer(path)
        return cls(path, database.conn, database)

    @classmethod
    def open_readonly(cls, path: Path) -> Self:
        """The journal at *path* for looking only; see :func:`fsnap.journal.schema.open_reader`.

        :class:`~fsnap.journal.errors.JournalMissing` when there is none.
        """
        return cls(path, schema.open_reader(path), None)

    def close(self) -> None:
        """Let go of the file; no call may follow."""
        with self._lock:
            self._connection.close()

    def put_meta(self, task: str, key: str, value: str) -> None:
        """Keep *value* under *key* for *task*, durably."""
        with self._transaction() as database:
            database.execute(
                "INSERT INTO meta (task, key, value) VALUES (?, ?, ?)"
                " ON CONFLICT (task, key) DO UPDATE SET value = excluded.value",
                (task, key, value),
            )

    def get_meta(self, task: str, key: str) -> str | None:
        """What was kept under *key*, or ``None``."""
        found = self._rows("SELECT value FROM meta WHERE task = ? AND key = ?", task, key)
        return str(found[0]["value"]) if found else None

    def note_notice(
        self, notice_id: str, provider: str, window_ms: int, seen_at: str, payload: dict[str, Any]
    ) -> bool:
        """Keep a notice; true for the first agent of the node that saw it, whose row it is."""
        with self._transaction() as database:
            added = database.execute(
                "INSERT OR IGNORE INTO notices VALUES (?, ?, ?, ?, ?, 0)",
                (notice_id, provider, window_ms, seen_at, canonical(payload).decode()),
            )
            return added.rowcount == 1

    def cancel_notice(self, notice_id: str) -> None:
        """The provider took it back; unknown ids are passed over."""
        with self._transaction() as database:
            database.execute("UPDATE notices SET cancelled = 1 WHERE notice_id = ?", (notice_id,))

    def pending_notices(self) -> list[NodeNotice]:
        """The notices that were not taken back, in the order they came in; old ones included."""
        return [
            NodeNotice(
                notice_id=row["notice_id"],
                provider=row["provider"],
                window_ms=row["window_ms"],
                seen_at=row["seen_at"],
                payload=json.loads(row["payload"]),
            )
            for row in self._rows("SELECT * FROM notices WHERE cancelled = 0 ORDER BY rowid")
        ]

    @contextmanager
    def _transaction(self) -> Iterator[Database]:
        if self._database is None:
            raise ValueError("this journal was opened for looking only")
        with self._lock, reported(self._path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.rollback()
                raise

    def _rows(self, sql: str, *parameters: object) -> list[dict[str, Any]]:
        with self._lock, reported(self._path):
            return [dict(row) for row in self._connection.execute(sql, parameters)]
