"""Sealed journals: unreadable without the key, unchangeable without it, never mixed with plain ones."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsnap.core.records import canonical, record_to_plain
from fsnap.errors import (
    CorruptData,
    Fenced,
    KeyNeeded,
    NewerSchema,
    NotSealed,
    SealBroken,
    SealError,
    StoreUnavailable,
    WrongKey,
)
from fsnap.journal.errors import StoreBehind
from fsnap.journal.heartbeat import Beat, Heartbeat
from fsnap.journal.local import NO_RECORDS
from fsnap.journal.mirror import journal_object, read_records
from fsnap.journal.rows import encode_batch
from fsnap.keys import KeyRing
from fsnap.stores.base import Store
from fsnap.stores.memory import MemoryStore
from tests.unit.journal.support import TASK, FaultyStore, Node, NodeMaker, keys, note
from tests.unit.sealing.keyrings import key, ring

OBJECT = encode_batch(TASK, [record_to_plain(note(NO_RECORDS))], "a nonce", ring("k1")).body
BEAT = Beat(node="node-a", epoch=3, count=7, at="2026-11-21T22:09:52.123Z", sample={"tree_bytes": 5})


@pytest.fixture
def sealed(node: NodeMaker) -> Callable[..., Node]:
    """Makes nodes that have keys."""

    def make(store: Store, name: str = "node-a", *, ids: tuple[str, ...] = ("k1",), task: str = TASK) -> Node:
        made = node(store, name, task)
        made.journal.keys = ring(*ids)
        return made

    return make


def written(node: Node, count: int) -> Node:
    """With *count* records, each an object of its own."""
    for _ in range(count):
        node.append(1)
        node.mirror.flush()
    return node


def test_another_node_with_the_key_reads_it(store: Store, sealed: Callable[..., Node]) -> None:
    a = written(sealed(store), 3)
    b = sealed(store, "node-b", ids=("k2", "k1"))
    b.mirror.pull()
    assert b.digests() == a.digests()
    assert read_records(store, TASK, ring("k1")) == a.journal.records(TASK)
    for name in keys(store):
        data = store.get(name)
        for word in (b"epoch", b"running", b"lease_ms", b"quoted", b"0123456789abcdef"):
            assert word not in data


def test_both_keys_are_needed_after_a_rotation(store: Store, sealed: Callable[..., Node]) -> None:
    written(sealed(store), 2)
    b = sealed(store, "node-b", ids=("k2", "k1"))
    b.mirror.pull()
    written(b, 1)
    assert len(read_records(store, TASK, ring("k1", "k2"))) == 3
    for one in ("k1", "k2"):
        with pytest.raises(WrongKey, match="not in the key file"):
            read_records(store, TASK, ring(one))


@pytest.mark.parametrize(
    ("found", "kind"),
    [(None, KeyNeeded), (ring("k2"), WrongKey), (KeyRing([key("k1", "another")]), WrongKey)],
)
def test_without_the_key_nothing_is_taken(
    store: Store, sealed: Callable[..., Node], node: NodeMaker, found: KeyRing | None, kind: type[SealError]
) -> None:
    written(sealed(store), 2)
    b = node(store, "node-b")
    b.journal.keys = found
    with pytest.raises(kind, match=journal_object(TASK, 1)) as caught:
        b.mirror.pull()
    assert caught.value.exit_code == 2
    assert b.journal.tasks() == []


def test_plain_and_sealed_do_not_follow_one_another(
    store: Store, sealed: Callable[..., Node], node: NodeMaker
) -> None:
    written(node(store), 2)
    with pytest.raises(NotSealed, match=journal_object(TASK, 1)) as caught:
        sealed(store, "node-b").mirror.pull()
    assert caught.value.exit_code == 2


def test_a_node_that_knows_the_records_needs_the_key_all_the_same(
    store: Store, sealed: Callable[..., Node]
) -> None:
    a = written(sealed(store), 2)
    a.restart()
    with pytest.raises(KeyNeeded):
        a.mirror.pull()


def test_nothing_plain_is_put_behind_what_is_sealed_while_the_store_is_away(
    sealed: Callable[..., Node], node: NodeMaker, faulty: FaultyStore
) -> None:
    """A new process has not asked the store yet: its own file knows."""
    a = written(sealed(faulty), 2)
    plain = written(node(FaultyStore(), "node-b"), 2)
    for each, keys_now, kind in ((a, None, KeyNeeded), (plain, ring("k1"), NotSealed)):
        each.restart()
        each.journal.keys = keys_now
        each.append(1)
        with pytest.raises(kind):
            each.mirror.flush()
    assert keys(faulty) == [journal_object(TASK, 1), journal_object(TASK, 2)]
    a.journal.forget(TASK, "begun anew")
    a.append(1)
    assert a.journal.keep_batch(TASK, lambda: "nonce") is not None


def test_a_record_of_nobody_s_fences(sealed: Callable[..., Node], node: NodeMaker) -> None:
    """Somebody without the key writes the next record: our copy stops, and nobody goes on from it."""
    store = MemoryStore()
    a = written(sealed(store), 2)
    plain = node(MemoryStore(), "stranger")
    written(plain, 3)
    store.put(journal_object(TASK, 3), plain.store.get(journal_object(TASK, 3)))
    a.append(1)
    with pytest.raises(Fenced):
        a.mirror.flush()
    with pytest.raises(NotSealed):
        sealed(store, "node-b").mirror.pull()


def test_an_object_of_another_task_or_place_is_refused(sealed: Callable[..., Node]) -> None:
    store = MemoryStore()
    written(sealed(store), 4)
    written(sealed(store, "node-b", task="other"), 4)
    good = store.get(journal_object(TASK, 3))
    for source in (journal_object("other", 3), journal_object(TASK, 2), journal_object(TASK, 4)):
        store.put(journal_object(TASK, 3), store.get(source))
        with pytest.raises(SealBroken, match="put under another name"):
            sealed(store, f"node-{source[-6]}{source[6]}").mirror.pull()
    store.put(journal_object(TASK, 3), good)
    sealed(store, "node-c").mirror.pull()


def test_an_end_that_was_cut_off_is_seen_by_who_saw_it(sealed: Callable[..., Node]) -> None:
    store = MemoryStore()
    a = written(sealed(store), 3)
    store.delete(journal_object(TASK, 3))
    with pytest.raises(StoreBehind):
        a.mirror.pull()


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_byte_of_an_object_can_be_changed(data: st.DataObject) -> None:
    body = OBJECT
    at = data.draw(st.integers(0, len(body) - 1))
    kind = data.draw(st.sampled_from(["flip", "cut", "insert"]))
    if kind == "flip":
        changed = body[:at] + bytes([body[at] ^ data.draw(st.integers(1, 255))]) + body[at + 1 :]
    elif kind == "cut":
        changed = body[:at]
    else:
        changed = body[:at] + data.draw(st.sampled_from([b" ", b"0", b'"', b",", b"\n"])) + body[at:]
    store = MemoryStore()
    store.put(journal_object(TASK, 1), changed)
    with pytest.raises((CorruptData, WrongKey, NotSealed, NewerSchema)):
        read_records(store, TASK, ring("k1"))


def test_what_was_put_before_a_crash_is_put_again(sealed: Callable[..., Node], faulty: FaultyStore) -> None:
    a = sealed(faulty)
    a.append(1)
    faulty.faults = ["before"]
    with pytest.raises(StoreUnavailable, match="lost before"):
        a.mirror.flush()
    a.restart()
    with pytest.raises(KeyNeeded):
        a.mirror.flush()
    a.restart()
    a.journal.keys = ring("k2", "k1")
    a.mirror.flush()
    assert len({body for _, body in faulty.creates}) == 1


def test_a_seal_that_says_more_is_refused(sealed: Callable[..., Node]) -> None:
    store = MemoryStore()
    written(sealed(store), 1)
    document = json.loads(store.get(journal_object(TASK, 1)))
    for change in (
        {"records": []},
        {"more": 1},
        {"nonce": "other"},
        {"seal": {**document["seal"], "x": "y"}},
    ):
        store.put(journal_object(TASK, 1), canonical({**document, **change}))
        with pytest.raises(SealBroken, match="changed"):
            read_records(store, TASK, ring("k1"))


def test_heartbeats(store: Store) -> None:
    Heartbeat.put(store, TASK, BEAT, ring("k1"))
    assert Heartbeat.read(store, TASK, ring("k2", "k1")) == BEAT
    assert Heartbeat.read(store, TASK) is None
    assert Heartbeat.read(store, TASK, ring("k2")) is None
    assert b"node-a" not in store.get(Heartbeat.key(TASK))
    store.put(Heartbeat.key("other"), store.get(Heartbeat.key(TASK)))
    assert Heartbeat.read(store, "other", ring("k1")) is None
    Heartbeat.put(store, TASK, BEAT)
    assert Heartbeat.read(store, TASK, ring("k1")) is None
