"""What the documents say, held against what there is."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fsnap
from fsnap import errors
from fsnap.agent.start import EXIT_NOT_EXECUTABLE
from fsnap.cli.main import build_parser
from fsnap.errors import FsnapError

CHECKOUT = Path(__file__).resolve().parent.parent
README = CHECKOUT / "README.rst"
DOCUMENTS = [README, *sorted((CHECKOUT / "docs").glob("*.rst"))]
ROOTS = ("docs", "fsnap", "statecharts", "tests", "tools")

EXIT_ROW = re.compile(r"^(\d+) {2,}(\S.*?) {2,}(\S.*)$", re.MULTILINE)
LITERAL = re.compile(r"``([^`]+)``")
TARGET = re.compile(r"^\.\. _[^:]+: (\S+)$", re.MULTILINE)
TEST_NAME = re.compile(r"(tests/[\w/]+\.py)(?:::(\w+))?")


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def all_text() -> str:
    return "\n".join(text_of(path) for path in DOCUMENTS)


def test_there_are_documents() -> None:
    names = {path.name for path in DOCUMENTS}
    assert {"README.rst", "index.rst", "design.rst", "run.rst"} <= names


# -- exit codes


def exit_table() -> dict[int, tuple[str, str]]:
    """The rows of README's table whose first cell is a number."""
    section = text_of(README).split("\nExit codes\n", 1)[1].split("\nWhat is going on\n", 1)[0]
    rows = EXIT_ROW.findall(section)
    assert len({row[0] for row in rows}) == len(rows)
    return {int(code): (meaning, advice) for code, meaning, advice in rows}


def all_errors() -> Iterator[type[FsnapError]]:
    """Every failure that any module of fsnap defines."""
    for module in pkgutil.walk_packages(fsnap.__path__, "fsnap."):
        if module.name.split(".")[-1] != "__main__" and ".capsule." not in module.name:
            importlib.import_module(module.name)
    waiting = [FsnapError]
    while waiting:
        kind = waiting.pop()
        yield kind
        waiting += kind.__subclasses__()


@pytest.mark.process  # a library that is imported looks whether it may bind to IPv6
def test_exit_codes_are_those_of_the_code() -> None:
    constants = {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    raised = {kind.exit_code for kind in all_errors()}
    assert set(exit_table()) == {0, EXIT_NOT_EXECUTABLE} | constants | raised


@pytest.mark.parametrize(
    ("code", "word"),
    [
        (errors.EXIT_USAGE, "usage"),
        (errors.EXIT_NO_SUCH_COMMAND, "no such"),
        (errors.EXIT_STORE, "store"),
        (errors.EXIT_RECLAIMED_UNSAVED, "reclaimed"),
        (errors.EXIT_RESTORE_FAILED, "restored"),
        (errors.EXIT_CHECKPOINTED, "checkpointed"),
        (errors.EXIT_NOT_OURS, "elsewhere"),
        (EXIT_NOT_EXECUTABLE, "executed"),
    ],
)
def test_each_exit_code_stands_beside_its_meaning(code: int, word: str) -> None:
    assert word in exit_table()[code][0]


# -- flags and verbs


def verbs() -> dict[str, argparse.ArgumentParser]:
    actions = build_parser()._actions
    choices = next(a.choices for a in actions if isinstance(a, argparse._SubParsersAction))
    assert isinstance(choices, dict)
    return choices


def flags(verb: argparse.ArgumentParser) -> list[str]:
    return [flag for action in verb._actions for flag in action.option_strings if flag.startswith("--")]


def test_every_flag_of_run_is_described() -> None:
    described = set(re.findall(r"--[a-z][a-z-]*", text_of(CHECKOUT / "docs" / "run.rst")))
    assert set(flags(verbs()["run"])) - {"--help"} == described


def test_every_verb_is_described() -> None:
    text = all_text()
    assert not [verb for verb in verbs() if f"fsnap {verb}" not in text]


def test_no_verb_or_flag_is_described_that_is_not_there() -> None:
    known = {flag for verb in verbs().values() for flag in flags(verb)}
    words = [literal for literal in LITERAL.findall(all_text()) if literal.startswith("fsnap ")]
    assert words
    for word in words:
        verb = word.split()[1]
        assert verb in verbs() or verb == "doctor", word  # doctor: announced where stores are described
        assert set(re.findall(r"--[a-z][a-z-]*", word)) <= known, word


# -- files and links


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(path: Path) -> None:
    for target in TARGET.findall(text_of(path)):
        if "://" not in target:
            assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_that_is_named_is_there(path: Path) -> None:
    for literal in LITERAL.findall(text_of(path)):
        word = literal.split()[0].split("::")[0].rstrip("/")
        if word.startswith(tuple(f"{root}/" for root in ROOTS)) and "*" not in word and "<" not in word:
            assert (CHECKOUT / word).exists(), literal


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_test_that_is_named_is_there(path: Path) -> None:
    for file, name in TEST_NAME.findall(text_of(path)):
        source = text_of(CHECKOUT / file)
        assert not name or f"def {name}(" in source, f"{file}::{name}"


def test_every_document_is_in_the_index() -> None:
    targets = set(TARGET.findall(text_of(CHECKOUT / "docs" / "index.rst")))
    assert {path.name for path in DOCUMENTS} - {"README.rst", "index.rst"} <= targets


def test_every_invariant_names_a_test() -> None:
    text = text_of(CHECKOUT / "docs" / "protocol.rst")
    section = text.split("\nInvariants\n", 1)[1].split("\nWhat can't be promised\n", 1)[0]
    items = re.split(r"^\d+\. ", section, flags=re.MULTILINE)[1:]
    assert len(items) >= 8
    assert all(TEST_NAME.search(item) for item in items)


# -- drawings


@pytest.mark.process
def test_the_drawings_are_those_of_the_charts() -> None:
    run = subprocess.run(
        [sys.executable, CHECKOUT / "tools" / "chart_docs", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.process
def test_a_drawing_that_is_out_of_date_is_found(tmp_path: Path) -> None:
    """A copy of the tool, with charts that have one arrow more than their drawing."""
    for name in ("tools", "statecharts"):
        (tmp_path / name).mkdir()
    tool = tmp_path / "tools" / "chart_docs"
    tool.write_bytes((CHECKOUT / "tools" / "chart_docs").read_bytes())
    for chart in (CHECKOUT / "statecharts").glob("*.yaml"):
        (tmp_path / "statecharts" / chart.name).write_bytes(chart.read_bytes())

    def draw(*flags: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, tool, *flags], capture_output=True, text=True, check=False)

    assert draw("--check").returncode == 1
    assert draw().returncode == 0
    assert draw("--check").returncode == 0
    drawing = tmp_path / "statecharts" / "diagrams" / "task.mmd"
    drawing.write_text(drawing.read_text().replace("running --> dumping", "running --> uploaded"))
    told = draw("--check")
    assert (told.returncode, told.stdout.split()[1]) == (1, "statecharts/diagrams/task.mmd")
    assert draw("--chekc").returncode == 2
