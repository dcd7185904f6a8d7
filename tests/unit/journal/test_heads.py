"""Heads: ten thousand tasks from listings alone, and never an authority."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fsnap.core.model import Config, Holder, Pending, SnapshotRef, State, TaskState
from fsnap.errors import StoreUnavailable
from fsnap.journal import heads
from fsnap.journal.heads import Head, head_from_key, head_key, head_of, publish, read_all
from fsnap.stores.base import Store
from fsnap.stores.keys import is_key
from fsnap.stores.memory import MemoryStore
from tests.unit.journal.support import AT, TASK, FaultyStore

HOLDER = Holder(node="ip-10-0-0-1", instance="i-1", boot_id="b", pid_ns="4026", init_pid=9, init_start=77)
REF = SnapshotRef(
    id="000003-0000000040",
    manifest="0" * 64,
    epoch=3,
    kind="final",
    bytes=2**40,
    new_bytes=2**30,
    stored_bytes=2**29,
    committed_at=AT,
    run_ms=86_400_000,
    stdout_bytes=1,
    stderr_bytes=2,
)
STATE = TaskState(
    task=TASK,
    state=State.RESUMED,
    seq=41,
    epoch=4,
    since=AT,
    held=True,
    holder=HOLDER,
    config=Config(provider="file:/run/notice", lease_ms=60_000),
    command=("bwa", "mem", "a file", "é"),
    snapshots=(replace(REF, id="old"), REF),
    quarantined=("old",),
    standing=(
        Pending(
            notice_id="n", provider="aws", window_ms=120_000, seen_at=AT, deadline_mono_ms=0, deadline_at=""
        ),
    ),
    reclaims_survived=3,
    work_saved_ms=1234,
)


def test_a_head_is_all_in_its_key(store: Store) -> None:
    publish(store, STATE)
    (head,) = read_all(store)
    assert head == Head(
        task=TASK,
        seq=41,
        epoch=4,
        state="resumed",
        since=AT,
        node="ip-10-0-0-1",
        command="bwa mem 'a file' 'é'",
        held=True,
        lease_ms=60_000,
        provider="file",
        snapshot=heads.HeadSnapshot(
            id=REF.id, bytes=2**40, new_bytes=2**30, stored_bytes=2**29, committed_at=AT
        ),
        quarantined=1,
        deadline="2026-11-21T22:11:52.123Z",
        exit_code=None,
        outcome=None,
        reclaims_survived=3,
        work_saved_ms=1234,
    )
    (row,) = store.list("heads/")
    assert row.size_bytes == 0


def test_a_sealed_journal_shows_no_command(store: Store) -> None:
    publish(store, STATE, sealed=True)
    assert [head.command for head in read_all(store)] == [""]


def test_a_new_task_and_one_that_ended() -> None:
    new = head_of(TaskState(task="t"))
    assert (new.node, new.snapshot, new.deadline, new.held) == ("", None, None, False)
    ended = head_of(replace(STATE, state=State.COMPLETED, exit_code=0, outcome="exited", standing=()))
    assert head_from_key(head_key(ended)) == ended
    with_deadline = replace(STATE.standing[0], deadline_at="2026-11-21T23:00:00Z")
    given_deadline = replace(STATE, standing=(with_deadline,))
    assert head_of(given_deadline).deadline == "2026-11-21T23:00:00Z"
    nonsense = replace(STATE, standing=(replace(STATE.standing[0], seen_at="yesterday"),))
    assert head_of(nonsense).deadline is None


def test_a_newer_head_replaces_the_older_ones(store: Store) -> None:
    for seq in (41, 42, 43):
        publish(store, replace(STATE, seq=seq))
    publish(store, replace(STATE, task="job:7", seq=5))
    assert [(head.task, head.seq) for head in read_all(store)] == [("job:7", 5), (TASK, 43)]
    assert len(list(store.list("heads/"))) == 2


def test_an_older_head_does_not_replace_a_newer_one(store: Store) -> None:
    publish(store, replace(STATE, seq=43))
    publish(store, replace(STATE, seq=42, state=State.RUNNING))
    (head,) = read_all(store)
    assert (head.seq, head.state) == (43, "resumed")
    assert len(list(store.list("heads/"))) == 1


def test_of_leftovers_and_garbage_the_newest_good_head_is_shown(store: Store) -> None:
    older = head_key(head_of(replace(STATE, seq=40)))
    newest = head_key(head_of(STATE))
    prefix = heads.head_prefix(TASK)
    text = base64.urlsafe_b64encode(json.dumps([2, "running"]).encode()).decode().rstrip("=")
    for key in (
        older,
        newest,
        f"{prefix}0000000050/!!!".replace("!", "-"),
        f"{prefix}0000000051/AAAA=",
        f"{prefix}0000000052/{text}=",
        f"{prefix}x",
        "heads/=zz/0000000001/AAAA=",
        "heads/loose",
    ):
        store.put(key, b"")
    assert [(head.task, head.seq) for head in read_all(store)] == [(TASK, 41)]
    publish(store, replace(STATE, seq=60))
    assert [head.seq for head in read_all(store)] == [60]


@pytest.mark.parametrize(
    ("place", "value"), [(1, 7), (6, "1"), (11, 1), (12, {}), (12, [1, 2]), (13, 5), (14, "0"), (15, 1)]
)
def test_a_value_of_a_wrong_type_is_no_head(place: int, value: object) -> None:
    key = head_key(head_of(STATE))
    text = key.split("/", 3)[3].replace("/", "").rstrip("=")
    values = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    values[place] = value
    wrong = base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")
    assert head_from_key(f"{heads.head_prefix(TASK)}0000000041/{wrong}=") is None
    values[place : place + 1] = []
    short = base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")
    assert head_from_key(f"{heads.head_prefix(TASK)}0000000041/{short}=") is None


def test_values_that_a_newer_writer_added_are_passed_over() -> None:
    head = head_of(STATE)
    key = head_key(head)
    text = key.split("/", 3)[3].replace("/", "").rstrip("=")
    values = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    longer = base64.urlsafe_b64encode(json.dumps([*values, "new"]).encode()).decode().rstrip("=")
    assert head_from_key(f"{heads.head_prefix(TASK)}0000000041/{longer}=") == head


@given(
    task=st.text(min_size=1, max_size=66).filter(lambda text: text.isprintable()),
    command=st.lists(st.text(max_size=300), max_size=4),
    node=st.text(max_size=300),
    seq=st.integers(0, 10**10 - 1),
    figures=st.integers(0, 2**63 - 1),
    provider=st.text(max_size=50),
)
@example(
    task="x" * 200, command=["y" * 300], node="é" * 300, seq=10**10 - 1, figures=2**63 - 1, provider="p" * 50
)
def test_every_head_fits_and_comes_back(
    task: str, command: list[str], node: str, seq: int, figures: int, provider: str
) -> None:
    state = replace(
        STATE,
        task=task,
        seq=seq,
        holder=replace(HOLDER, node=node),
        command=tuple(command),
        config=Config(provider=provider),
        snapshots=(replace(REF, bytes=figures, new_bytes=figures, stored_bytes=figures),),
        work_saved_ms=figures,
    )
    key = head_key(head_of(state))
    if len(heads.head_prefix(task)) <= 207:  # what an id may take: fsnap.ids
        assert is_key(key)
    head = head_from_key(key)
    assert head is not None
    expected = head_of(state)
    assert expected.command.startswith(head.command.removesuffix("…"))
    assert expected.node.startswith(head.node)
    assert head == replace(expected, command=head.command, node=head.node)


def test_no_heads_key_is_the_directory_of_another(store: Store) -> None:
    short = replace(STATE, command=(), snapshots=())
    for command in range(0, 160, 7):
        store.put(head_key(head_of(replace(short, command=("x" * command,)))), b"")


def test_ten_thousand_tasks_come_without_reading_an_object() -> None:
    memory = MemoryStore()
    for number in range(10_000):
        memory.put(head_key(head_of(replace(STATE, task=f"job:{number:05d}"))), b"")
    faulty = FaultyStore(memory)
    assert sum(1 for _ in read_all(faulty)) == 10_000
    assert (faulty.lists, faulty.gets) == (1, 0)


def test_a_store_that_is_down_is_said(faulty: FaultyStore) -> None:
    faulty.down = True
    with pytest.raises(StoreUnavailable):
        list(read_all(faulty))
    with pytest.raises(StoreUnavailable):
        publish(faulty, STATE)
