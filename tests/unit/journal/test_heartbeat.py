"""Heartbeats: tiny, replaced in place, read with tolerance."""

from __future__ import annotations

import json

import pytest

from fsnap.errors import StoreUnavailable
from fsnap.journal.heartbeat import Beat, Heartbeat
from fsnap.stores.base import Store
from tests.unit.journal.support import AT, TASK, FaultyStore

BEAT = Beat(node="node-a", epoch=3, count=17, at=AT, sample={"run_ms": 5, "tree_bytes": 2**40})


def test_the_last_one_is_read(store: Store) -> None:
    assert Heartbeat.read(store, TASK) is None
    Heartbeat.put(store, TASK, BEAT)
    newer = Beat(node="node-a", epoch=3, count=18, at=AT)
    Heartbeat.put(store, TASK, newer)
    assert Heartbeat.read(store, TASK) == newer
    assert [row.key for row in store.list("tasks/")] == ["tasks/job=3A7=2Falign/heartbeat"]


def test_what_a_newer_writer_adds_is_passed_over(store: Store) -> None:
    Heartbeat.put(store, TASK, BEAT)
    document = json.loads(store.get(Heartbeat.key(TASK)))
    document |= {"schema": 9, "more": [1], "sample": {**BEAT.sample, "rate": 1.5, "name": "x", "on": True}}
    store.put(Heartbeat.key(TASK), json.dumps(document).encode())
    assert Heartbeat.read(store, TASK) == BEAT


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", b"[]", b"7", b"{}", b'{"node":1,"at":"","epoch":1,"count":1}', b"[" * 100_000],
)
def test_what_cannot_be_understood_is_no_heartbeat(store: Store, content: bytes) -> None:
    store.put(Heartbeat.key(TASK), content)
    assert Heartbeat.read(store, TASK) is None


def test_a_sample_that_is_none_costs_only_the_sample(store: Store) -> None:
    store.put(Heartbeat.key(TASK), b'{"node":"n","at":"x","epoch":1,"count":2,"sample":[1]}')
    assert Heartbeat.read(store, TASK) == Beat(node="n", epoch=1, count=2, at="x")


def test_silence_of_the_store_is_not_silence_of_the_holder(faulty: FaultyStore) -> None:
    faulty.down = True
    with pytest.raises(StoreUnavailable):
        Heartbeat.read(faulty, TASK)
    with pytest.raises(StoreUnavailable):
        Heartbeat.put(faulty, TASK, BEAT)
