"""Exit codes and lines of the command line itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

import fsnap
from fsnap import errors
from fsnap.cli import main as cli
from fsnap.cli.configfile import read_config
from fsnap.cli.main import main, one_line
from fsnap.errors import FsnapError, UsageError

ERRORS = sorted(
    {
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, FsnapError) and kind is not FsnapError
    },
    key=lambda kind: kind.__name__,
)


def called(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    try:
        code = main(words)
    except SystemExit as end:
        code = int(end.code or 0)
    out = capsys.readouterr()
    return code, out.out, out.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "required: VERB"),
        (("fly",), "invalid choice: 'fly'"),
        (("--bogus",), "fsnap"),
        (("run", "--task"), "expected one argument"),
        (("run", "--after-commit", "x"), "invalid choice: 'x'"),
        (("run", "--attempt", "x"), "invalid int value: 'x'"),
        (("status", "a", "b"), "unrecognized arguments: b"),
    ],
)
def test_one_line_and_two(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], says: str) -> None:
    code, out, err = called(capsys, *words)
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("fsnap: ")
    assert says in line
    assert "--help" in line


def test_version_goes_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert called(capsys, "--version") == (0, f"fsnap {fsnap.__version__}\n", "")


def test_help_names_every_flag_of_run(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = called(capsys, "run", "--help")
    assert code == 0
    for flag in ("--task", "--attempt", "--lease", "--after-commit", "--result-file", "--unprotected-ok"):
        assert flag in out


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_ends_with_its_code_and_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kind: type[FsnapError]
) -> None:
    def fail(arguments: object) -> NoReturn:
        raise kind("what\n happened  here")

    monkeypatch.setattr("fsnap.cli.run.run", fail)
    code, out, err = called(capsys, "run", "--task", "T", "--", "true")
    assert code == kind.exit_code
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("fsnap: what happened here")
    assert line.endswith(kind.hint)


def test_error_codes_are_unique() -> None:
    codes = [kind.code for kind in ERRORS]
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize(
    ("message", "hint", "line"),
    [
        ("it broke", "Mend it.", "it broke. Mend it."),
        ("it broke.", "Mend it.", "it broke. Mend it."),
        ("did it break?", "Look.", "did it break? Look."),
        ("it broke", "", "it broke"),
    ],
)
def test_one_line(message: str, hint: str, line: str) -> None:
    assert one_line(FsnapError(message, hint=hint)) == line


def test_interrupted(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(arguments: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr("fsnap.cli.run.run", interrupted)
    assert called(capsys, "run", "--task", "T", "--", "true") == (130, "", "")


def test_missing_streams_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    cli._complete_streams()
    assert sys.stdout.fileno() == 1
    assert sys.stderr.fileno() == 2
    for fd in range(3):
        os.fstat(fd)


# -- the configuration file

NAMES = ("task", "lease", "state_dir", "fresh", "after_commit")


def configured(path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> dict[str, object]:
    path.write_text(text)
    monkeypatch.setenv("FSNAP_CONFIG", str(path))
    return read_config(NAMES)


def test_values_come_as_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = 'task = "T"\nlease = 3.5\nfresh = true\nstate-dir = ["a", "b"]\n'
    found = configured(tmp_path / "c.toml", monkeypatch, text)
    assert found == {"task": "T", "lease": "3.5", "fresh": True, "state-dir": ["a", "b"]}


@pytest.mark.parametrize(
    "text",
    [
        "lease = [3]",
        "lease = true",
        "state-dir = [3]",
        "task = ['a']",
        "unknown = 1",
        "state_dir = 'a'",
        "[run]\nlease = 3",
        "lease = 2020-01-01",
        "lease",
    ],
)
def test_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    with pytest.raises(UsageError, match=r"c\.toml"):
        configured(tmp_path / "c.toml", monkeypatch, text)


def test_no_file_is_no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FSNAP_CONFIG", raising=False)
    monkeypatch.setattr("fsnap.cli.configfile.CONFIG_PATH", str(tmp_path / "none.toml"))
    assert read_config(NAMES) == {}


@pytest.mark.process
def test_a_thread_that_was_given_up_does_not_change_the_exit_code() -> None:
    program = """
import sys, threading
from fsnap.cli import main as cli
import numpy
def busy():
    data = numpy.arange(1 << 16)
    while True:
        numpy.sort(data)
def work(words):
    for _ in range(4):
        threading.Thread(target=busy, daemon=True).start()
    print("out", end="")
    return 178
cli._main = work
sys.argv = ["fsnap", "status"]
sys.exit(cli.main())
"""
    for _ in range(3):
        run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert (run.returncode, run.stdout, run.stderr) == (178, "out", "")
