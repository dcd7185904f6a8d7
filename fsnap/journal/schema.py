"""The file under the local journal: opened, migrated, opened for looking only.

A file says whose it is (``application_id``) and how new (``user_version``, the number
of the last migration).  Each migration is one transaction that sets its number, so
that two agents that open a new file at once agree.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from fsnap.durable import make_directory, sync_directory
from fsnap.errors import CorruptData, NewerSchema
from fsnap.journal.errors import LOCAL_HINT, JournalError, JournalMissing, reported
from fsnap.journal.rows import COLUMNS

if TYPE_CHECKING:
    from sqlite_utils import Database

APPLICATION_ID = 0x66736E70
BUSY_S = 10.0
"""How long a statement waits for another process: longer than any commit, shorter than most windows."""


def open_writer(path: Path) -> Database:
    """The journal at *path*, made if it is missing, brought to this version.

    :class:`~fsnap.errors.CorruptData`, :class:`~fsnap.errors.NewerSchema`,
    :class:`~fsnap.journal.errors.JournalError`.
    """
    with reported(path):
        make_directory(path.parent)
        if not path.exists():
            _create(path)
        database = _open(path)
        try:
            _check_pages(database.conn, path)
        except BaseException:
            database.conn.close()
            raise
    return database


def open_reader(path: Path) -> sqlite3.Connection:
    """The journal at *path* for looking only: neither it nor its log changes, and no file is made beside it.

    A journal without a log has no writer now and is read as it lies; open it again for
    each new look.
    """
    log, shared = _beside(path)
    with reported(path):
        if not path.exists():
            raise JournalMissing(f"there is no journal {path}")
        if not log.exists() or log.stat().st_size == 0:
            connection = _connect(f"{path.absolute().as_uri()}?immutable=1")
        elif shared.exists():
            connection = _connect(f"{path.absolute().as_uri()}?mode=ro")
        else:
            connection = _copied(path, log)
        try:
            _check_owner(connection, path)
            if _number(connection, "user_version") == 0:
                raise CorruptData(f"{path} is not a journal", hint=LOCAL_HINT)
        except BaseException:
            connection.close()
            raise
    return connection


def set_aside(path: Path) -> Path:
    """Rename a damaged journal, with its log, so that a new one can take its name; where it is now.

    The log goes first: beside a new file it would be taken for that one's.
    """
    number = 1
    while (target := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    with reported(path):
        for old, new in zip((*_beside(path), path), (*_beside(target), target), strict=True):
            if old.exists():
                os.rename(old, new)
        sync_directory(path.parent)
    return target


def _beside(path: Path) -> tuple[Path, Path]:
    return path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")


def _connect(name: str) -> sqlite3.Connection:
    connection = sqlite3.connect(name, timeout=BUSY_S, check_same_thread=False, uri=name.startswith("file:"))
    connection.row_factory = sqlite3.Row
    # A flipped byte may leave no UTF-8: the digest finds it, where a refusal to decode would hide the row.
    connection.text_factory = lambda data: data.decode("utf-8", "replace")
    return connection


def _create(path: Path) -> None:
    """Make a whole journal elsewhere and give it its name, unless somebody else was first.

    Two agents that switch one new file to a write-ahead log at once can find it locked,
    which SQLite reports without waiting.
    """
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as directory:
        made = Path(directory) / path.name
        os.close(os.open(made, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        _open(made).conn.close()
        with suppress(FileExistsError):
            os.link(made, path)
    sync_directory(path.parent)


def _open(path: Path) -> Database:
    # Imported here: it loads numpy where that is installed, 150 ms that `fsnap status` has no use for.
    from sqlite_utils import Database

    connection = _connect(str(path))
    try:
        database = Database(connection, execute_plugins=False)
        _set_up(connection, path)
        _check_owner(connection, path)
        _migrate(database, path)
    except BaseException:
        connection.close()
        raise
    return database


def _set_up(connection: sqlite3.Connection, path: Path) -> None:
    mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
    if mode != "wal":
        raise JournalError(
            f"journal {path}: this file system cannot share a write-ahead log",
            hint="Put FSNAP_HOME on a local disk.",
        )
    connection.execute("PRAGMA synchronous=FULL")


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])


def _check_owner(connection: sqlite3.Connection, path: Path) -> None:
    version, owner = _number(connection, "user_version"), _number(connection, "application_id")
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if owner != APPLICATION_ID and (version or owner or tables):
        raise CorruptData(f"{path} is a database, but not a journal", hint=LOCAL_HINT)
    if version > len(MIGRATIONS):
        raise NewerSchema(f"journal {path} has schema {version}; this fsnap reads up to {len(MIGRATIONS)}")


def _check_pages(connection: sqlite3.Connection, path: Path) -> None:
    """A damaged page is better found now, while the file can be rebuilt, than within a window."""
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise CorruptData(f"journal {path} is damaged ({' '.join(found.split())})", hint=LOCAL_HINT)


def _migrate(database: Database, path: Path) -> None:
    connection = database.conn
    if _number(connection, "user_version") == len(MIGRATIONS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        _check_owner(connection, path)
        for number in range(_number(connection, "user_version"), len(MIGRATIONS)):
            MIGRATIONS[number](database)
            connection.execute(f"PRAGMA user_version = {number + 1}")
        connection.execute("COMMIT")
    except BaseException:
        connection.rollback()
        raise


def _first(database: Database) -> None:
    database.conn.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    database.table("records").create(COLUMNS, pk=("task", "seq"), not_null=set(COLUMNS), strict=True)
    tables: dict[str, tuple[dict[str, type], str | tuple[str, ...]]] = {
        # Objects of the store that hold records of ours or of others that are in `records`.
        "mirrored": ({"task": str, "first_seq": int, "last_seq": int}, ("task", "first_seq")),
        # The one object under way: its bytes, since a put that was given up may have won.
        "batches": ({"task": str, "first_seq": int, "sha256": str, "body": bytes}, ("task", "first_seq")),
        # What lost against the store, as it was, for whoever explains a lost run.
        "orphaned": ({"id": int, "task": str, "seq": int, "digest": str, "record": str, "reason": str}, "id"),
        "meta": ({"task": str, "key": str, "value": str}, ("task", "key")),
        "notices": (
            {
                "notice_id": str,
                "provider": str,
                "window_ms": int,
                "seen_at": str,
                "payload": str,
                "cancelled": int,
            },
            "notice_id",
        ),
    }
    for name, (columns, key) in tables.items():
        database.table(name).create(columns, pk=key, not_null=set(columns) - {"id"}, strict=True)


MIGRATIONS: tuple[Callable[[Database], None], ...] = (_first,)
"""The first makes version 1, and so on; what has been released never changes."""


def _copied(path: Path, log: Path) -> sqlite3.Connection:
    """A journal whose shared memory is gone (it was copied): SQLite would have to make it anew beside it."""
    with tempfile.TemporaryDirectory(prefix="fsnap-") as directory:
        copy = Path(directory) / "journal.db"
        shutil.copyfile(path, copy)
        shutil.copyfile(log, copy.with_name(copy.name + "-wal"))
        source = _connect(str(copy))
        try:
            connection = _connect(":memory:")
            source.backup(connection)
        finally:
            source.close()
    return connection
