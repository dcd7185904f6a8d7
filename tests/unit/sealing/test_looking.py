"""``status``, ``replay``, ``gc`` and ``verify`` where journals are sealed: what takes the key."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from pathlib import Path

import pytest

from fsnap.agent import collect
from fsnap.cli.main import main
from fsnap.cli.replaysource import read_source
from fsnap.cli.storesource import EXACT_TASKS, StoreSource
from fsnap.core.model import State
from fsnap.core.replay import assemble
from fsnap.errors import KeyNeeded
from fsnap.journal.heads import head_from_key, head_key, head_of
from fsnap.journal.mirror import read_records
from fsnap.stores.file import FileStore
from tests.unit.sealing.keyrings import key, ring
from tests.unit.status.lab import NOW, Node, ref, refused, state

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """Begins tasks that are sealed."""
    node = Node(tmp_path, store=FileStore(str(tmp_path / "store")))
    node.journal.keys = ring("k1")
    return node


@pytest.fixture
def keys(tmp_path: Path) -> str:
    path = tmp_path / "keys"
    path.touch(0o600)
    path.write_text(f"k1 {base64.b64encode(key('k1').secret).decode()}\n")
    return str(path)


def plain_too(node: Node, task: str) -> None:
    node.journal.keys = None
    node.starts(task)
    node.journal.keys = ring("k1")


def test_heads_name_neither_command_nor_node(node: Node) -> None:
    node.starts("task")
    (row,) = node.store.list("heads/")
    head = head_from_key(row.key)
    assert head is not None
    assert (head.state, head.command, head.node) == ("running", "", "")


def test_status_without_the_key_shows_the_head(node: Node) -> None:
    node.checkpoints(node.starts("task"))
    source = StoreSource(node.store, readers=1)
    for look in (source.look("task", NOW), source.look(None, NOW)):
        (view,) = look.views
        assert (view.seen.state, view.seen.command, view.seen.node) == (State.UPLOADED, None, None)
        assert view.seen.snapshot is not None
        assert look.errors == ()
        (note,) = look.notes
        assert note.startswith("of task only the head is shown: ")
        assert "sealed with the key 'k1', and there is no key file" in note


def test_status_with_the_key_shows_all(node: Node) -> None:
    ledger = node.starts("task")
    node.beats(ledger)
    plain_too(node, "plain")
    look = StoreSource(node.store, readers=4, keys=ring("k2", "k1")).look(None, NOW)
    assert [(view.seen.task, view.seen.command) for view in look.views] == [
        ("plain", "python3 train.py 'a b'"),
        ("task", "python3 train.py 'a b'"),
    ]
    assert look.notes == ("not sealed, so whoever can write to the store may have made it: plain",)


def test_a_sealed_task_without_a_head_can_not_be_shown(node: Node) -> None:
    node.starts("task", heads=False)
    source = StoreSource(node.store, readers=1)
    with pytest.raises(KeyNeeded):
        source.look("task", NOW)
    look = source.look(None, NOW)
    assert (look.views, [name for name, _ in look.errors]) == ((), ["task"])


def test_of_many_sealed_tasks_no_heartbeat_is_missed(node: Node) -> None:
    """Those can't be read without the key: that is not the task's fault."""
    for number in range(EXACT_TASKS + 1):
        task = state(State.RUNNING if number < 5 else State.UPLOADED, task=f"t{number}", snapshots=(ref(),))
        node.store.put(head_key(head_of(task, sealed=number > 0)), b"")
    look = StoreSource(node.store, readers=1).look(None, NOW)
    assert [view.seen.task for view in look.views if view.attention] == ["t0"]


def test_status_says_it_on_one_line(node: Node, keys: str, capsys: Capture) -> None:
    node.checkpoints(node.starts("task"))
    store = f"file://{node.home.parent}/store"
    assert main(["status", "--store", store]) == 0
    assert "only the head is shown" in capsys.readouterr().out
    assert main(["status", "--store", store, "--key-file", keys]) == 0
    assert "train.py" in capsys.readouterr().out
    code, line = refused(capsys, "--store", store, "--key-file", "/missing")
    assert (code, "/missing: No such file" in line) == (2, True)


def test_replay(node: Node, keys: str, capsys: Capture) -> None:
    node.checkpoints(node.starts("task"))
    plain_too(node, "plain")
    store = f"file://{node.home.parent}/store"
    (shut,) = read_source(store, "task").tasks
    assert "sealed with the key 'k1', and there is no key file" in shut.found[0].problem
    (opened,) = read_source(store, "task", ring("k1")).tasks
    assert assemble(opened.found, known_last_seq=opened.known_last_seq, known_by="x")[1] == []
    (plain,) = read_source(store, "plain", ring("k1")).tasks
    assert plain.remarks == ["it is not sealed, so anybody who can write to the store may have made it"]
    assert all(one.record for one in plain.found)
    assert main(["replay", store, "--task", "task"]) == 1
    assert main(["replay", store, "--task", "task", "--key-file", keys]) == 0
    capsys.readouterr()


def test_gc_takes_the_key(node: Node, keys: str, capsys: Capture) -> None:
    node.ends(node.starts("task"), 0)
    node.store.put("tasks/task/packs/p", b"")
    week = timedelta(days=7)
    with pytest.raises(KeyNeeded):
        collect.find(node.store, "task", older_than=week, now=NOW + 2 * week, force=False)
    store = f"file://{node.home.parent}/store"
    words = ["gc", "task", "--store", store, "--older-than", "0", "--json"]
    assert main(words) == 1
    assert "'k1'" in json.loads(capsys.readouterr().out)["tasks"][0]["error"]
    assert main([*words, "--key-file", keys]) == 0
    assert not list(node.store.list("tasks/task/packs/"))
    assert read_records(node.store, "task", ring("k1"))[-1].trigger == "collect"
    (row,) = node.store.list("heads/")
    head = head_from_key(row.key)
    assert head is not None
    assert head.command == ""


def test_verify_takes_the_key(node: Node, keys: str, capsys: Capture) -> None:
    node.starts("task")
    words = ["verify", "task", "--store", f"file://{node.home.parent}/store"]
    assert main(words) == 2
    assert "there is no key file" in capsys.readouterr().err
    assert main([*words, "--key-file", keys]) == 2
    assert "has no committed snapshot" in capsys.readouterr().out
