"""Damage, here and in the store: named, repaired from the other side, or given up, never passed over."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable

import pytest

from fsnap.errors import CorruptData, FsnapError, StoreUnavailable
from fsnap.journal.errors import StoreBehind
from fsnap.journal.mirror import journal_object, read_records
from fsnap.stores.base import Store
from tests.unit.journal.support import (
    TASK,
    FaultyStore,
    NodeMaker,
    damage,
    flip,
    halve,
    keys,
    note,
    tamper,
)


@pytest.mark.parametrize(
    "change", [flip, halve, lambda data: b"", lambda data: b"[]", lambda data: data + b"x"]
)
def test_a_damaged_object_is_named(store: Store, node: NodeMaker, change: Callable[[bytes], bytes]) -> None:
    a = node(store)
    for _ in range(3):
        a.append(1)
        a.mirror.flush()
    key = damage(store, 2, change)
    b = node(store, "node-b")
    for look in (b.mirror.pull, lambda: read_records(store, TASK)):
        with pytest.raises(CorruptData, match=key):
            look()
    assert b.journal.tasks() == []


@pytest.mark.parametrize("missing", [1, 2])
def test_a_missing_object_is_not_passed_over(store: Store, node: NodeMaker, missing: int) -> None:
    a = node(store)
    for _ in range(3):
        a.append(1)
        a.mirror.flush()
    store.delete(journal_object(TASK, missing))
    with pytest.raises(CorruptData, match=journal_object(TASK, missing + 1)):
        node(store, "node-b").mirror.pull()


def test_an_object_under_a_wrong_name_is_refused(store: Store, node: NodeMaker) -> None:
    a, other = node(store), node(store, "node-b", "other")
    for each in (a, other):
        each.append(1)
        each.mirror.flush()
    store.put(journal_object(TASK, 2), store.get(journal_object(TASK, 1)))
    with pytest.raises(CorruptData, match="begins with record 1"):
        a.mirror.pull()
    store.delete(journal_object(TASK, 2))
    store.put(journal_object(TASK, 1), store.get(journal_object("other", 1)))
    with pytest.raises(CorruptData, match="found other#1"):
        node(store, "node-c").mirror.pull()


def test_an_object_that_was_listed_and_is_gone_is_named(
    faulty: FaultyStore, node: NodeMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = node(faulty)
    a.append(1)
    a.mirror.flush()
    row = next(iter(faulty.list("tasks/")))
    faulty.delete(row.key)
    monkeypatch.setattr(faulty, "list", lambda *_, **__: iter([row]))
    with pytest.raises(CorruptData, match="listed and cannot be read"):
        node(faulty, "node-b").mirror.pull()


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE records SET note = 'not what was decided' WHERE seq = 2",
        "UPDATE records SET facts = '{' WHERE seq = 1",
        "DELETE FROM records WHERE seq = 3",
        "DELETE FROM records",
        "UPDATE records SET digest = 'x' WHERE seq = 3",
        "DELETE FROM mirrored",
        "UPDATE mirrored SET first_seq = 4, last_seq = 3 WHERE first_seq = 3",
    ],
)
def test_mirrored_records_that_were_damaged_here_come_back(store: Store, node: NodeMaker, harm: str) -> None:
    a, b = node(store), node(store, "node-b")
    for _ in range(3):
        a.append(1)
        a.mirror.flush()
    b.mirror.pull()
    tamper(a.path, harm)
    assert a.mirror.pull().seq == 3
    assert a.digests() == b.digests()
    assert a.journal.mirrored_seq(TASK) == 3
    a.append(1)
    assert a.mirror.flush() == 4


def test_a_forged_history_here_gives_way_to_the_store(store: Store, node: NodeMaker) -> None:
    a, b = node(store), node(store, "node-b")
    a.append(2)
    a.mirror.flush()
    b.mirror.pull()
    forged = node(store, "node-c")
    forged.append(2)  # well-formed records that were never in the store ...
    tamper(forged.path, "INSERT INTO mirrored VALUES (?, 1, 2)", TASK)  # ... and are said to be
    forged.restart()
    assert forged.mirror.pull().seq == 2
    assert forged.digests() == b.digests()
    assert [seq for seq, _ in forged.lost()] == [1, 2]


def test_a_tail_that_was_damaged_is_given_up(store: Store, node: NodeMaker) -> None:
    a = node(store)
    a.append(1)
    a.mirror.flush()
    a.append(3)
    tamper(a.path, "UPDATE records SET note = 'x' WHERE seq = 3")
    with pytest.raises(CorruptData):
        a.mirror.flush()
    assert a.mirror.pull().seq == 1
    assert a.journal.head(TASK).seq == 1
    assert [seq for seq, _ in a.lost()] == [2, 3, 4]


def test_a_kept_batch_that_was_damaged_is_not_put(store: Store, node: NodeMaker) -> None:
    a = node(store)
    a.append(1)
    a.journal.keep_batch(TASK, lambda: "n")
    tamper(a.path, "UPDATE batches SET body = CAST(replace(CAST(body AS TEXT), 'node-a', 'node-x') AS BLOB)")
    with pytest.raises(CorruptData, match="kept batch"):
        a.mirror.flush()
    assert keys(store) == []
    a.mirror.pull()
    assert [seq for seq, _ in a.lost()] == [1]
    a.append(1)
    assert a.mirror.flush() == 1


def test_a_healthy_tail_survives_the_rebuild_of_what_is_before_it(store: Store, node: NodeMaker) -> None:
    a = node(store)
    a.append(2)
    a.mirror.flush()
    a.append(2)
    tamper(a.path, "UPDATE records SET note = 'x' WHERE seq = 1")
    assert a.mirror.pull().seq == 2
    assert [seq for seq, _ in a.lost()] == [1]  # the damaged copy, as evidence
    assert a.mirror.flush() == 4


@pytest.mark.parametrize("left", [0, 1])
def test_a_store_that_lost_records_is_not_believed(store: Store, node: NodeMaker, left: int) -> None:
    a = node(store)
    for _ in range(3):
        a.append(1)
        a.mirror.flush()
    before = a.digests()
    for seq in range(left + 1, 4):
        store.delete(journal_object(TASK, seq))
    with pytest.raises(StoreBehind, match=f"ends at record {left}.*up to 3") as behind:
        a.mirror.pull()
    assert "Name the store" in behind.value.hint
    assert a.digests() == before
    a.journal.forget(TASK, "the store began anew")
    assert a.mirror.pull().seq == left


def test_our_object_that_was_cut_after_it_won_fences_nobody(faulty: FaultyStore, node: NodeMaker) -> None:
    a = node(faulty)
    a.append(1)
    faulty.faults = ["after"]
    with pytest.raises(StoreUnavailable):
        a.mirror.flush()
    damage(faulty, 1, halve)
    for call in (a.mirror.flush, a.mirror.check, a.mirror.pull):
        with pytest.raises(CorruptData, match=r"0000000001\.json"):
            call()
    assert a.lost() == []


def test_records_that_lie_about_their_types_are_refused(store: Store, node: NodeMaker) -> None:
    a = node(store)
    a.append(1)
    batch = a.journal.keep_batch(TASK, lambda: "n")
    assert batch is not None
    for name, value in {"epoch": "1", "mono_ms": 2**63, "node": 7, "planner": True}.items():
        plain = {**batch.records[0], name: value}
        text = json.dumps({"schema": 1, "nonce": "n", "records": [_resealed(plain)]})
        store.put(journal_object(TASK, 1), text.encode())
        with pytest.raises(CorruptData, match=r"0000000001\.json"):
            node(store, f"node-{name}").mirror.pull()


def _resealed(plain: dict[str, object]) -> dict[str, object]:
    from fsnap.core.records import digest_of

    try:
        return {**plain, "digest": digest_of(plain)}
    except UnicodeEncodeError:
        return plain


def test_threads_share_one_mirror(store: Store, node: NodeMaker) -> None:
    a = node(store)
    failures: list[Exception] = []

    def work(call: Callable[[], object]) -> None:
        try:
            for _ in range(15):
                call()
        except (FsnapError, ValueError, sqlite3.Error) as failure:
            failures.append(failure)

    lock = threading.Lock()

    def append() -> None:
        with lock:
            a.journal.append(note(a.journal.head(TASK)))

    calls = (append, append, a.mirror.flush, a.mirror.check, a.mirror.pull)
    threads = [threading.Thread(target=work, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert a.mirror.flush() == 30
    assert len(read_records(store, TASK)) == 30
