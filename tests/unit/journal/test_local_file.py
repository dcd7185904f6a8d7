"""The file under the journal: damaged, foreign, newer, full, locked, looked at."""

from __future__ import annotations

import os
import re
import resource
import sqlite3
from pathlib import Path

import pytest

from fsnap.errors import EXIT_STORE, CorruptData, NewerSchema
from fsnap.journal import schema
from fsnap.journal.errors import JournalBusy, JournalError, JournalFull, JournalMissing
from fsnap.journal.local import Journal, set_aside
from tests.unit.journal.support import TASK, fill, note


def test_a_damaged_file_is_set_aside(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database " * 1000)
    with pytest.raises(CorruptData, match="damaged") as found:
        Journal.open(path)
    path.with_name("journal.db-wal").write_bytes(b"nor a log")
    assert "Move it aside" in found.value.hint
    kept = set_aside(path)
    assert kept.name == "journal.db.damaged-1"
    assert kept.read_bytes().startswith(b"no database")
    assert sorted(os.listdir(path.parent)) == ["journal.db.damaged-1", "journal.db.damaged-1-wal"]
    journal = Journal.open(path)
    assert journal.tasks() == []
    journal.close()
    path.write_bytes(b"no database " * 1000)
    assert set_aside(path).name == "journal.db.damaged-2"


def test_a_damaged_page_is_found_at_the_open(journal: Journal, path: Path) -> None:
    fill(journal, 40)
    journal.close()
    pages = bytearray(path.read_bytes())
    page = pages.index(b"node-a 20") & ~4095
    pages[page : page + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(pages)
    with pytest.raises(CorruptData, match="damaged"):
        Journal.open(path)


def test_another_programs_database_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    with pytest.raises(CorruptData, match="not a journal"):
        Journal.open(path)
    with pytest.raises(CorruptData, match="not a journal"):
        Journal.open_readonly(path)


def test_a_newer_file_is_refused(journal: Journal, path: Path) -> None:
    fill(journal, 1)
    journal._connection.execute(f"PRAGMA user_version = {len(schema.MIGRATIONS) + 1}")
    for opening in (Journal.open, Journal.open_readonly):
        with pytest.raises(NewerSchema, match="schema 2; this fsnap reads up to 1"):
            opening(path)


def test_a_migration_that_fails_changes_nothing(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(journal, 1)

    def second(database: object) -> None:
        journal_table = "CREATE TABLE extra (x)"
        database.execute(journal_table)  # type: ignore[attr-defined]
        raise sqlite3.OperationalError("no")

    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, second))
    with pytest.raises(JournalError):
        Journal.open(path)
    monkeypatch.undo()
    again = Journal.open(path)
    assert len(again.records(TASK)) == 1
    assert not again._rows("SELECT 1 FROM sqlite_master WHERE name = 'extra'")
    again.close()


def test_a_full_disk_is_said_in_one_line_and_adds_nothing(journal: Journal, path: Path) -> None:
    fill(journal, 1)
    pages = journal._connection.execute("PRAGMA page_count").fetchone()[0]
    journal._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(JournalFull) as full:
        fill(journal, 50)
    assert str(full.value) == f"journal {path}: the disk is full"
    assert full.value.exit_code == EXIT_STORE
    before = journal.head(TASK)
    with pytest.raises(JournalFull):
        journal.append(note(before, text="x" * 100_000))
    assert journal.head(TASK) == before
    journal._connection.execute("PRAGMA max_page_count = 1000000")
    fill(journal, 1)
    assert len(journal.records(TASK)) == before.seq + 1


def test_a_file_that_may_not_grow_is_an_error_of_the_journal(journal: Journal, path: Path) -> None:
    fill(journal, 1)
    size = path.with_name("journal.db-wal").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, hard))
    try:
        with pytest.raises(JournalError, match=re.escape(str(path))):
            fill(journal, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    fill(journal, 1)
    assert len(journal.records(TASK)) == 2


def test_a_home_that_is_a_file_is_an_error_of_the_journal(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match="file"):
        Journal.open(tmp_path / "file" / "journal.db")


def test_a_lock_that_is_held_too_long_is_said(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "BUSY_S", 0.05)
    other = Journal.open(path)
    journal._connection.execute("BEGIN IMMEDIATE")
    with pytest.raises(JournalBusy) as busy:
        fill(other, 1)
    assert busy.value.retryable
    journal._connection.execute("ROLLBACK")
    fill(other, 1)
    other.close()


def test_looking_changes_nothing(journal: Journal, path: Path) -> None:
    fill(journal, 2)

    def content() -> dict[str, bytes]:
        names = (path, path.with_name("journal.db-wal"))
        return {file.name: file.read_bytes() for file in names if file.exists()}

    before = content(), sorted(os.listdir(path.parent))
    assert set(before[0]) == {"journal.db", "journal.db-wal"}
    beside = Journal.open_readonly(path)
    assert len(beside.records(TASK)) == 2
    with pytest.raises(ValueError, match="looking only"):
        fill(beside, 1)
    beside.close()
    assert (content(), sorted(os.listdir(path.parent))) == before
    journal.close()
    before = content(), sorted(os.listdir(path.parent))
    assert set(before[0]) == {"journal.db"}
    alone = Journal.open_readonly(path)
    assert alone.state(TASK).seq == 2
    alone.close()
    assert (content(), sorted(os.listdir(path.parent))) == before


def test_a_copy_with_its_log_alone_can_be_looked_at(journal: Journal, path: Path, tmp_path: Path) -> None:
    fill(journal, 2)
    copies = tmp_path / "evidence"
    copies.mkdir()
    for name in ("journal.db", "journal.db-wal"):
        (copies / name).write_bytes(path.with_name(name).read_bytes())
    look = Journal.open_readonly(copies / "journal.db")
    assert look.records(TASK) == journal.records(TASK)
    look.close()
    assert sorted(os.listdir(copies)) == ["journal.db", "journal.db-wal"]


def test_a_journal_that_is_not_there_is_not_made_by_looking(path: Path) -> None:
    with pytest.raises(JournalMissing, match=re.escape(str(path))):
        Journal.open_readonly(path)
    assert not path.parent.exists()
    path.parent.mkdir()
    path.touch()
    with pytest.raises(CorruptData, match="not a journal"):
        Journal.open_readonly(path)
