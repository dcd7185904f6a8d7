"""The text of ``fsnap status`` in this process, and ``--watch``."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fsnap.cli.main import main
from fsnap.cli.status import CLEAR
from fsnap.core.events import CapsuleLost
from tests.unit.status.lab import (
    Capture,
    FrozenClock,
    Node,
    asked,
    on_a_terminal,
    refused,
    run_status,
)


def test_one_task_is_told_at_length(capsys: Capture, node: Node) -> None:
    ledger = node.starts("align")
    node.checkpoints(ledger)
    assert run_status("align") == 0
    text = capsys.readouterr().out
    assert "waits for its next attempt" in text
    assert "the one to restore" in text


def test_given_up_waits_for_its_next_attempt(capsys: Capture, node: Node) -> None:
    ledger = node.starts("align")
    node.records(ledger, CapsuleLost(message="the capsule's init died"))
    code, document = asked(capsys)
    row = document["tasks"][0]
    assert (code, row["state"], row["held"], row["waits"], row["outcome"]) == (
        0,
        "running",
        False,
        True,
        "reclaimed",
    )
    run_status("align")
    assert "its holder gave it up: waits for its next attempt" in capsys.readouterr().out


def test_a_failed_task_shows_its_exit_code(capsys: Capture, node: Node) -> None:
    ledger = node.starts("align")
    node.ends(ledger, 3)
    code, document = asked(capsys)
    assert (code, document["tasks"][0]["state"], document["tasks"][0]["exit_code"]) == (0, "failed", 3)


def test_a_name_that_the_terminal_can_not_show_is_replaced(
    capsys: Capture, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.holder = replace(node.holder, node="knoten-ü")
    node.starts("align")
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    assert run_status() == 0
    assert b"knoten-?" in raw.getvalue()


def test_watching_shows_each_change_until_ctrl_c(capsys: Capture, node: Node) -> None:
    ledger = node.starts("align")
    clock = FrozenClock(sleeps=2, woken=once(lambda: node.ends(ledger, 0)))
    assert run_status("--watch", "--json", clock=clock) == 0
    lines = capsys.readouterr().out.splitlines()
    states = [json.loads(line)["tasks"][0]["state"] for line in lines]
    assert states == ["running", "completed", "completed"]


def test_watching_a_store_sees_what_is_new(capsys: Capture, node: Node, tmp_path: Path) -> None:
    ledger = node.starts("align")
    clock = FrozenClock(sleeps=1, woken=once(lambda: node.checkpoints(ledger)))
    assert run_status("align", "--watch", "--json", "--store", node.store.url, clock=clock) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["tasks"][0]["state"] for line in lines] == ["running", "uploaded"]


def test_watching_ends_with_the_code_of_the_last_look(capsys: Capture, node: Node) -> None:
    ledger = node.starts("align")
    node.beats(ledger, age_s=119)
    words = ("--watch", "--store", node.store.url)
    assert run_status(*words, clock=FrozenClock(sleeps=0)) == 0
    assert run_status(*words, clock=FrozenClock(sleeps=1)) == 2
    assert capsys.readouterr().out.count("TASK ") == 3


def test_watching_outlives_a_store_that_is_away_for_a_while(
    capsys: Capture, node: Node, tmp_path: Path
) -> None:
    node.starts("align")
    steps = iter(["away", "back"])

    def move() -> None:
        if next(steps) == "away":
            (tmp_path / "store").rename(tmp_path / "elsewhere")
        else:
            (tmp_path / "elsewhere").rename(tmp_path / "store")

    words = ("--watch", "--json", "--store", node.store.url)
    assert run_status(*words, clock=FrozenClock(sleeps=2, woken=move)) == 0
    shown = capsys.readouterr()
    assert (shown.out.count("\n"), shown.err.count("fsnap: ")) == (2, 1)


def test_watching_what_is_not_there_ends_at_once(capsys: Capture) -> None:
    assert refused(capsys, "nobody", "--watch")[0] == 1


def test_a_terminal_is_redrawn_and_fitted(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.starts("align")
    terminal = on_a_terminal(monkeypatch, columns=70)
    run_status("--watch", clock=FrozenClock(sleeps=1))
    screens = terminal.getvalue().split(CLEAR)
    assert screens[0] == ""
    assert len(screens) == 3
    assert all(len(line) <= 70 for line in screens[1].splitlines()[:2])


def test_a_reader_that_goes_away_is_no_traceback(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def write(self, text: str, /) -> int:
            raise BrokenPipeError

    closed: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "dup2", lambda old, new: closed.append((old, new)))
    monkeypatch.setattr(sys, "stdout", Gone())
    assert main(["status"]) == 1
    assert closed[0][1] == 1
    os.close(closed[0][0])


def once(work: Callable[[], None]) -> Callable[[], None]:
    """*work*, at the first call only."""
    todo = [work]
    return lambda: todo.pop()() if todo else None


def test_a_full_disk_under_stdout_is_one_line(
    node: Node, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    node.starts("align")
    with open("/dev/full", "w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(["status"]) == 1
    assert capsys.readouterr().err == "fsnap: stdout can't be written: No space left on device\n"
