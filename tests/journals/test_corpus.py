"""Journals of real runs (``tools/record_journal --corpus``), replay as they should."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fsnap.cli.main import main
from fsnap.core.events import EVENTS

HERE = Path(__file__).resolve().parent
EXPECTED: dict[str, dict[str, Any]] = json.loads((HERE / "expected.json").read_text())

OUTCOMES: dict[str, tuple[str, list[str]]] = {
    "can-not-be-saved": ("completed", ["ended"]),
    "cancelled-by-the-user": ("failed", []),
    "clean": ("completed", []),
    "dump-cut-off-at-the-deadline": ("completed", ["unsaved"]),
    "failed-and-begun-anew": ("failed", []),
    "lost-before-any-snapshot": ("completed", []),
    "lost-before-the-record": ("completed", []),
    "lost-nodes": ("completed", []),
    "notice-before-the-start": ("completed", ["not-started"]),
    "notice-taken-back-after-the-commit": ("completed", ["committed"]),
    "notice-taken-back-during-the-dump": ("completed", ["cancelled"]),
    "older-snapshot-after-a-flipped-byte": ("completed", ["committed"]),
    "periodic-checkpoints": ("completed", []),
    "reclaimed-while-restoring": ("completed", ["not-started"]),
    "restore-failed-and-restarted": ("completed", ["committed"]),
    "restore-given-up": ("completed", ["committed"]),
    "sigterm-is-a-notice": ("completed", ["committed"]),
    "two-notices": ("completed", ["committed"]),
    "two-reclaims": ("completed", ["committed", "committed"]),
    "window-too-short": ("completed", ["unsaved"]),
}
"""By journal: the state in the end, and what became of each reclaim."""

TRIGGERS = {
    "adopt",
    "begin",
    "checkpointed",
    "claim",
    "claim_bare",
    "commit",
    "complete",
    "dump",
    "fail",
    "finish",
    "give_up",
    "note",
    "predump",
    "prune",
    "renew",
    "restart",
    "restored",
    "retry_restore",
    "rollback",
    "unhold",
}


def good(name: str) -> Path:
    return HERE / "good" / f"{name}.jsonl"


def replayed(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    code = main(["replay", str(path), "--task", "task", "--json"])
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, document


@pytest.mark.parametrize("name", OUTCOMES)
def test_a_recorded_run_replays(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, document = replayed(good(name), capsys)
    state, outcomes = OUTCOMES[name]
    assert code == 0
    assert document["divergence"] is None
    assert document["not_comparable"] == [], "made by another planner: record the corpus anew"
    assert document["missing"] == []
    lines = len(good(name).read_text().splitlines())
    assert document["records"] == document["redecided"] == lines
    assert document["state"] == state
    assert [reclaim["outcome"] for reclaim in document["reclaims"]] == outcomes


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_what_was_tampered_with_is_found(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, document = replayed(HERE / f"{name}.jsonl", capsys)
    expected = EXPECTED[name]
    if name.startswith("divergent/"):
        assert code == 3
        divergence = document["divergence"]
        assert divergence["seq"] == expected["seq"]
        assert expected["field"] in divergence["got"]
        assert divergence["got"][expected["field"]] != divergence["expected"].get(expected["field"])
        return
    assert code == 1
    assert document["divergence"] is None
    found = [{key: one[key] for key in ("first_seq", "last_seq")} for one in document["missing"]]
    assert found == expected["missing"]
    assert document["redecided"] == expected["redecided"]


def test_each_file_is_tested() -> None:
    files = {path.relative_to(HERE).as_posix().removesuffix(".jsonl") for path in HERE.rglob("*.jsonl")}
    assert files == {f"good/{name}" for name in OUTCOMES} | EXPECTED.keys()


def test_the_corpus_has_seen_nearly_everything() -> None:
    records = [json.loads(line) for name in OUTCOMES for line in good(name).read_text().splitlines()]
    assert {record["trigger"] for record in records} == TRIGGERS
    rare = {"CapsuleLost", "CheckpointAsked", "CollectAsked", "DumpFailed"}
    assert {record["event"]["kind"] for record in records} == EVENTS.keys() - rare


def test_the_corpus_names_no_machine() -> None:
    import socket

    for path in HERE.rglob("*.jsonl"):
        text = path.read_text(errors="replace")
        assert "/tmp/" not in text
        assert "/root" not in text
        nodes = {json.loads(line)["node"] for line in good("lost-nodes").read_text().splitlines()}
        assert nodes == {"node-a", "node-b", "node-c"}
        assert f'"{socket.gethostname()}"' not in text
