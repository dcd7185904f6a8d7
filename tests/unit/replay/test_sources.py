"""Whatever can be read is read, from wherever it lies, and nothing is written there."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from fsnap.cli.replaysource import CannotRead, TaskJournal, read_source
from fsnap.core.events import Notice
from fsnap.core.records import record_to_plain
from fsnap.core.replay import Damage, assemble
from fsnap.errors import UsageError
from fsnap.journal import heads
from fsnap.journal.local import Journal
from fsnap.journal.mirror import Mirror, journal_object
from fsnap.journal.rows import encode_batch
from fsnap.stores.file import FileStore
from tests.unit.replay.story import Story, two_reclaims


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(Journal.open(tmp_path / "home" / "journal.db")) as journal:
        yield journal


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(str(tmp_path / "store"))


def put(journal: Journal, *stories: Story) -> None:
    for story in stories:
        for record in story.records:
            journal.append(record)


def mirrored(journal: Journal, store: FileStore, story: Story) -> None:
    """One object per record, as a careful agent makes them."""
    mirror = Mirror(journal=journal, store=store, task=story.state.task, nonce=lambda: "nonce")
    for record in story.records:
        journal.append(record)
        mirror.flush()


def damage(one: TaskJournal) -> list[Damage]:
    return assemble(one.found, known_last_seq=one.known_last_seq, known_by=one.known_by)[1]


def only(source: object, task: str | None = None) -> TaskJournal:
    (one,) = read_source(str(source), task).tasks
    return one


def test_a_journal_file_while_an_agent_has_it_open(journal: Journal, tmp_path: Path) -> None:
    story = two_reclaims()
    put(journal, story)
    for source in (tmp_path / "home" / "journal.db", tmp_path / "home"):
        found = only(source)
        assert [one.record for one in found.found] == story.records
        assert damage(found) == []
        assert found.remarks == ["the last 14 of these records had not reached the store"]


def test_all_tasks_or_one(journal: Journal, tmp_path: Path) -> None:
    put(journal, Story("b/2").claims(), Story("a").claims())
    assert [one.task for one in read_source(str(tmp_path / "home"), None).tasks] == ["a", "b/2"]
    assert only(tmp_path / "home", "b/2").task == "b/2"
    with pytest.raises(CannotRead, match="no task 'c'"):
        read_source(str(tmp_path / "home"), "c")


def test_a_damaged_row(journal: Journal, tmp_path: Path) -> None:
    put(journal, two_reclaims())
    journal.close()
    with closing(sqlite3.connect(tmp_path / "home" / "journal.db")) as file:
        file.execute("UPDATE records SET facts = replace(facts, '0', '1') WHERE seq = 4")
        file.execute("UPDATE records SET effects = '[' WHERE seq = 6")
        file.execute("DELETE FROM records WHERE seq = 9")
        file.commit()
    problems = [(one.first_seq, one.last_seq, one.problem) for one in damage(only(tmp_path / "home"))]
    mismatch = "does not match its digest"
    assert problems == [(4, 4, mismatch), (6, 6, mismatch), (9, 9, "missing")]


def test_a_damaged_page(journal: Journal, tmp_path: Path) -> None:
    story = Story().claims()
    for _ in range(60):
        story.after(1_000).checkpoint()
    put(journal, story)
    path = tmp_path / "home" / "journal.db"
    with closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        page_bytes = file.execute("PRAGMA page_size").fetchone()[0]
        leaf = file.execute("SELECT rootpage FROM sqlite_master WHERE name = 'records'").fetchone()[0]
    journal.close()
    content = bytearray(path.read_bytes())
    place = content.index(b'"snapshot_id":"000001-0000000062"') // page_bytes
    assert place > leaf
    content[place * page_bytes : (place + 1) * page_bytes] = b"\xff" * page_bytes
    path.write_bytes(content)
    journals = read_source(str(path), None)
    assert "damaged" in journals.problems[0]
    kept = [one.seq for one in journals.tasks[0].found if one.record is not None]
    assert kept[0] == 1
    assert kept[-1] == len(story.records)
    assert len(story.records) - 12 < len(kept) < len(story.records)


def test_what_lost_is_remarked(journal: Journal, store: FileStore, tmp_path: Path) -> None:
    story = Story().claims()
    mirrored(journal, store, story)
    journal.append(story.after(5).happens(Notice(notice_id="n", provider="aws", window_ms=1)))
    journal.orphan_tail("T", "another node was first")
    found = only(tmp_path / "home")
    assert found.remarks == ["1 more records of this node lost against another node's, and count for nothing"]


def test_a_mirrored_record_that_is_not_there(journal: Journal, store: FileStore, tmp_path: Path) -> None:
    mirrored(journal, store, two_reclaims())
    journal.close()
    with closing(sqlite3.connect(tmp_path / "home" / "journal.db")) as file:
        file.execute("DELETE FROM records WHERE seq > 11")
        file.commit()
    (one,) = damage(only(tmp_path / "home"))
    assert (one.first_seq, one.last_seq) == (12, 14)
    assert one.problem.startswith("missing: ")


def test_a_store(journal: Journal, store: FileStore) -> None:
    story = two_reclaims()
    mirrored(journal, store, story)
    heads.publish(store, story.state)
    found = only(store.url)
    assert [one.record for one in found.found] == story.records
    assert damage(found) == []
    assert only(store.url, "T").task == "T"
    with pytest.raises(CannotRead, match="no task 'U'"):
        read_source(store.url, "U")


def test_a_journal_of_which_only_the_head_is_left(store: FileStore) -> None:
    heads.publish(store, two_reclaims().state)
    (one,) = damage(only(store.url, "T"))
    assert (one.first_seq, one.last_seq, one.problem) == (1, 14, "missing: its head speaks of it")


def test_damaged_objects(journal: Journal, store: FileStore) -> None:
    mirrored(journal, store, two_reclaims())
    store.put(journal_object("T", 3), b'{"schema": 1, "nonce": "n", "rec')
    changed = store.get(journal_object("T", 6)).replace(b'"mono_ms":', b'"mono_ms":1')
    store.put(journal_object("T", 6), changed)
    store.delete(journal_object("T", 9))
    store.put(journal_object("T", 14), b'{"schema": 2, "nonce": "n", "records": [{}]}')
    found = {(one.first_seq, one.last_seq): one.problem for one in damage(only(store.url))}
    assert found.keys() == {(3, 3), (6, 6), (9, 9), (14, 14)}
    assert found[3, 3] == "the object is damaged: not JSON"
    assert found[6, 6] == "does not match its digest"
    assert "schema 2" in found[14, 14]
    assert "needed" in found[14, 14]


def test_an_object_of_many_records_that_is_gone(journal: Journal, store: FileStore) -> None:
    story = two_reclaims()
    mirrored(journal, store, story)
    for seq in range(3, 7):
        store.delete(journal_object("T", seq))
    batch = json.loads(store.get(journal_object("T", 7)))
    store.put(journal_object("T", 3), b"?")
    assert batch["records"][0]["seq"] == 7
    (one,) = damage(only(store.url))
    assert (one.first_seq, one.last_seq) == (3, 6)


def test_a_store_that_ends_before_its_head(journal: Journal, store: FileStore) -> None:
    story = two_reclaims()
    mirrored(journal, store, story)
    heads.publish(store, story.state)
    store.delete(journal_object("T", 14))
    (one,) = damage(only(store.url))
    assert (one.first_seq, one.last_seq, one.problem) == (14, 14, "missing: its head speaks of it")


def test_another_tasks_record_in_a_journal(journal: Journal, store: FileStore) -> None:
    mirrored(journal, store, two_reclaims())
    other = Story("U").claims()
    body = encode_batch("U", [record_to_plain(other.records[0])], "nonce").body
    store.put(journal_object("T", 1), body)
    assert damage(only(store.url))[0].problem == "belongs to task 'U'"


def test_an_export_in_any_order_and_a_stores_object(tmp_path: Path) -> None:
    story = two_reclaims()
    lines = story.export(tmp_path / "f").read_text().splitlines()
    (tmp_path / "f").write_text("\n\n".join(reversed(lines)))
    assert damage(only(tmp_path / "f")) == []
    plains = [json.loads(line) for line in lines]
    (tmp_path / "f").write_bytes(b"\n".join(encode_batch("T", [one], "n").body for one in plains))
    assert damage(only(tmp_path / "f")) == []


def test_lines_that_are_no_records_belong_to_the_task_around_them(tmp_path: Path) -> None:
    one, other = Story("a").claims(), Story("b").claims()
    text = (
        b"oops\n"
        + one.export(tmp_path / "a").read_bytes()
        + b"[1]\n"
        + other.export(tmp_path / "b").read_bytes()
    )
    (tmp_path / "f").write_bytes(text)
    first, second = read_source(str(tmp_path / "f"), None).tasks
    assert [one.problem for one in damage(first)] == [
        "stands there twice, and the other one line 1 is not a record"
    ]
    assert [one.problem for one in damage(second)] == [
        "stands there twice, and the other one line 3 is not a record"
    ]


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"{}", b"no records\n", b'{"schema":1,"records":[]}', b"\0" * 99]
)
def test_a_file_without_any_record(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(CannotRead, match="no records"):
        read_source(str(tmp_path / "f"), None)


def test_what_is_no_source(tmp_path: Path, store: FileStore) -> None:
    with pytest.raises(UsageError, match=r"without a journal\.db"):
        read_source(str(tmp_path), None)
    with pytest.raises(UsageError, match="empty"):
        read_source("", None)
    with pytest.raises(UsageError, match="unknown scheme"):
        read_source("ftp://host/x", None)
    with pytest.raises(CannotRead, match="No such file"):
        read_source(str(tmp_path / "nothing"), None)
    with pytest.raises(CannotRead):
        read_source(f"file://{tmp_path}/nothing", None)
    with pytest.raises(CannotRead, match="no records in"):
        read_source(store.url, None)
    with closing(sqlite3.connect(tmp_path / "other.db")) as file:
        file.execute("CREATE TABLE t (x)")
    with pytest.raises(CannotRead, match="not a journal"):
        read_source(str(tmp_path / "other.db"), None)
    assert not (tmp_path / "nothing").exists()
