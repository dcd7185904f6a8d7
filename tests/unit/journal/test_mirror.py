"""The mirror: creating the next object is the fence, and what the store has is what happened."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from fsnap.core.fold import fold_all
from fsnap.core.model import TaskState
from fsnap.core.records import canonical
from fsnap.errors import CorruptData, Fenced, NewerSchema, StoreUnavailable
from fsnap.ids import task_key
from fsnap.journal import local
from fsnap.journal.mirror import Mirror, journal_object, read_records
from fsnap.stores.base import Store
from tests.unit.journal.support import (
    TASK,
    FaultyStore,
    Node,
    NodeMaker,
    damage,
    halve,
    keys,
)

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
