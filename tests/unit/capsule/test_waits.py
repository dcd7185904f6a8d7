"""Waits that a tracer has interrupted go on when it lets its threads go."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from fsnap.capsule import waits
from fsnap.capsule.waits import resume_waits
from tests.unit.capsule.programs import line, program, tell

pytestmark = pytest.mark.process

TARGET = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
print("waits", flush=True)
answer = libc.poll(None, 0, 2000)
print(answer, ctypes.get_errno() if answer < 0 else 0, flush=True)
"""
TRACER = """
import ctypes, os, struct, sys
from fsnap.capsule import tracing
pid, taken = int(sys.argv[1]), int(sys.argv[2])
tracing._ptrace(tracing._SEIZE, pid)
tracing._ptrace(tracing._INTERRUPT, pid)
tracing._wait_for(pid, tracing._EVENT_STOP, [])
registers = tracing._registers(pid)
assert registers[tracing.ORIG_RAX] == 7, "not in poll"
if taken:
    registers[tracing.RAX] = taken % (1 << 64)
    tracing._set_registers(pid, registers)
print("holds", flush=True)
sys.stdin.readline()
tracing._ptrace(tracing._DETACH, pid)
"""
EINTR, READY = -4, 3


def wait_in_poll(target: subprocess.Popen[str]) -> None:
    assert line(target) == "waits"
    while not Path(f"/proc/{target.pid}/syscall").read_text().startswith("7 "):
        time.sleep(0.005)


def held(target: subprocess.Popen[str], taken: int, *, resume: bool) -> tuple[int, str, float]:
    """Held by a tracer like CRIU, which makes *taken* of the call: threads resumed, its end, seconds."""
    wait_in_poll(target)
    with program(TRACER, target.pid, taken) as tracer:
        assert line(tracer) == "holds"
        resumed = resume_waits(tracer.pid) if resume else 0
        tell(tracer, "go")
        begin = time.monotonic()
        assert tracer.wait() == 0
        said = line(target)
    return resumed, said, time.monotonic() - begin


def test_a_wait_goes_on() -> None:
    with program(TARGET) as target:
        resumed, said, took_s = held(target, EINTR, resume=True)
    assert (resumed, said) == (1, "0 0")
    assert took_s > 1.5, "it waits its time"


def test_without_that_it_would_not() -> None:
    with program(TARGET) as target:
        assert held(target, EINTR, resume=False)[:2] == (0, "-1 4")


def test_a_call_that_has_ended_is_not_made_again() -> None:
    with program(TARGET) as target:
        assert held(target, READY, resume=True)[:2] == (0, "3 0")


def test_what_takes_too_long_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waits, "LIMIT_S", 0.0)
    with program(TARGET) as target:
        assert held(target, EINTR, resume=True)[:2] == (0, "-1 4")


def test_threads_of_another_tracer_are_not_touched() -> None:
    with program(TARGET) as target, program("import sys; sys.stdin.readline()") as other:
        wait_in_poll(target)
        assert resume_waits(other.pid) == 0
        with program(TRACER, target.pid, EINTR) as tracer:
            assert line(tracer) == "holds"
            assert resume_waits(other.pid) == 0
