"""``fsnap gc`` and ``fsnap verify`` on tasks whose journals and snapshots are real."""

from __future__ import annotations

import json
import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fsnap.agent import collect
from fsnap.cli.main import main
from fsnap.core.events import Event, RenewAsked, SnapshotSaved, TaskExited
from fsnap.core.manifest import SnapshotAbout
from fsnap.core.model import Config, SnapshotRef, State
from fsnap.errors import Fenced
from fsnap.ids import task_key
from fsnap.journal import heads
from fsnap.journal.heartbeat import Beat, Heartbeat
from fsnap.snapshots.capture import Capture
from fsnap.snapshots.known import KnownChunks
from fsnap.snapshots.trees import TreeSource
from tests.unit.status.lab import HOLDER, NOW, Node, ago, claim, ref

Shown = pytest.CaptureFixture[str]
DAY = timedelta(days=1)


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    monkeypatch.delenv("FSNAP_STORE", raising=False)
    return Node(tmp_path)


def happens(node: Node, task: str, event: Event) -> None:
    node.records(node.ledger(task), event)


def begun() -> Event:
    return claim(HOLDER, config=Config())


def saved(node: Node, task: str, root: Path, kind: str = "periodic") -> SnapshotRef:
    """A snapshot of some files, as the journal's next record would name it."""
    ledger = node.ledger(task)
    name = f"{ledger.state.epoch:06d}-{ledger.state.seq:010d}"
    root.mkdir(exist_ok=True)
    (root / "file").write_bytes(random.Random(name + task).randbytes(50_000))
    prefix = f"tasks/{task_key(task)}"
    with Capture(store=node.store, prefix=prefix, snapshot_id=name, known=KnownChunks()) as capture:
        capture.add_tree(TreeSource(name="state-0", root=root))
        capture.seal_index()
        about = SnapshotAbout(
            snapshot_id=name,
            task=task,
            epoch=1,
            seq=1,
            final=False,
            created_at=ago(0),
            command=("c",),
            cwd="/",
        )
        published = capture.publish(about)
    return ref(name, kind=kind, manifest=published.manifest_digest)


def completed(node: Node, task: str, root: Path) -> None:
    """One that ended well at ``NOW``."""
    happens(node, task, begun())
    happens(node, task, TaskExited(exit_code=0))
    happens(node, task, SnapshotSaved(ref=saved(node, task, root, "files")))
    assert node.ledger(task).state.state is State.COMPLETED


def live(node: Node, task: str) -> None:
    happens(node, task, begun())
    beat = Beat(node="node-a", epoch=1, count=1, at=ago(0))
    Heartbeat.put(node.store, task, beat)


def keys(node: Node, task: str) -> list[str]:
    prefix = f"tasks/{task_key(task)}/"
    return [row.key.removeprefix(prefix).split("/")[0] for row in node.store.list(prefix)]


def gc(node: Node, capsys: Shown, *words: str) -> tuple[int, dict[str, Any]]:
    code = main(["gc", "--store", node.store.url, "--json", *words])
    return code, json.loads(capsys.readouterr().out)


def test_an_ended_task_goes_and_its_journal_stays(node: Node, capsys: Shown, tmp_path: Path) -> None:
    completed(node, "done", tmp_path / "d")
    live(node, "live")
    code, document = gc(node, capsys, "--older-than", "0")
    assert (code, [row["task"] for row in document["tasks"]]) == (0, ["done"])
    assert document["tasks"][0]["deleted"]
    assert document["bytes"] > 50_000
    assert set(keys(node, "done")) == {"journal"}
    assert set(keys(node, "live")) == {"journal", "heartbeat"}
    state = node.ledger("done").state
    assert (state.state, state.collected, state.snapshots) == (State.COMPLETED, True, ())
    assert [head.snapshot for head in heads.read_all(node.store) if head.task == "done"] == [None]


