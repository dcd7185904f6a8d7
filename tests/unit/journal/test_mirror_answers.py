"""Answers that were lost: a put that may have won is told from another node's."""

from __future__ import annotations

import pytest

from fsnap.errors import CorruptData, Fenced, StoreUnavailable
from fsnap.journal import local
from fsnap.journal.local import Journal
from fsnap.journal.mirror import journal_object
from fsnap.stores.base import Store
from tests.unit.journal.support import (
    TASK,
    FaultyStore,
    NodeMaker,
)


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
