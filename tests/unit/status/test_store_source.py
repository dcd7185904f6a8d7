"""A store as status sees it: the journals of few tasks, the heads of many, and what that costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fsnap.cli import storesource
from fsnap.cli.sources import Look, UnknownTask
from fsnap.cli.storesource import EXACT_TASKS, StoreSource, task_names
from fsnap.core.events import CheckpointAsked
from fsnap.core.model import Config, State
from fsnap.core.status import Reason
from fsnap.errors import StoreUnavailable
from fsnap.journal.heads import head_key, head_of, head_prefix
from fsnap.journal.mirror import journal_object, journal_prefix
from fsnap.stores.base import Buffer, ObjectInfo, Store
from fsnap.stores.file import FileStore
from fsnap.stores.memory import MemoryStore
from tests.unit.status.lab import NOW, Node, ago, ref, state

MANY = EXACT_TASKS + 10


class CountingStore:
    """What is asked of a store; writing into it is refused while it is looked at."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.lists: list[str] = []
        self.gets: list[str] = []
        self.down = False

    @property
    def url(self) -> str:
        return "memory://"

    def put(self, key: str, data: Buffer) -> None:
        raise AssertionError(f"status wrote {key}")

    create = put

    def delete(self, key: str) -> None:
        raise AssertionError(f"status deleted {key}")

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        self.gets.append(key)
        return self.inner.get(key, start=start, length=length)

    def list(self, prefix: str = "", *, after: str = "") -> Iterator[ObjectInfo]:
        if self.down:
            raise StoreUnavailable("the store does not answer")
        self.lists.append(prefix)
        return self.inner.list(prefix, after=after)


