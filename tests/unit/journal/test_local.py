"""The local journal on real SQLite."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fsnap.core.fold import fold_all
from fsnap.core.model import TaskState
from fsnap.core.records import record_to_plain, seal
from fsnap.errors import CorruptData
from fsnap.journal import local
from fsnap.journal.local import NO_RECORDS, Journal
from tests.unit.journal.support import TASK, fill, note, tamper


def test_records_come_back_as_they_were(journal: Journal, path: Path) -> None:
    fill(journal, 3)
    fill(journal, 1, "other")
    again = Journal.open(path)
    records = again.records(TASK)
    assert [record.seq for record in records] == [1, 2, 3]
    assert records == journal.records(TASK)
    assert records[0] == note(NO_RECORDS)
    assert again.records(TASK, after=2) == records[2:]
    assert again.records(TASK, after=3) == again.records("unknown") == []
    assert again.tasks() == [TASK, "other"]
    assert again.head(TASK) == (3, records[2].digest)
    again.close()


def test_the_state_is_the_fold_of_all_records(journal: Journal) -> None:
    assert journal.state(TASK) == TaskState(task=TASK)
    for _ in range(3):
        fill(journal, 1)
        assert journal.state(TASK) == fold_all(TaskState(task=TASK), journal.records(TASK))
    journal.orphan_tail(TASK, "a test")
    fill(journal, 1)
    assert journal.state(TASK).seq == 1


def test_only_the_next_sealed_record_is_taken(journal: Journal) -> None:
    fill(journal, 2)
    head = journal.head(TASK)
    for wrong in (
        note(NO_RECORDS),
        note(head._replace(seq=1)),
        note(head._replace(seq=3)),
        note(head._replace(digest="0" * 64)),
    ):
        with pytest.raises(ValueError, match="does not follow"):
            journal.append(wrong)
    right = note(head)
    unsealed = seal(right).__class__(
        **{name: getattr(right, name) for name in record_to_plain(right)} | {"digest": ""}
    )
    with pytest.raises(ValueError, match="not sealed"):
        journal.append(unsealed)
    assert journal.head(TASK) == head
    journal.append(right)


def test_a_new_file_is_for_its_owner_alone(journal: Journal, path: Path) -> None:
    fill(journal, 1)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}


def test_commits_are_synced_and_tables_strict(journal: Journal, path: Path) -> None:
    connection = journal._connection
    assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2
    tables = connection.execute("SELECT name, strict FROM pragma_table_list WHERE schema = 'main'").fetchall()
    strict = {row["name"]: row["strict"] for row in tables if not row["name"].startswith("sqlite_")}
    assert strict == dict.fromkeys(("records", "mirrored", "batches", "orphaned", "meta", "notices"), 1)


def test_a_record_is_there_after_the_process_was_killed(path: Path) -> None:
    journal = Journal.open(path)
    fill(journal, 2)
    for name in ("journal.db", "journal.db-wal"):  # what a crash at this instant leaves on the disk
        copy = path.with_name(f"crashed-{name}")
        copy.write_bytes(path.with_name(name).read_bytes())
    crashed = Journal.open(path.with_name("crashed-journal.db"))
    assert crashed.records(TASK) == journal.records(TASK)
    crashed.close()
    journal.close()


@pytest.mark.parametrize("column", ["note", "facts", "at", "digest", "event"])
def test_a_flipped_byte_in_a_record_is_found(journal: Journal, path: Path, column: str) -> None:
    fill(journal, 3)
    tamper(
        path, f"UPDATE records SET {column} = replace({column}, substr({column}, 4, 1), '~') WHERE seq = 2"
    )
    with pytest.raises(CorruptData, match=re.escape(str(path))) as found:
        journal.records(TASK)
    assert "Move it aside" in found.value.hint
    with pytest.raises(CorruptData):
        journal.state(TASK)


def test_bytes_that_are_no_text_are_found(journal: Journal, path: Path) -> None:
    fill(journal, 1)
    tamper(path, "UPDATE records SET note = CAST(x'c328' AS TEXT)")
    with pytest.raises(CorruptData):
        journal.records(TASK)


def test_a_record_that_is_whole_but_not_in_the_chain_is_found(journal: Journal, path: Path) -> None:
    fill(journal, 3)
    tamper(path, "DELETE FROM records WHERE seq = 2")
    with pytest.raises(CorruptData, match="#3, not #2"):
        journal.records(TASK)
    with pytest.raises(CorruptData):
        journal.records(TASK, after=2)


def test_small_values(journal: Journal, path: Path) -> None:
    assert journal.get_meta(TASK, "store") is None
    journal.put_meta(TASK, "store", "file:///a")
    journal.put_meta(TASK, "store", "file:///b")
    journal.put_meta("other", "store", "")
    again = Journal.open(path)
    assert (again.get_meta(TASK, "store"), again.get_meta("other", "store")) == ("file:///b", "")
    again.close()


def test_of_all_agents_one_is_the_first_to_see_a_notice(path: Path) -> None:
    Journal.open(path).close()
    barrier = threading.Barrier(6)
    first: list[int] = []

    def agent(number: int) -> None:
        journal = Journal.open(path)
        barrier.wait()
        for notice in ("n1", "n2", "n3"):
            if journal.note_notice(notice, "aws", 120_000, f"at {number}", {"plan": number}):
                first.append(number)
        journal.close()

    threads = [threading.Thread(target=agent, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal = Journal.open(path)
    pending = journal.pending_notices()
    assert [notice.notice_id for notice in pending] == ["n1", "n2", "n3"]
    assert sorted(notice.payload["plan"] for notice in pending) == sorted(first)
    assert all(notice.seen_at == f"at {notice.payload['plan']}" for notice in pending)
    journal.cancel_notice("n2")
    journal.cancel_notice("unknown")
    assert [notice.notice_id for notice in journal.pending_notices()] == ["n1", "n3"]
    assert not journal.note_notice("n2", "aws", 1, "later", {})
    journal.close()


def test_threads_that_append_to_one_task_have_one_winner_each_time(path: Path) -> None:
    journal = Journal.open(path)
    barrier = threading.Barrier(8)
    outcomes: list[str] = []

    def race(number: int) -> None:
        barrier.wait()
        try:
            journal.append(note(NO_RECORDS, node=f"n{number}"))
        except ValueError:
            outcomes.append("late")
        else:
            outcomes.append("won")

    threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["late"] * 7 + ["won"]
    assert len(journal.records(TASK)) == 1
    journal.close()


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from fsnap.journal.local import Journal
from tests.unit.journal.support import note
sys.stdin.readline()
journal = Journal.open(Path(sys.argv[1]))
for _ in range(40):
    journal.append(note(journal.head(sys.argv[2]), task=sys.argv[2]))
"""


