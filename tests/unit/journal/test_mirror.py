"""The mirror: creating the next object is the fence, and what the store has is what happened."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from fsnap.core.fold import fold_all
from fsnap.core.model import TaskState
from fsnap.core.records import canonical
from fsnap.errors import CorruptData, Fenced, FsnapError, NewerSchema, StoreUnavailable
from fsnap.ids import task_key
from fsnap.journal import local
from fsnap.journal.errors import StoreBehind
from fsnap.journal.local import Journal
from fsnap.journal.mirror import Mirror, journal_object, read_records
from fsnap.stores.base import Store
from tests.unit.journal.support import TASK, FaultyStore, Node, NodeMaker, note, tamper


def keys(store: Store, task: str = TASK) -> list[str]:
    return [row.key for row in store.list(f"tasks/{task_key(task)}/journal/")]


def damage(store: Store, first_seq: int, change: Callable[[bytes], bytes], task: str = TASK) -> str:
    key = journal_object(task, first_seq)
    store.put(key, change(store.get(key)))
    return key


def flip(data: bytes) -> bytes:
    """One byte of a record's text."""
    return data.replace(b'"node":"node-a"', b'"node":"node-A"', 1)


def halve(data: bytes) -> bytes:
    return data[: len(data) // 2]


# -- the way that nothing goes wrong


def test_the_tail_is_one_object_and_a_second_flush_puts_nothing(store: Store, node: NodeMaker) -> None:
    a = node(store)
    assert a.mirror.flush() == 0
    a.append(3)
    assert a.mirror.flush() == 3
    a.append(1)
    assert a.mirror.flush() == a.mirror.flush() == 4
    assert keys(store) == [
        "tasks/job=3A7=2Falign/journal/0000000001.json",
        "tasks/job=3A7=2Falign/journal/0000000004.json",
    ]
    document = json.loads(store.get(keys(store)[0]))
    assert document.keys() == {"schema", "nonce", "records"}
    assert [record["seq"] for record in document["records"]] == [1, 2, 3]


def test_a_long_tail_is_several_objects(
    store: Store, node: NodeMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "MAX_BATCH_RECORDS", 2)
    a = node(store)
    a.append(5)
    assert a.mirror.flush() == 5
    assert [key[-15:] for key in keys(store)] == ["0000000001.json", "0000000003.json", "0000000005.json"]


def test_an_empty_disk_gets_every_record_back_to_the_byte(store: Store, node: NodeMaker) -> None:
    a = node(store)
    for _ in range(4):
        a.append(2)
        a.mirror.flush()
    fresh = node(store, "node-b")
    state = fresh.mirror.pull()
    columns = "SELECT * FROM records ORDER BY seq"
    assert fresh.journal._rows(columns) == a.journal._rows(columns)
    assert fresh.journal.mirrored_seq(TASK) == 8
    assert state == fold_all(TaskState(task=TASK), a.journal.records(TASK)) == fresh.journal.state(TASK)
    assert read_records(store, TASK) == a.journal.records(TASK)


def test_many_objects_are_read_side_by_side(faulty: FaultyStore, node: NodeMaker, tmp_path: Path) -> None:
    a = node(faulty)
    for _ in range(20):
        a.append(1)
        a.mirror.flush()
    b = node(faulty, "node-b")
    barrier = threading.Barrier(4, timeout=60)
    get = faulty.get
    met: list[str] = []

    def slow_get(key: str, **range_: int) -> bytes:
        if key <= journal_object(TASK, 4):
            barrier.wait()  # passes only when four reads are under way at once
            met.append(key)
        return get(key, **range_)

    faulty.get = slow_get  # type: ignore[method-assign]
    mirror = Mirror(journal=b.journal, store=faulty, task=TASK, nonce=lambda: "b", readers=4)
    assert mirror.pull().seq == 20
    assert len(met) == 4
    assert b.digests() == a.digests()


def test_the_state_is_of_mirrored_records_alone(store: Store, node: NodeMaker) -> None:
    a = node(store)
    a.append(2)
    a.mirror.flush()
    a.append(1)
    assert a.mirror.pull().seq == 2
    assert a.journal.state(TASK).seq == 3
    assert a.mirror.flush() == 3
    assert a.mirror.pull().seq == 3


def test_tasks_do_not_meet(store: Store, node: NodeMaker) -> None:
    a, b = node(store), node(store, "node-b", "job:7/align2")
    a.append(1)
    b.append(2)
    assert (a.mirror.flush(), b.mirror.flush()) == (1, 2)
    a.mirror.check()
    assert a.mirror.pull().seq == 1


def test_other_names_in_the_journal_are_passed_over(store: Store, node: NodeMaker) -> None:
    a = node(store)
    a.append(1)
    a.mirror.flush()
    for name in ("0000000002.json.bak", "readme", "2.json", "0000000001"):
        store.put(f"tasks/{task_key(TASK)}/journal/{name}", b"?")
    a.mirror.check()
    assert a.mirror.pull().seq == 1


# -- the fence


@pytest.mark.parametrize("nodes", [2, 7])
def test_of_nodes_that_race_for_a_number_one_wins_and_the_rest_are_fenced(
    store: Store, node: NodeMaker, nodes: int
) -> None:
    first = node(store, "first")
    first.append(2)
    first.mirror.flush()
    racers = [node(store, f"node-{number}") for number in range(nodes)]
    for racer in racers:
        racer.mirror.pull()
        racer.append(2)
    barrier = threading.Barrier(nodes)
    outcomes: dict[str, object] = {}

    def race(racer: Node) -> None:
        barrier.wait()
        try:
            outcomes[racer.name] = racer.mirror.flush()
        except Fenced as fenced:
            outcomes[racer.name] = fenced

    threads = [threading.Thread(target=race, args=(racer,)) for racer in racers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [racer for racer in racers if outcomes[racer.name] == 4]
    assert len(winners) == 1
    for racer in racers:
        assert racer.digests() == winners[0].digests()
        if racer is not winners[0]:
            assert isinstance(outcomes[racer.name], Fenced)
            assert [seq for seq, _ in racer.lost()] == [3, 4]
            assert all(racer.name in record for _, record in racer.lost())


def test_a_fenced_node_writes_nothing_until_it_has_looked(store: Store, node: NodeMaker) -> None:
    a, b = node(store), node(store, "node-b")
    for each in (a, b):
        each.append(1)
    b.mirror.flush()
    with pytest.raises(Fenced, match="record 1"):
        a.mirror.flush()
    a.append(1)
    for call in (a.mirror.flush, a.mirror.check, a.mirror.flush):
        with pytest.raises(Fenced):
            call()
    assert len(keys(store)) == 1
    assert a.mirror.pull().seq == 1
    assert a.mirror.flush() == 2
    with pytest.raises(Fenced, match="record 2"):
        b.mirror.check()


def test_a_check_is_one_listing_and_finds_a_newer_record(faulty: FaultyStore, node: NodeMaker) -> None:
    a, b = node(faulty), node(faulty, "node-b")
    a.append(3)
    a.mirror.flush()
    faulty.lists = faulty.gets = 0
    a.mirror.check()
    assert (faulty.lists, faulty.gets) == (1, 0)
    b.mirror.pull()
    b.append(1)
    b.mirror.flush()
    a.append(2)
    with pytest.raises(Fenced, match="record 4"):
        a.mirror.check()
    assert a.digests() == b.digests()
    assert [seq for seq, _ in a.lost()] == [4, 5]


def test_a_check_says_so_when_the_store_is_down(faulty: FaultyStore, node: NodeMaker) -> None:
    a = node(faulty)
    faulty.down = True
    with pytest.raises(StoreUnavailable):
        a.mirror.check()
    with pytest.raises(StoreUnavailable):
        a.mirror.pull()
    faulty.down = False
    a.mirror.check()


def test_a_pull_takes_the_others_records_and_keeps_ours_aside(store: Store, node: NodeMaker) -> None:
    a, b = node(store), node(store, "node-b")
    a.append(1)
    a.mirror.flush()
    b.mirror.pull()
    b.append(2)
    a.append(1)
    a.mirror.flush()
    assert b.mirror.pull().seq == 2
    assert b.digests() == a.digests()
    assert [(seq, "node-b" in record) for seq, record in b.lost()] == [(2, True), (3, True)]


def test_a_node_whose_process_restarts_is_still_fenced(store: Store, node: NodeMaker) -> None:
    a, b = node(store), node(store, "node-b")
    a.append(1)
    a.mirror.flush()
    b.mirror.pull()
    b.append(1)
    b.mirror.flush()
    a.append(1)
    a.restart()
    with pytest.raises(Fenced):
        a.mirror.flush()


def test_the_fence_holds_when_another_process_of_the_node_looked_first(store: Store, node: NodeMaker) -> None:
    a, b = node(store), node(store, "node-b")
    a.append(1)
    a.mirror.flush()
    a.append(1)
    b.mirror.pull()
    b.append(1)
    b.mirror.flush()
    Mirror(journal=a.journal, store=store, task=TASK, nonce=lambda: "tool").pull()
    with pytest.raises(Fenced):
        a.mirror.check()
    a.restart()
    b.append(1)
    b.mirror.flush()
    Mirror(journal=a.journal, store=store, task=TASK, nonce=lambda: "tool").pull()
    with pytest.raises(Fenced):
        a.mirror.flush()


def test_our_object_stays_ours_when_another_process_of_the_node_found_it(
    faulty: FaultyStore, node: NodeMaker
) -> None:
    a = node(faulty)
    a.append(1)
    faulty.faults = ["after"]
    with pytest.raises(StoreUnavailable):
        a.mirror.flush()
    Mirror(journal=a.journal, store=faulty, task=TASK, nonce=lambda: "tool").pull()
    a.mirror.check()
    assert a.mirror.flush() == 1


def test_records_of_a_newer_fsnap_fence_and_are_not_claimed(store: Store, node: NodeMaker) -> None:
    a = node(store)
    a.append(1)
    a.mirror.flush()
    a.append(1)
    store.create(journal_object(TASK, 2), canonical({"schema": 2, "unknown": True}))
    with pytest.raises(Fenced):
        a.mirror.flush()
    assert [seq for seq, _ in a.lost()] == [2]
    with pytest.raises(NewerSchema, match=r"0000000002\.json: schema 2"):
        a.mirror.pull()
    with pytest.raises(NewerSchema):
        node(store, "node-b").mirror.pull()


def test_what_another_wrote_fences_even_if_it_cannot_be_read(store: Store, node: NodeMaker) -> None:
    a, b = node(store), node(store, "node-b")
    a.append(1)
    a.mirror.flush()
    b.mirror.pull()
    b.append(1)
    b.mirror.flush()
    damage(store, 2, halve)
    with pytest.raises(Fenced):
        a.mirror.check()
    with pytest.raises(CorruptData, match=r"0000000002\.json"):
        a.mirror.pull()


# -- answers that were lost


def test_a_put_that_was_not_applied_is_put_again_byte_for_byte(faulty: FaultyStore, node: NodeMaker) -> None:
    a = node(faulty)
    a.append(2)
    faulty.faults = ["before", "before"]
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            a.mirror.flush()
        a.append(1)
        assert (a.journal.mirrored_seq(TASK), a.lost()) == (0, [])
    assert a.mirror.flush() == 4
    first = [body for key, body in faulty.creates if key == journal_object(TASK, 1)]
    assert len(first) == 3 and len(set(first)) == 1
    assert faulty.get(journal_object(TASK, 1)) == first[0]


def test_a_put_that_was_applied_counts_though_its_answer_was_lost(
    faulty: FaultyStore, node: NodeMaker
) -> None:
    a = node(faulty)
    a.append(2)
    faulty.faults = ["after"]
    with pytest.raises(StoreUnavailable):
        a.mirror.flush()
    assert a.journal.mirrored_seq(TASK) == 0
    a.append(1)
    assert a.mirror.flush() == 3
    assert a.lost() == []


@pytest.mark.parametrize("fault", ["before", "after"])
@pytest.mark.parametrize("call", ["check", "pull", "flush"])
def test_whatever_looks_first_tells_our_lost_put_from_anothers(
    faulty: FaultyStore, node: NodeMaker, fault: str, call: str
) -> None:
    a = node(faulty)
    a.append(2)
    faulty.faults = [fault]
    with pytest.raises(StoreUnavailable):
        a.mirror.flush()
    getattr(a.mirror, call)()
    won = fault == "after" or call == "flush"
    assert a.journal.mirrored_seq(TASK) == (2 if won else 0)
    assert a.mirror.flush() == 2
    assert a.lost() == []


@pytest.mark.parametrize("fault", ["before", "after"])
def test_a_crash_after_the_batch_was_kept_repeats_it(
    faulty: FaultyStore, node: NodeMaker, fault: str
) -> None:
    a = node(faulty)
    a.append(2)
    faulty.faults = [fault]
    with pytest.raises(StoreUnavailable):
        a.mirror.flush()
    a.restart()
    a.append(1)
    assert a.mirror.flush() == 3
    assert len({body for key, body in faulty.creates if key == journal_object(TASK, 1)}) == 1
    assert a.lost() == []


def test_a_crash_before_the_put_repeats_it_too(store: Store, node: NodeMaker) -> None:
    a = node(store)
    a.append(1)
    kept = a.journal.keep_batch(TASK, lambda: "kept before the crash")
    assert kept is not None
    a.restart()
    assert a.mirror.pull().seq == 0
    assert a.mirror.flush() == 1
    assert store.get(journal_object(TASK, 1)) == kept.body


def test_our_put_won_and_then_another_went_on(faulty: FaultyStore, node: NodeMaker) -> None:
    a, b = node(faulty), node(faulty, "node-b")
    a.append(2)
    faulty.faults = ["after"]
    with pytest.raises(StoreUnavailable):
        a.mirror.flush()
    b.mirror.pull()
    b.append(1)
    b.mirror.flush()
    a.append(1)
    with pytest.raises(Fenced, match=r"record 3"):
        a.mirror.flush()
    assert a.digests() == b.digests()
    assert [seq for seq, _ in a.lost()] == [3]


def test_a_late_put_cannot_undo_the_winner(faulty: FaultyStore, node: NodeMaker) -> None:
    a, b = node(faulty), node(faulty, "node-b")
    a.append(1)
    faulty.faults = ["before"]
    with pytest.raises(StoreUnavailable):
        a.mirror.flush()
    late = faulty.creates[-1]
    b.append(1)
    b.mirror.flush()
    with pytest.raises(Exception, match="exists already"):
        faulty.inner.create(*late)
    with pytest.raises(Fenced):
        a.mirror.check()
    assert a.digests() == b.digests()


def test_a_disk_that_fills_after_the_put_costs_nothing(
    store: Store, node: NodeMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = node(store)
    a.append(1)

    def full(*_: object, **__: object) -> None:
        raise local.CorruptData("as good as any failure")

    monkeypatch.setattr(Journal, "accept", full)
    with pytest.raises(CorruptData):
        a.mirror.flush()
    monkeypatch.undo()
    assert a.mirror.flush() == 1
    assert a.lost() == []


# -- damage


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
    for name, value in {"epoch": "1", "mono_ms": 2**63, "node": 7, "planner": True, "note": "\ud800"}.items():
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
