"""How the journal fails, and what SQLite's failures are in these terms."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fsnap.errors import EXIT_STORE, EXIT_USAGE, CorruptData, FsnapError, StoreError

LOCAL_HINT = "Move it aside (with its -wal and -shm): it is rebuilt from the store at the next run."


class JournalError(StoreError):
    """The local journal cannot be opened, read or written.

    A store's error, since whoever waits for the store to take a record waits for both.
    """

    code = "journal"
    hint = "Check FSNAP_HOME: its permissions, its file system, its disk."


class JournalFull(JournalError):
    """No room for a record; nothing of it was written."""

    code = "journal-full"
    hint = "Make room on the disk that holds FSNAP_HOME."
    retryable = True


class JournalBusy(JournalError):
    """Another process held the journal's lock for too long."""

    code = "journal-busy"
    hint = "Another agent on this node is stuck, or the disk is very slow."
    retryable = True


class JournalMissing(JournalError):
    """There is no journal file here."""

    code = "journal-missing"
    exit_code = EXIT_USAGE
    hint = "No task has run on this node under this FSNAP_HOME."


class StoreBehind(CorruptData):
    """The store lacks journal objects that this node saw: it was emptied, rolled back, or is another one."""

    code = "store-behind"
    exit_code = EXIT_STORE
    hint = "Name the store that the task began with; if its journal was deleted on purpose, say --fresh."


@contextmanager
def reported(path: Path) -> Iterator[None]:
    """Turn SQLite's errors about the file *path* into ours; misuse (``ProgrammingError``) passes."""
    try:
        yield
    except sqlite3.ProgrammingError:
        raise
    except sqlite3.DatabaseError as error:
        raise _meaning(path, error) from error
    except OSError as error:
        raise JournalError(f"journal {path}: {error.strerror or error}") from error


def _meaning(path: Path, error: sqlite3.DatabaseError) -> FsnapError:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return JournalFull(f"journal {path}: the disk is full")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return CorruptData(f"journal {path} is damaged ({error})", hint=LOCAL_HINT)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return JournalBusy(f"journal {path}: locked by another process")
    return JournalError(f"journal {path}: {error}")