@pytest.fixture(params=["memory", "memory, read in parallel", "file"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def inner(kind: str, tmp_path: Path) -> Store:
    return FileStore(str(tmp_path / "store")) if kind == "file" else MemoryStore()


@pytest.fixture
def store(inner: Store) -> CountingStore:
    return CountingStore(inner)


@pytest.fixture
def node(tmp_path: Path, inner: Store) -> Node:
    return Node(tmp_path, store=inner)


@pytest.fixture
def source(kind: str, store: CountingStore) -> StoreSource:
    return StoreSource(store, readers=4 if "parallel" in kind else 1)


def names(look: Look) -> list[str]:
    return [view.seen.task for view in look.views]


def heads(store: Store, count: int, name: State = State.UPLOADED) -> None:
    for number in range(count):
        task = state(name, task=f"t{number:05d}", snapshots=(ref(),), reclaims_survived=number)
        store.put(head_key(head_of(task)), b"")


def test_few_tasks_are_read_exactly(node: Node, source: StoreSource) -> None:
    for name in ("a", "a-b", "a/b", "zz", "0"):
        node.starts(name)
    stale = node.ledger("a", heads=False)
    node.checkpoints(stale)
    look = source.look(None, NOW)
    assert names(look) == ["0", "a", "a-b", "a/b", "zz"]
    assert {view.seen.task: view.seen.state for view in look.views}["a"] is State.UPLOADED
    assert (look.errors, look.notes) == ((), ())


def test_a_task_without_a_head_is_listed(node: Node, source: StoreSource) -> None:
    node.starts("headless", heads=False)
    node.starts("with-head")
    assert names(source.look(None, NOW)) == ["headless", "with-head"]


def test_a_head_without_a_journal_is_not_listed(inner: Store, source: StoreSource) -> None:
    heads(inner, 1)
    assert names(source.look(None, NOW)) == []
    with pytest.raises(UnknownTask):
        source.look("t00000", NOW)


def test_strange_objects_are_no_tasks(inner: Store, node: Node, source: StoreSource) -> None:
    node.starts("task")
    for key in (
        "tasks/=zz/journal/0000000001.json",
        "tasks/task/zebra",
        "tasks/task/zzz/1",
        "tasks-of-mine/x",
        "x",
    ):
        inner.put(key, b"?")
    inner.put("tasks/foreign/zebra", b"?")
    inner.put("tasks/task/journal/notes.txt", b"?")
    assert list(task_names(inner)) == ["foreign", "task"]
    assert names(source.look(None, NOW)) == ["task"]


def test_a_long_journal_is_not_read_for_an_overview(
    node: Node, store: CountingStore, source: StoreSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storesource, "LONG_JOURNAL", 6)
    ledger = node.starts("long")
    while ledger.state.seq <= 6:
        node.checkpoints(ledger)
        node.resumes(ledger)
    node.beats(ledger)
    look = source.look(None, NOW)
    assert [view.seen.reclaims_survived for view in look.views] == [ledger.state.reclaims_survived]
    assert look.views[0].heartbeat_at == NOW
    assert [key for key in store.gets if "journal" in key] == []
    assert source.look("long", NOW).views[0].seen.snapshots is not None

    stale = node.ledger("long", heads=False)
    node.checkpoints(stale)
    assert source.look(None, NOW).views[0].seen.state is State.UPLOADED


def test_looking_again_reads_only_what_is_new(node: Node, store: CountingStore, source: StoreSource) -> None:
    ledger = node.starts("align")
    node.checkpoints(ledger)
    source.look("align", NOW)
    store.gets.clear()
    source.look("align", NOW)
    assert store.gets == []
    other = node.ledger("align")
    node.resumes(other)
    view = source.look("align", NOW).views[0]
    assert view.seen.state is State.RESUMED
    assert len([key for key in store.gets if "journal" in key]) == 2


def test_a_task_that_was_deleted_and_begun_anew(
    node: Node, inner: Store, tmp_path: Path, source: StoreSource
) -> None:
    node.checkpoints(node.starts("align"))
    source.look("align", NOW)
    for row in list(inner.list(journal_prefix("align"))):
        inner.delete(row.key)
    with pytest.raises(UnknownTask):
        source.look("align", NOW)
    Node(tmp_path, store=inner, name="fresh").starts("align")
    view = source.look("align", NOW).views[0]
    assert (view.seen.state, view.seen.node) == (State.RUNNING, "fresh")


def test_the_heartbeat_is_read_of_live_tasks_only(
    node: Node, store: CountingStore, source: StoreSource
) -> None:
    node.beats(node.starts("live"))
    ended = node.starts("ended")
    node.ends(ended, 0)
    node.beats(ended)
    look = source.look(None, NOW)
    assert [key for key in store.gets if key.endswith("heartbeat")] == ["tasks/live/heartbeat"]
    assert {view.seen.task: view.margin_s for view in look.views} == {"live": 111.0, "ended": None}


def test_a_claim_between_two_reads_is_no_alarm(node: Node, source: StoreSource) -> None:
    """The heartbeat is read after the journal, and may be of a later epoch."""
    ledger = node.starts("align")
    beat = node.beats(ledger)
    node.store.put(
        "tasks/align/heartbeat",
        node.store.get("tasks/align/heartbeat").replace(b'"epoch":1', b'"epoch":2'),
    )
    assert beat.epoch == 1
    node.clock.now = NOW
    old = source.look("align", NOW.replace(hour=23)).views[0]
    assert old.attention == ()


# -- many tasks


def test_many_tasks_come_from_the_heads(inner: Store, store: CountingStore, source: StoreSource) -> None:
    heads(inner, MANY)
    look = source.look(None, NOW)
    assert len(look.views) == MANY
    assert (store.lists, store.gets) == (["heads/"], [])
    assert look.notes == ("of this many tasks the heads are shown, not the journals",)
    last = look.views[-1].seen
    assert (last.task, last.state, last.reclaims_survived) == (f"t{MANY - 1:05d}", State.UPLOADED, MANY - 1)
    assert last.snapshot is not None
    assert (last.snapshot.id, last.snapshot.bytes) == (ref().id, ref().bytes)


def test_a_head_says_what_the_journal_says(inner: Store, node: Node, source: StoreSource) -> None:
    ledger = node.starts("align")
    node.checkpoints(ledger)
    exact = source.look("align", NOW).views[0]
    heads(inner, MANY)
    shown = next(view for view in source.look(None, NOW).views if view.seen.task == "align")
    # What is not in a head: the journal's details, which an overview does not show.
    assert exact.seen.snapshot is not None
    light = replace(exact.seen.snapshot, kind=None, epoch=None)
    assert shown.seen == replace(exact.seen, snapshot=light, snapshots=None, attempt=None, note=None)
    assert (shown.window, shown.margin_s) == (exact.window, exact.margin_s)


def test_few_live_ones_among_many_have_their_heartbeat_read(
    inner: Store, node: Node, source: StoreSource
) -> None:
    heads(inner, MANY)
    node.beats(node.starts("live"), age_s=300)
    look = source.look(None, NOW)
    alarmed = {view.seen.task: view.attention for view in look.views if view.attention}
    assert alarmed == {"live": (Reason.HEARTBEAT,)}


def test_many_live_ones_have_not(inner: Store, store: CountingStore, source: StoreSource) -> None:
    heads(inner, MANY, State.RUNNING)
    look = source.look(None, NOW)
    assert store.gets == []
    assert len(look.notes) == 2
    assert not any(view.attention for view in look.views)


def test_a_head_of_an_unknown_state_is_an_error_of_its_own(inner: Store, source: StoreSource) -> None:
    heads(inner, MANY)
    strange = replace(head_of(state(task="strange")), state="teleported")
    inner.put(head_key(strange), b"")
    look = source.look(None, NOW)
    assert len(look.views) == MANY
    assert look.errors == (("strange", "its head has the unknown state 'teleported'"),)


def test_many_journals_without_heads_are_bounded(node: Node, inner: Store, store: CountingStore) -> None:
    ledger = node.starts("seed", heads=False)
    body = inner.get(journal_object("seed", 1))
    for number in range(2 * EXACT_TASKS + 5):
        inner.put(journal_object(f"x{number:03d}", 1), body)
    look = StoreSource(store, readers=1).look(None, NOW)
    assert names(look) == ["seed"]
    assert len(look.errors) == 2 * EXACT_TASKS - 1, "the others hold somebody else's records"
    assert look.notes == ("more tasks than these have a journal, but no head",)
    assert ledger.state.task == "seed"


def test_a_store_that_fails_fails_the_look(node: Node, store: CountingStore, source: StoreSource) -> None:
    node.starts("align")
    store.down = True
    for task in (None, "align"):
        with pytest.raises(StoreUnavailable):
            source.look(task, NOW)


def test_a_gap_in_a_journal_is_found(node: Node, inner: Store, source: StoreSource) -> None:
    ledger = node.starts("align")
    node.checkpoints(ledger)
    inner.delete(journal_object("align", 2))
    look = source.look(None, NOW)
    assert [task for task, _ in look.errors] == ["align"]
    assert names(look) == ["align"], "its head is shown"


def test_the_lease_of_the_head_counts(inner: Store, node: Node, source: StoreSource) -> None:
    heads(inner, MANY)
    quick = node.starts("quick", config=Config(provider="gcp", lease_ms=5_000))
    node.beats(quick, age_s=6, commit_ms=40_000)
    view = next(view for view in source.look(None, NOW).views if view.seen.task == "quick")
    assert view.attention == (Reason.HEARTBEAT, Reason.NEGATIVE_MARGIN)
    assert view.margin_s == -10


def test_only_the_newest_head_of_a_task_counts(inner: Store, node: Node, source: StoreSource) -> None:
    heads(inner, MANY)
    old = state(task="t00000", seq=3, since=ago(9_000))
    inner.put(head_key(head_of(old)), b"")
    look = source.look(None, NOW)
    assert len(look.views) == MANY
    assert look.views[0].seen.state is State.UPLOADED
    assert len(list(inner.list(head_prefix("t00000")))) == 2
    assert node.journal.tasks() == []


def test_a_periodic_checkpoint_is_seen_from_the_store(node: Node, source: StoreSource) -> None:
    ledger = node.starts("align")
    node.records(ledger, CheckpointAsked(reason="test"))
    assert source.look("align", NOW).views[0].seen.state is State.PREDUMPING
