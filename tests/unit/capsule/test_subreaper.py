"""A process adopts orphans because another one made it, and notices nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import AbstractContextManager

import pytest

from fsnap.capsule.subreaper import make_subreaper
from tests.unit.capsule.programs import line, program, tell

pytestmark = pytest.mark.process

TRACER = """
import ctypes, sys
PTRACE_SEIZE = 0x4206
assert ctypes.CDLL(None).ptrace(PTRACE_SEIZE, int(sys.argv[1]), None, None) == 0
print("traces", flush=True)
sys.stdin.read()
"""
TARGET = """
import ctypes, signal, sys, threading, time
PR_GET_CHILD_SUBREAPER = 37
caught = []
signal.signal(signal.SIGUSR1, lambda number, frame: caught.append(number))
def adopts():
    found = ctypes.c_int(-1)
    ctypes.CDLL(None).prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(found), 0, 0, 0)
    return found.value
print("adopts", adopts(), flush=True)
{wait}
print("adopts", adopts(), "caught", len(caught), flush=True)
"""
READING = "assert sys.stdin.readline() == 'go on\\n'"
COMPUTING = "end = time.monotonic() + 1; total = sum(1 for _ in iter(lambda: time.monotonic() < end, False))"
SLEEPING = "begin = time.monotonic(); time.sleep(1); assert time.monotonic() - begin >= 1"


def target(wait: str) -> AbstractContextManager[subprocess.Popen[str]]:
    return program(TARGET.format(wait=wait))


@pytest.mark.parametrize("wait", [READING, COMPUTING, SLEEPING], ids=["reading", "computing", "sleeping"])
def test_it_goes_on_as_before(wait: str) -> None:
    with target(wait) as process:
        assert line(process) == "adopts 0"
        make_subreaper(process.pid)
        tell(process, "go on")
        assert line(process) == "adopts 1 caught 0"
        assert process.wait() == 0


def test_signals_that_come_meanwhile_are_delivered() -> None:
    with target(READING) as process:
        assert line(process) == "adopts 0"
        for _ in range(50):
            process.send_signal(signal.SIGUSR1)
            make_subreaper(process.pid)
        tell(process, "go on")
        words = line(process).split()
        assert words[:2] == ["adopts", "1"]
        assert 1 <= int(words[3]) <= 50
        assert process.wait() == 0


def test_a_process_that_is_not_there() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    with pytest.raises(ProcessLookupError):
        make_subreaper(pid)


def test_a_process_that_another_one_traces() -> None:
    with target(READING) as process:
        assert line(process) == "adopts 0"
        with program(TRACER, process.pid) as tracer:
            assert line(tracer) == "traces"
            with pytest.raises(PermissionError):
                make_subreaper(process.pid)