def test_again_there_is_nothing(node: Node, capsys: Shown, tmp_path: Path) -> None:
    completed(node, "done", tmp_path / "d")
    gc(node, capsys, "--older-than", "0")
    before = [row.key for row in node.store.list()]
    code, document = gc(node, capsys, "--older-than", "0")
    assert (code, document["tasks"]) == (0, [])
    assert [row.key for row in node.store.list()] == before


def test_the_young_stay(node: Node, capsys: Shown, tmp_path: Path) -> None:
    completed(node, "done", tmp_path / "d")
    before = [row.key for row in node.store.list()]
    assert collect.find(node.store, "done", older_than=7 * DAY, now=NOW + 6 * DAY, force=True) is None
    assert collect.find(node.store, "done", older_than=7 * DAY, now=NOW + 8 * DAY, force=False) is not None
    assert [row.key for row in node.store.list()] == before


def test_a_dry_run_deletes_nothing(node: Node, capsys: Shown, tmp_path: Path) -> None:
    completed(node, "done", tmp_path / "d")
    before = [row.key for row in node.store.list()]
    code, document = gc(node, capsys, "--older-than", "0", "--dry-run")
    assert (code, document["dry_run"], document["tasks"][0]["deleted"]) == (0, True, False)
    assert [row.key for row in node.store.list()] == before
    assert main(["gc", "--store", node.store.url, "--older-than", "0", "--dry-run"]) == 0
    assert "would delete done: " in capsys.readouterr().out


def test_a_live_task_is_given_up_when_forced(node: Node, capsys: Shown, tmp_path: Path) -> None:
    live(node, "live")
    code, document = gc(node, capsys, "--older-than", "0", "--force", "live")
    assert (code, [row["task"] for row in document["tasks"]]) == (0, ["live"])
    state = node.ledger("live").state
    assert (state.state, state.outcome) == (State.FAILED, "abandoned")
    assert set(keys(node, "live")) == {"journal"}


def test_the_holder_of_a_task_that_was_given_up_is_fenced(node: Node, capsys: Shown) -> None:
    live(node, "live")
    holder = node.ledger("live")
    gc(node, capsys, "--older-than", "0", "--force", "live")
    with pytest.raises(Fenced):
        holder.check()


def test_a_task_that_moves_on_meanwhile_keeps_everything(node: Node, tmp_path: Path) -> None:
    completed(node, "done", tmp_path / "d")
    found = collect.find(node.store, "done", older_than=0 * DAY, now=NOW, force=False)
    assert found is not None
    happens(node, "done", RenewAsked(reason="fresh"))
    happens(node, "done", begun())
    before = [row.key for row in node.store.list()]
    with pytest.raises(Fenced):
        collect.delete(node.store, found, now=NOW, nonce="n", node="here", reason="gc", step=lambda: None)
    assert [row.key for row in node.store.list()] == before


def test_what_a_cut_off_gc_left_goes_the_next_time(node: Node, capsys: Shown, tmp_path: Path) -> None:
    class Cut(Exception):
        pass

    def step() -> None:
        raise Cut

    completed(node, "done", tmp_path / "d")
    found = collect.find(node.store, "done", older_than=0 * DAY, now=NOW, force=False)
    assert found is not None
    with pytest.raises(Cut):
        collect.delete(node.store, found, now=NOW, nonce="n", node="here", reason="gc", step=step)
    assert set(keys(node, "done")) == {"journal", "snapshots"}
    seq = node.ledger("done").state.seq
    code, document = gc(node, capsys, "--older-than", "0")
    assert (code, len(document["tasks"])) == (0, 1)
    assert set(keys(node, "done")) == {"journal"}
    assert node.ledger("done").state.seq == seq


