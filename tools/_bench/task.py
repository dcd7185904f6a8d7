"""The measured process: how it is built, and what it says."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from _bench.failure import BenchFailure

SOURCE = Path(__file__).with_name("workload.c")
PAGE_BYTES = 4096
PATIENCE_S = 300.0
LOOK_S = 0.005


def build(folder: Path) -> Path:
    """Compile the workload into *folder*."""
    program = folder / "workload"
    command = ["cc", "-O2", "-Wall", "-Wextra", "-o", str(program), str(SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchFailure(f"the workload does not compile:\n{done.stderr}")
    return program


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A pause as the process saw it, in seconds since 1970."""

    begin_s: float
    end_s: float


class Voice:
    """What the process says, read from a file that grows."""

    def __init__(self, spool: Path) -> None:
        self._spool = spool
        self.from_byte = 0
        """Where the part of interest begins; what was said before is left out."""

    def lines(self) -> list[str]:
        """Whole lines so far."""
        try:
            with self._spool.open("rb") as file:
                file.seek(self.from_byte)
                return file.read().decode().split("\n")[:-1]
        except FileNotFoundError:
            return []

    def mark(self) -> None:
        """Forget what was said until now."""
        self.from_byte = self._spool.stat().st_size if self._spool.exists() else 0

    def wait(self, word: str, alive: Callable[[], None], timeout_s: float = PATIENCE_S) -> list[str]:
        """The lines up to one that begins with *word*; *alive* raises when there will be none."""
        end_s = time.monotonic() + timeout_s
        while True:
            lines = self.lines()
            if any(line.split(" ", 1)[0] == word for line in lines):
                return lines
            alive()
            if time.monotonic() > end_s:
                raise BenchFailure(f"the process did not say {word!r} in {timeout_s:.0f} s: {lines[-3:]}")
            time.sleep(LOOK_S)

    def gaps(self) -> list[Gap]:
        """Every pause that it told."""
        words = [line.split() for line in self.lines()]
        return [
            Gap(begin_s=int(word[1]) / 1e9, end_s=int(word[2]) / 1e9) for word in words if word[0] == "gap"
        ]

    def wait_gap(self, after_s: float, alive: Callable[[], None]) -> Gap:
        """The first pause that ended after *after_s*, seconds since 1970."""
        end_s = time.monotonic() + PATIENCE_S
        while True:
            for gap in self.gaps():
                if gap.end_s > after_s:
                    return gap
            alive()
            if time.monotonic() > end_s:
                raise BenchFailure("the process was not frozen, or does not run again")
            time.sleep(LOOK_S)


def rewrite(pid: int, voice: Voice, *, scattered: bool, alive: Callable[[], None]) -> list[tuple[int, int]]:
    """Have 2 % of the pages rewritten; first page and count of each run of them."""
    voice.mark()
    os.kill(pid, signal.SIGUSR2 if scattered else signal.SIGUSR1)
    words = [line.split() for line in voice.wait("rewrote", alive)]
    return [(int(word[1]), int(word[2])) for word in words if word[0] == "page"]


def read_pages(pid: int, base: int, runs: list[tuple[int, int]]) -> bytes:
    """The content of those pages, each once, in order; *base* is what ``ready`` told."""
    pages = sorted({page for first, count in runs for page in range(first, first + count)})
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        return b"".join(os.pread(memory.fileno(), PAGE_BYTES, base + page * PAGE_BYTES) for page in pages)


def base_of(lines: list[str]) -> int:
    """Where the memory lies, from the line ``ready``."""
    return next(int(line.split()[1]) for line in lines if line.startswith("ready "))
