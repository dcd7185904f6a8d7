"""The commands of a checkout, run as a user runs them, from elsewhere and by another Python."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

HERE = Path(__file__).resolve().parent


def run(command: Path, *words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([command, *map(str, words)], cwd=cwd, capture_output=True, text=True, check=False)


def test_replay(checkout: Path, tmp_path: Path) -> None:
    tool = checkout / "tools" / "replay.py"
    good = run(tool, HERE / "good" / "clean.jsonl", cwd=tmp_path)
    assert (good.returncode, good.stderr) == (0, "")
    assert good.stdout.endswith("3 records re-decided, no divergence\n")
    bad = run(tool, HERE / "divergent" / "another-exit-code.jsonl", "--task", "task", "--json", cwd=tmp_path)
    assert bad.returncode == 3
    assert json.loads(bad.stdout)["divergence"]["seq"] == 3
    assert run(tool, "nothing", cwd=tmp_path).returncode == 1
    assert run(tool, cwd=tmp_path).returncode == 2


def test_record_journal_gives_an_export_back_as_it_was(checkout: Path, tmp_path: Path) -> None:
    tool = checkout / "tools" / "record_journal"
    source = HERE / "good" / "two-reclaims.jsonl"
    done = run(tool, source, "--task", "task", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, source.read_text(), "")


def test_record_journal_says_what_it_left_out(checkout: Path, tmp_path: Path) -> None:
    done = run(
        checkout / "tools" / "record_journal", HERE / "damaged" / "a-flipped-digit.jsonl", cwd=tmp_path
    )
    lines = (HERE / "damaged" / "a-flipped-digit.jsonl").read_text().splitlines()
    assert done.returncode == 1
    assert done.stderr == "task: 5 to 5: does not match its digest\n"
    assert done.stdout.splitlines() == lines[:4] + lines[5:]


@pytest.mark.parametrize("words", [(), ("a", "b"), ("--corpus", "no-such-scenario")])
def test_record_journal_refuses(words: tuple[str, ...], checkout: Path, tmp_path: Path) -> None:
    done = run(checkout / "tools" / "record_journal", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr
