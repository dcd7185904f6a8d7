"""``tools/demo``: both outputs are the same, and whatever happens it leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e import leftovers

CHECKOUT = Path(__file__).resolve().parent.parent
MAIN = CHECKOUT / "tools" / "_demo" / "main.py"
"""What ``tools/demo`` runs once ``tools/setup`` has made everything ready."""

WHOLE_S = 800.0
START_S = 120.0


def start(room: Path, *flags: str) -> subprocess.Popen[str]:
    """The demonstration, with *room* to make its directory in."""
    return subprocess.Popen(
        [sys.executable, "-B", MAIN, *flags],
        env={**os.environ, "TMPDIR": str(room)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def assert_nothing_is_left(room: Path) -> None:
    end = time.monotonic() + leftovers.PATIENCE_S
    while (left := leftovers.processes_of(room)) and time.monotonic() < end:
        time.sleep(0.02)
    assert not left
    assert not list(room.iterdir())
    assert not [point for point in leftovers.mounts() if str(room) in point]


@pytest.mark.criu
@pytest.mark.slow
@pytest.mark.timeout(WHOLE_S + 60)
@pytest.mark.parametrize("flags", [(), ("--s3",), ("--simple",)], ids=["rig", "s3", "simple"])
def test_both_outputs_are_the_same(tmp_path: Path, flags: tuple[str, ...]) -> None:
    demo = start(tmp_path, *flags)
    told, _ = demo.communicate(timeout=WHOLE_S)
    assert demo.returncode == 0, told
    for word, count in (
        ("NOTICE", 2),
        ("committed: ", 2),
        ("DESTROYED", 2),
        ("restored: ", 2),
        (" same, ", 2),
    ):
        assert told.count(word) == count, told
    seconds = [float(found) for found in re.findall(r"^ *([0-9.]+) s  node-[abc]", told, re.MULTILINE)]
    assert seconds == sorted(seconds), told
    assert_nothing_is_left(tmp_path)


@pytest.mark.criu
@pytest.mark.parametrize("flags", [(), ("--simple",)], ids=["rig", "simple"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_is_interrupted(tmp_path: Path, flags: tuple[str, ...], number: signal.Signals) -> None:
    demo = start(tmp_path, *flags)
    assert demo.stdout is not None
    told = ""
    while "the pipeline starts" not in told:
        line = demo.stdout.readline()
        assert line, told
        told += line
    time.sleep(0.5)
    os.killpg(demo.pid, number)
    rest, _ = demo.communicate(timeout=START_S)
    assert demo.returncode == 128 + number, told + rest
    assert "everything that it made is gone" in rest
    assert_nothing_is_left(tmp_path)


@pytest.mark.process
def test_an_unknown_argument_is_refused_before_anything_is_made() -> None:
    run = subprocess.run(
        [CHECKOUT / "tools" / "demo", "--s4"], capture_output=True, text=True, timeout=START_S, check=False
    )
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith("demo: unknown argument '--s4'")