@pytest.mark.process
def test_processes_make_one_file_and_append_to_it_at_once(path: Path, checkout: Path) -> None:
    tasks = ["a", "b", "c"]
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITER, path, task, checkout], stdin=subprocess.PIPE)
        for task in tasks
    ]
    for process in processes:
        process.communicate(b"\n")
    assert [process.returncode for process in processes] == [0] * len(tasks)
    journal = Journal.open(path)
    assert journal.tasks() == tasks
    assert [len(journal.records(task)) for task in tasks] == [40] * len(tasks)
    journal.close()


@pytest.mark.process
def test_importing_the_journal_loads_nothing_heavy(checkout: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); before = set(sys.modules);"
        "import fsnap.journal.local, fsnap.journal.mirror, fsnap.journal.heads, fsnap.journal.heartbeat;"
        "print(*set(sys.modules) - before)"
    )
    run = subprocess.run([sys.executable, "-c", code, checkout], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in run.stdout.split()}
    assert "sqlite3" in loaded
    assert not loaded & {"boto3", "google", "numpy", "sqlite_utils", "transitions", "yaml", "zstandard"}


def test_a_batch_is_bounded(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "MAX_BATCH_RECORDS", 3)
    fill(journal, 5)
    batch = journal.keep_batch(TASK, lambda: "n1")
    assert batch is not None and (batch.first_seq, batch.last_seq) == (1, 3)
    monkeypatch.setattr(local, "MAX_BATCH_BYTES", 3 * len(batch.body) // 4)
    journal.accept(TASK, [batch], reason="")
    journal.append(note(journal.head(TASK), text="x" * len(batch.body)))
    sizes = []
    while (batch := journal.keep_batch(TASK, lambda: "n2")) is not None:
        journal.accept(TASK, [batch], reason="")
        sizes.append(len(batch.records))
    assert sizes == [2, 1]
    assert journal.mirrored_seq(TASK) == 6


def test_a_kept_batch_stays_as_it_is(journal: Journal, path: Path) -> None:
    fill(journal, 1)
    kept = journal.keep_batch(TASK, lambda: "first")
    fill(journal, 1)
    again = Journal.open(path)
    assert again.keep_batch(TASK, lambda: "second") == kept
    tamper(path, "UPDATE batches SET body = x'7b7d'")
    with pytest.raises(CorruptData, match="kept batch 1"):
        again.keep_batch(TASK, lambda: "third")
    again.close()


def test_forgetting_a_task_keeps_it_for_whoever_explains(journal: Journal) -> None:
    fill(journal, 2)
    fill(journal, 1, "other")
    batch = journal.keep_batch(TASK, lambda: "n")
    assert batch is not None
    journal.accept(TASK, [batch], reason="")
    journal.forget(TASK, "begins anew")
    assert (journal.head(TASK), journal.mirrored_seq(TASK)) == (NO_RECORDS, 0)
    assert [(orphan.seq, orphan.reason) for orphan in journal.orphaned(TASK)] == [
        (1, "begins anew"),
        (2, "begins anew"),
    ]
    assert journal.tasks() == ["other"]
