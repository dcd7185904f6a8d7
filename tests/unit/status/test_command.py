"""``fsnap status`` in this process: where it looks, and its exit codes."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fsnap.capsule import identity
from fsnap.cli.main import main
from fsnap.core.events import CheckpointAsked, RestoreFailed, TaskExited
from fsnap.core.model import Basis, Config, Holder
from fsnap.core.status import BEAT_META
from fsnap.ids import task_key
from fsnap.journal.mirror import journal_object
from tests.unit.status.lab import (
    FACTS,
    HOLDER,
    Capture,
    Node,
    asked,
    claim,
    refused,
    run_status,
)

# -- this node's journal


def test_no_journal_is_no_task_and_healthy(capsys: Capture, tmp_path: Path) -> None:
    code, document = asked(capsys)
    assert (code, document["tasks"], document["errors"]) == (0, [], [])
    assert document["source"] == f"{os.environ['FSNAP_HOME']}/journal.db"
    assert run_status() == 0
    assert capsys.readouterr().out.startswith("no tasks in ")
    assert not Path(os.environ["FSNAP_HOME"]).exists()


def test_an_unknown_task_is_an_error(capsys: Capture, node: Node) -> None:
    code, line = refused(capsys, "nobody")
    assert (code, "'nobody'" in line, "journal.db" in line) == (1, True, True)
    node.starts("somebody")
    code, line = refused(capsys, "nobody")
    assert (code, "'nobody'" in line) == (1, True)


@pytest.mark.parametrize("task", ["x" * 300, "é" * 100, "../..", "a b", "\udcff"])
def test_what_can_be_no_task_is_unknown(capsys: Capture, node: Node, task: str) -> None:
    assert refused(capsys, task)[0] == 1
    assert refused(capsys, task, "--store", node.store.url)[0] == 1


def test_an_empty_task_is_a_mistake(capsys: Capture) -> None:
    assert refused(capsys, "")[0] == 2


def test_a_task_from_start_to_end(capsys: Capture, node: Node, tmp_path: Path) -> None:
    ledger = node.starts("align")
    code, document = asked(capsys)
    row = document["tasks"][0]
    assert (code, row["task"], row["state"], row["epoch"], row["node"]) == (
        0,
        "align",
        "running",
        1,
        "node-a",
    )
    assert (row["command"], row["snapshot"]) == ("python3 train.py 'a b'", None)

    node.checkpoints(ledger)
    code, document = asked(capsys, "align")
    row = document["tasks"][0]
    assert (code, row["state"], row["waits"]) == (0, "uploaded", True)
    assert row["snapshot"]["id"] == "000001-0000000002"
    assert row["window"] == {"deadline": "2026-11-21T22:32:00.000Z", "left_s": 120.0}

    other = Node(tmp_path, store=node.store, name="node-b")
    there = other.ledger("align")
    other.resumes(there)
    other.ends(there, 0)
    code, document = asked(capsys, "align", "--store", node.store.url)
    row = document["tasks"][0]
    assert (code, row["state"], row["epoch"], row["node"]) == (0, "completed", 2, "node-b")
    assert (row["reclaims_survived"], row["work_saved_s"], row["exit_code"]) == (1, 725.0, 0)
    assert asked(capsys, "align")[1]["tasks"][0]["state"] == "uploaded", "the first node does not know"


def test_tasks_come_by_name(capsys: Capture, node: Node) -> None:
    for name in ("c", "a", "b/step"):
        node.starts(name)
    for words in ((), ("--store", node.store.url)):
        assert [row["task"] for row in asked(capsys, *words)[1]["tasks"]] == ["a", "b/step", "c"]


def test_the_margin_comes_from_the_records_where_no_heartbeat_was_kept(capsys: Capture, node: Node) -> None:
    ledger = node.starts("align")
    assert asked(capsys)[1]["tasks"][0]["margin_s"] is None
    node.records(ledger, CheckpointAsked(reason="test"), facts=FACTS)
    row = asked(capsys)[1]["tasks"][0]
    assert (row["margin_s"], row["plan"]) == (111.0, {"commit_s": 9.0, "window_s": 120.0})


def test_a_kept_heartbeat_is_newer_than_the_records(capsys: Capture, node: Node) -> None:
    ledger = node.starts("align")
    ledger.keep_beat(node.beats(ledger, age_s=0, commit_ms=130_000))
    code, document = asked(capsys)
    row = document["tasks"][0]
    assert (code, row["margin_s"], row["attention"]) == (2, -10.0, ["negative-margin"])
    assert row["heartbeat_at"] == "2026-11-21T22:30:00.000Z"
    ledger.keep_beat(node.beats(ledger, age_s=500))
    assert asked(capsys)[1]["tasks"][0]["attention"] == ["heartbeat-late"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"node": 1}', '{"epoch": 1}', "[" * 100_000])
def test_a_kept_heartbeat_that_can_not_be_read_is_none(capsys: Capture, node: Node, text: str) -> None:
    ledger = node.starts("align")
    node.journal.put_meta("align", BEAT_META, text)
    code, document = asked(capsys)
    assert (code, document["tasks"][0]["heartbeat_at"]) == (0, None)
    assert ledger.state.task == "align"


def test_a_heartbeat_of_an_earlier_epoch_says_nothing_here(capsys: Capture, node: Node) -> None:
    ledger = node.starts("align")
    ledger.keep_beat(replace(node.beats(ledger, age_s=500), epoch=0))
    assert asked(capsys)[0] == 0


def here(**changes: Any) -> Holder:
    """This very process as the init of a capsule."""
    pid = os.getpid()
    start = identity.start_ticks(pid)
    assert start is not None
    holder = replace(HOLDER, boot_id=identity.boot_id(), pid_ns=identity.pid_namespace(), init_pid=pid)
    return replace(holder, **{"init_start": start, **changes})


@pytest.mark.parametrize(
    ("holder", "code", "attention", "word"),
    [
        (here(), 0, [], ""),
        (here(init_start=1), 2, ["holder-gone"], "capsule on this node is gone"),
        (here(boot_id="another"), 0, [], "look with --store"),
        (here(pid_ns="another", init_start=1), 0, [], ""),
    ],
)
def test_a_holder_is_looked_for(
    capsys: Capture, node: Node, holder: Holder, code: int, attention: list[str], word: str
) -> None:
    node.holder = holder
    node.starts("align")
    got, document = asked(capsys)
    assert (got, document["tasks"][0]["attention"]) == (code, attention)
    assert word in " ".join(document["tasks"][0]["warnings"])


def test_without_proc_nothing_is_said_of_the_holder(
    capsys: Capture, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> str:
        raise OSError("no /proc")

    node.starts("align")
    monkeypatch.setattr(identity, "boot_id", missing)
    assert asked(capsys)[1]["tasks"][0]["warnings"] == []


def test_a_quarantined_snapshot_needs_attention(capsys: Capture, node: Node) -> None:
    ledger = node.starts("align")
    node.checkpoints(ledger)
    node.records(
        ledger, claim(node.holder, basis=Basis.UPLOADED, config=Config(on_restore_failure="restart"))
    )
    bad = ledger.state.usable[0].id
    node.records(
        ledger, RestoreFailed(snapshot_id=bad, code="x", message="y", corrupt=True, holder=node.holder)
    )
    node.beats(ledger)
    for words in ((), ("align",), ("--store", node.store.url), ("align", "--store", node.store.url)):
        code, document = asked(capsys, *words)
        assert (code, document["tasks"][0]["attention"]) == (2, ["snapshot-quarantined"])


def test_one_damaged_task_hides_no_other(capsys: Capture, node: Node) -> None:
    node.starts("bad")
    node.starts("good")
    node.journal.close()
    with closing(sqlite3.connect(node.home / "journal.db")) as connection, connection:
        connection.execute("UPDATE records SET mono_ms = mono_ms + 1 WHERE task = 'bad'")
    code, document = asked(capsys)
    assert (code, [row["task"] for row in document["tasks"]]) == (1, ["good"])
    assert [error["task"] for error in document["errors"]] == ["bad"]
    assert "digest" in document["errors"][0]["message"]
    assert run_status() == 1
    assert "! bad can't be read: " in capsys.readouterr().out
    assert refused(capsys, "bad")[0] == 1
    assert asked(capsys, "good")[0] == 0


def test_a_file_that_is_no_journal_is_an_error(capsys: Capture, tmp_path: Path) -> None:
    home = Path(os.environ["FSNAP_HOME"])
    home.mkdir()
    (home / "journal.db").write_text("not a database, but long enough to be taken for one" * 9)
    assert refused(capsys)[0] == 1


def test_the_local_journal_is_not_changed(capsys: Capture, node: Node) -> None:
    node.starts("align")
    node.journal.close()
    before = {path: path.stat().st_mtime_ns for path in node.home.iterdir()}
    assert asked(capsys)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in node.home.iterdir()} == before


# -- a store


def test_a_store_needs_no_local_journal(
    capsys: Capture, node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.starts("align")
    monkeypatch.setenv("FSNAP_HOME", str(tmp_path / "nothing"))
    code, document = asked(capsys, "--store", node.store.url)
    assert (code, document["tasks"][0]["state"], document["source"]) == (0, "running", node.store.url)
    assert not (tmp_path / "nothing").exists()


def test_a_variable_names_the_store_and_the_flag_beats_it(
    capsys: Capture, node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.starts("align")
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("FSNAP_STORE", f"file://{tmp_path}/empty")
    assert asked(capsys)[1]["tasks"] == []
    assert len(asked(capsys, "--store", node.store.url)[1]["tasks"]) == 1


def test_a_store_that_is_not_there_is_an_error_and_not_made(capsys: Capture, tmp_path: Path) -> None:
    code, line = refused(capsys, "--store", f"file://{tmp_path}/missing")
    assert (code, "missing" in line) == (1, True)
    assert not (tmp_path / "missing").exists()


def test_an_empty_store_has_no_task(capsys: Capture, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert asked(capsys, "--store", f"file://{tmp_path}/empty")[0] == 0
    assert refused(capsys, "align", "--store", f"file://{tmp_path}/empty")[0] == 1
    assert list((tmp_path / "empty").iterdir()) == []


@pytest.mark.parametrize("url", ["here", "/tmp/x", "ftp://h/x", "s3://", "file://h/x", "s3://key:secret@b/p"])
def test_a_bad_url_is_a_usage_error(capsys: Capture, url: str) -> None:
    code, line = refused(capsys, "--store", url)
    assert (code, "secret" in line) == (2, False)


def test_an_unknown_flag_is_a_usage_error(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["status", "--colour"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_heartbeat_of_the_store_tells_of_a_dead_node(capsys: Capture, node: Node) -> None:
    ledger = node.starts("align")
    node.beats(ledger, age_s=20)
    assert asked(capsys, "--store", node.store.url)[0] == 0
    node.beats(ledger, age_s=200)
    for words in ((), ("align",)):
        code, document = asked(capsys, *words, "--store", node.store.url)
        assert (code, document["tasks"][0]["attention"]) == (2, ["heartbeat-late"])
        assert "no heartbeat for 3m20s" in document["tasks"][0]["warnings"][0]


def test_an_unprotected_task_needs_attention(capsys: Capture, node: Node) -> None:
    ledger = node.starts("align")
    node.beats(ledger, unsupported=1)
    code, document = asked(capsys, "--store", node.store.url)
    assert (code, document["tasks"][0]["attention"]) == (2, ["unprotected"])


def test_a_damaged_object_is_an_error_and_the_head_is_shown(capsys: Capture, node: Node) -> None:
    node.starts("align")
    node.starts("other")
    node.store.put(journal_object("align", 1), b"{}")
    code, document = asked(capsys, "--store", node.store.url)
    assert (code, [row["task"] for row in document["tasks"]]) == (1, ["align", "other"])
    assert [error["task"] for error in document["errors"]] == ["align"]
    assert refused(capsys, "align", "--store", node.store.url)[0] == 1


def test_the_lab_speaks_the_language_of_the_protocol(node: Node) -> None:
    """If the records of these tests could not happen, the tests would say nothing."""
    ledger = node.starts("align")
    node.records(ledger, TaskExited(exit_code=0))
    assert [record.trigger for record in node.journal.records("align")] == ["begin", "complete"]
    assert task_key("align") == "align"