def test_a_journal_that_cannot_be_read_keeps_its_task(node: Node, capsys: Shown, tmp_path: Path) -> None:
    completed(node, "bad", tmp_path / "b")
    completed(node, "good", tmp_path / "g")
    first = next(row.key for row in node.store.list("tasks/bad/journal/"))
    node.store.put(first, b"{}")
    before = [row.key for row in node.store.list("tasks/bad/")]
    code, document = gc(node, capsys, "--older-than", "0")
    assert code == 1
    assert {row["task"]: row["deleted"] for row in document["tasks"]} == {"bad": False, "good": True}
    assert [row.key for row in node.store.list("tasks/bad/")] == before


@pytest.mark.parametrize("age", ["x", "-1d", "7 d", "d", ""])
def test_a_bad_age(node: Node, capsys: Shown, age: str) -> None:
    assert main(["gc", "--store", node.store.url, f"--older-than={age}"]) == 2
    assert capsys.readouterr().err.startswith(f"fsnap: --older-than {age}: ")


def test_a_store_that_is_not_there(capsys: Shown, tmp_path: Path) -> None:
    for verb in (["gc"], ["verify", "t"]):
        assert main([*verb, "--store", f"file://{tmp_path}/none"]) == 174
        assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "none").exists()


# -- verify


def verify(node: Node, capsys: Shown, *words: str) -> tuple[int, dict[str, Any]]:
    code = main(["verify", "--store", node.store.url, "--json", *words])
    return code, json.loads(capsys.readouterr().out)


def test_whole(node: Node, capsys: Shown, tmp_path: Path) -> None:
    completed(node, "done", tmp_path / "d")
    code, document = verify(node, capsys, "done")
    assert (code, document["ok"]) == (0, True)
    (row,) = document["snapshots"]
    assert row["read_bytes"] > 50_000
    assert (row["ok"], row["problems"]) == (True, [])
    assert main(["verify", "done", "--store", node.store.url]) == 0
    assert ": whole (" in capsys.readouterr().out


@pytest.mark.parametrize("part", ["packs", "index", "manifest.json"])
def test_damage_is_found_and_named(node: Node, capsys: Shown, tmp_path: Path, part: str) -> None:
    completed(node, "done", tmp_path / "d")
    key = next(row.key for row in node.store.list("tasks/done/") if part in row.key)
    data = bytearray(node.store.get(key))
    data[len(data) // 2] ^= 1
    node.store.put(key, data)
    code, document = verify(node, capsys, "done")
    assert (code, document["ok"]) == (1, False)
    assert key in document["snapshots"][0]["problems"][0]
    assert main(["verify", "done", "--store", node.store.url]) == 1
    assert "DAMAGED" in capsys.readouterr().out


def test_missing_objects_are_damage(node: Node, capsys: Shown, tmp_path: Path) -> None:
    completed(node, "done", tmp_path / "d")
    node.store.delete(next(row.key for row in node.store.list("tasks/done/packs/")))
    assert verify(node, capsys, "done")[0] == 1


def test_nothing_to_verify_is_not_called_whole(node: Node, capsys: Shown) -> None:
    live(node, "live")
    code, document = verify(node, capsys, "live")
    assert (code, document["ok"], document["snapshots"]) == (2, None, [])


def test_unknown_names(node: Node, capsys: Shown, tmp_path: Path) -> None:
    completed(node, "done", tmp_path / "d")
    assert main(["verify", "other", "--store", node.store.url]) == 1
    assert "other" in capsys.readouterr().err
    assert main(["verify", "done", "--snapshot", "x", "--store", node.store.url]) == 2
    assert "It has: 000001-" in capsys.readouterr().err
    assert main(["verify", "../etc", "--store", node.store.url]) == 2


@pytest.mark.parametrize("age", ["seven", "d7", "-1d", "99999999999d", "9" * 400 + "w"])
def test_an_age_that_is_none(age: str, node: Node, capsys: Shown) -> None:
    assert main(["gc", "--store", node.store.url, f"--older-than={age}"]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("fsnap: --older-than ")
    assert printed.endswith("See 'fsnap gc --help'.\n")
    assert printed.count("\n") == 1
