"""One run of the task on one machine, followed from outside, and the machine's end."""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

from _demo.nodes import WINDOW_S, Machine
from _demo.screen import GREEN, RED, Screen

LOOK_S = 0.1
PATIENCE_S = 900.0
"""For one run of a task of some 20 s: a machine may be slow, or busy with other things."""

STDERR_LINES = 12


class Failure(RuntimeError):
    """The demonstration can't go on; the message is for the user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a whole execution of the task gave, by one run or by several."""

    stdout: bytes
    file_bytes: int
    file_sha256: str
    took_s: float

    @property
    def stdout_sha256(self) -> str:
        return hashlib.sha256(self.stdout).hexdigest()


class Run:
    """A process on *machine* and what it has printed."""

    def __init__(self, machine: Machine, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self.machine = machine
        self.process = process
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.lines: list[str] = []
        """Whole lines of stdout, as of the beginning of this look: so the journal, which is read after that,
        has what led to them."""
        self._readers = [
            threading.Thread(target=_read, args=pair, daemon=True)
            for pair in ((process.stdout, self.stdout), (process.stderr, self.stderr))
        ]
        for reader in self._readers:
            reader.start()

    def follow(self, look: Callable[[Run], None]) -> int:
        """Call *look* now and again until the process ends, and once after; its exit code."""
        end_s = time.monotonic() + PATIENCE_S
        while self.process.poll() is None:
            self._look(look)
            if time.monotonic() > end_s:
                raise Failure(f"{self.machine.name}: no end after {PATIENCE_S:.0f} s")
            time.sleep(LOOK_S)
        for reader in self._readers:
            reader.join()
        self._look(look)
        return self.process.returncode

    def _look(self, look: Callable[[Run], None]) -> None:
        self.lines = self.stdout.decode(errors="replace").split("\n")[:-1]
        look(self)

    def expect(self, code: int, wanted: int) -> None:
        """Raise :class:`Failure`, with what was said on stderr, unless it ended as it should."""
        if code != wanted:
            said = self.stderr.decode(errors="replace").splitlines()[-STDERR_LINES:]
            told = "".join(f"\n    {line}" for line in said)
            raise Failure(f"{self.machine.name}: ended with {code}, not with {wanted}{told}")


def _read(pipe: IO[bytes], into: bytearray) -> None:
    with pipe:
        while data := os.read(pipe.fileno(), 1 << 16):
            into += data


class Reclaim:
    """Takes a machine away once its task has printed *moment*."""

    def __init__(self, machine: Machine, moment: str, screen: Screen) -> None:
        self._machine = machine
        self._moment = moment
        self._screen = screen
        self._deadline_s: float | None = None

    @property
    def announced(self) -> bool:
        """The notice has been given."""
        return self._deadline_s is not None

    def look(self, run: Run) -> None:
        """Give the notice when it is time, and end the machine at its deadline whatever happens there."""
        if self._deadline_s is None:
            if any(line.startswith(self._moment) for line in run.lines):
                self._deadline_s = time.monotonic() + self._machine.notice()
        elif time.monotonic() > self._deadline_s:
            self._machine.destroy()
            self._screen.event(self._machine.name, "DESTROYED at its deadline", RED)
            raise Failure(f"{self._machine.name}: fsnap did not commit within {WINDOW_S} s on this machine")


class FirstLine:
    """Tells the first line that a task prints on a machine: the proof that it runs there."""

    def __init__(self, screen: Screen, verb: str) -> None:
        self._screen = screen
        self._verb = verb
        self._told = False

    def look(self, run: Run) -> None:
        if not self._told and run.lines:
            self._told = True
            self._screen.event(run.machine.name, f"{self._verb} {' '.join(run.lines[0].split()[:3])}", GREEN)
