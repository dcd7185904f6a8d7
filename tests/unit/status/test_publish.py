"""Heads are published after what they tell is in the store, and never hold anything up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fsnap.agent import ledger as ledger_module
from fsnap.agent.ledger import BackgroundMirror, Ledger
from fsnap.core.events import TaskExited
from fsnap.core.model import Basis, State
from fsnap.errors import Fenced, StoreUnavailable
from fsnap.journal.errors import JournalFull
from fsnap.journal.heads import read_all
from fsnap.journal.mirror import journal_prefix
from fsnap.stores.base import Buffer
from fsnap.stores.memory import MemoryStore
from tests.unit.status.lab import Node, claim

PATIENCE_S = 10.0


class MoodyStore(MemoryStore):
    """Refuses heads, or all, or lets them wait, as it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.refuses = ""
        self.open = threading.Event()
        self.open.set()

    def put(self, key: str, data: Buffer) -> None:
        if key.startswith("heads/"):
            self.open.wait()
        self._check(key)
        super().put(key, data)

    def create(self, key: str, data: Buffer) -> None:
        self._check(key)
        super().create(key, data)

    def _check(self, key: str) -> None:
        if self.refuses and key.startswith(self.refuses):
            raise StoreUnavailable("not now")


@pytest.fixture
def store() -> MoodyStore:
    return MoodyStore()


@pytest.fixture
def node(tmp_path: Path, store: MoodyStore) -> Node:
    return Node(tmp_path, store=store)


@pytest.fixture
def background() -> Iterator[Callable[[Ledger], BackgroundMirror]]:
    made: list[BackgroundMirror] = []

    def make(ledger: Ledger) -> BackgroundMirror:
        made.append(BackgroundMirror(ledger, lambda fenced: None, retry_s=0.01))
        return made[-1]

    yield make
    for mirror in made:
        mirror.stop()


def shown(store: MoodyStore) -> list[tuple[str, State]]:
    return [(head.task, State(head.state)) for head in read_all(store)]


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def test_a_head_tells_only_what_is_mirrored(node: Node, store: MoodyStore) -> None:
    ledger = node.starts("align", ship=False)
    ledger.publish()
    assert shown(store) == []
    ledger.mirror()
    ledger.publish()
    assert shown(store) == [("align", State.RUNNING)]


def test_an_unchanged_state_is_published_once(node: Node, store: MoodyStore) -> None:
    ledger = node.starts("align")
    for row in list(store.list("heads/")):
        store.delete(row.key)
    ledger.publish()
    assert shown(store) == []


def test_before_the_first_record_there_is_no_head(node: Node, store: MoodyStore) -> None:
    node.ledger("align").publish()
    assert shown(store) == []


def test_who_lost_against_another_node_publishes_nothing(
    tmp_path: Path, node: Node, store: MoodyStore
) -> None:
    """Both wrote a record of the same number; the winner's head must stay."""
    mine = node.starts("align")
    winner = Node(tmp_path, store=store, name="node-b")
    theirs = winner.ledger("align")
    node.records(mine, TaskExited(exit_code=0), ship=False)
    winner.records(theirs, claim(winner.holder, basis=Basis.LEASE_EXPIRED))
    with pytest.raises(Fenced):
        mine.mirror()
    assert mine.state.seq == theirs.state.seq
    mine.publish()
    heads = list(read_all(store))
    assert [(head.node, head.state) for head in heads] == [("node-b", "running")]


def test_the_thread_ships_and_publishes(
    node: Node, store: MoodyStore, background: Callable[[Ledger], BackgroundMirror]
) -> None:
    ledger = node.ledger("align")
    mirror = background(ledger)
    node.records(ledger, claim(node.holder), ship=False)
    mirror.soon()
    wait_for(lambda: shown(store) == [("align", State.RUNNING)])
    assert len(list(store.list(journal_prefix("align")))) == 1


def test_a_head_that_is_refused_is_tried_again_and_stops_no_record(
    node: Node, store: MoodyStore, background: Callable[[Ledger], BackgroundMirror]
) -> None:
    store.refuses = "heads/"
    ledger = node.ledger("align")
    mirror = background(ledger)
    node.records(ledger, claim(node.holder), ship=False)
    mirror.soon()
    wait_for(lambda: ledger.mirrored)
    assert shown(store) == []
    store.refuses = ""
    wait_for(lambda: shown(store) == [("align", State.RUNNING)])


def test_the_last_head_is_published_at_the_end(
    node: Node, store: MoodyStore, background: Callable[[Ledger], BackgroundMirror]
) -> None:
    """The loop mirrors the last record itself, and then stops this at once."""
    ledger = node.starts("align")
    mirror = background(ledger)
    node.records(ledger, TaskExited(exit_code=0), ship=False)
    ledger.mirror()
    mirror.stop()
    assert shown(store) == [("align", State.COMPLETED)]


def test_at_the_end_what_is_not_mirrored_is_neither_shipped_nor_told(
    node: Node, store: MoodyStore, background: Callable[[Ledger], BackgroundMirror]
) -> None:
    ledger = node.starts("align")
    mirror = background(ledger)
    store.refuses = "tasks/"
    node.records(ledger, TaskExited(exit_code=0), ship=False)
    mirror.stop()
    assert shown(store) == [("align", State.RUNNING)]
    assert not ledger.mirrored


def test_a_store_that_hangs_holds_nobody_up_for_long(
    node: Node,
    store: MoodyStore,
    background: Callable[[Ledger], BackgroundMirror],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ledger_module, "STOP_S", 0.05)
    ledger = node.starts("align")
    mirror = background(ledger)
    store.open.clear()
    node.records(ledger, TaskExited(exit_code=0), ship=False)
    ledger.mirror()
    began = time.monotonic()
    mirror.stop()
    mirror.stop()  # the second time it does not wait again
    assert time.monotonic() - began < PATIENCE_S
    assert shown(store) == [("align", State.RUNNING)]
    store.open.set()
    wait_for(lambda: shown(store) == [("align", State.COMPLETED)])


def test_a_full_disk_loses_a_kept_heartbeat_and_nothing_else(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = node.starts("align")
    beat = node.beats(ledger)

    def full(*_: object) -> None:
        raise JournalFull("the disk is full")

    monkeypatch.setattr(node.journal, "put_meta", full)
    ledger.keep_beat(beat)
    assert node.journal.get_meta("align", "heartbeat") is None
