"""``fsnap hooks``: the listing, the texts, the mistakes, and how much it loads."""

from __future__ import annotations

import configparser
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

from fsnap.cli.hooks import FOLDER, HOOKS, Hook
from fsnap.cli.main import main

NAMES = [hook.name for hook in HOOKS]
NEEDLESS = {
    "boto3",
    "botocore",
    "loguru",
    "numpy",
    "sqlite3",
    "sqlite_utils",
    "subprocess",
    "transitions",
    "yaml",
}


@pytest.mark.parametrize("words", [["hooks"], ["hooks", "--list"]])
def test_names_are_listed_one_a_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == NAMES
    assert all(len(line) <= 120 for line in lines)


@pytest.mark.parametrize("hook", HOOKS, ids=NAMES)
def test_a_snippet_is_printed_as_it_is(hook: Hook, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["hooks", hook.name]) == 0
    captured = capsys.readouterr()
    assert captured.out == (FOLDER / hook.file).read_text()
    assert captured.out.endswith("\n")
    assert captured.err == ""


def test_an_unknown_name_is_one_line_and_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["hooks", "cron"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "cron" in captured.err
    assert all(name in captured.err for name in NAMES)


def test_every_snippet_has_a_name_is_packaged_and_is_documented(checkout: Path) -> None:
    files = {path.name for path in FOLDER.iterdir()}
    assert files == {hook.file for hook in HOOKS}
    config = configparser.ConfigParser()
    config.read(checkout / "setup.cfg")
    patterns = config["options.package_data"]["fsnap.cli"].split()
    assert all(any(fnmatch(f"snippets/{file}", pattern) for pattern in patterns) for file in files)
    headings = (checkout / "docs/hooks.rst").read_text().splitlines()
    assert set(NAMES) <= set(headings)


@pytest.mark.parametrize("hook", HOOKS, ids=NAMES)
def test_lines_fit(hook: Hook) -> None:
    lines = (FOLDER / hook.file).read_text().splitlines()
    assert not [line for line in lines if len(line) > 120 or "\t" in line or line != line.rstrip()]


@pytest.mark.process
def test_nothing_is_loaded_for_it() -> None:
    code = (
        "import sys; before = set(sys.modules); from fsnap.cli.main import main; main(['hooks', 'nextflow']);"
        "sys.stderr.write(' '.join(set(sys.modules) - before))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in run.stderr.split()}
    assert "fsnap" in loaded
    assert not loaded & NEEDLESS
    assert "fsnap.agent" not in run.stderr.split()
