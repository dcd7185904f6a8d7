"""The task that the nodes hand on: three processes, pipes, files, ``/tmp`` and ``/dev/shm``.

Run as a program.  What it prints and leaves in the current directory follows from the
environment alone: ``STEPS`` steps (50) of at least ``PACE`` seconds, ``BALLAST_MIB`` of memory that does not
compress, the exit code ``EXIT``.  With ``BEATS``, a directory, it says some fifty times a second
to the file there that has the host's name what the time is.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import random
import subprocess
import time
from pathlib import Path

STEPS = int(os.environ.get("STEPS", "50"))
PACE_S = float(os.environ.get("PACE", "0.1"))
BALLAST_MIB = int(os.environ.get("BALLAST_MIB", "0"))
BEATS = os.environ.get("BEATS", "")
TABLE = Path("/dev/shm/relay-table")
SPILL = Path("/tmp/relay-spill.txt")
TABLE_BYTES = 256 * 1024
BEAT_S = 0.02

SPILLER = f'while read -r line; do echo "spilled $line" >>{SPILL}; wc -l <{SPILL}; done'


class Table:
    """A child process that changes a table in shared memory at each question."""

    def __init__(self) -> None:
        with TABLE.open("wb") as file:
            file.truncate(TABLE_BYTES)
        question, self._ask = os.pipe()
        self._answer, answer = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._ask)
            os.close(self._answer)
            self._serve(question, answer)
            os._exit(0)
        os.close(question)
        os.close(answer)

    def _serve(self, question: int, answer: int) -> None:
        with TABLE.open("r+b") as file:
            table = mmap.mmap(file.fileno(), TABLE_BYTES)
        while line := os.read(question, 8):
            step = int(line)
            dice = random.Random(step)
            for _ in range(200):
                at = dice.randrange(TABLE_BYTES)
                table[at] = (table[at] + step) % 256
            os.write(answer, hashlib.sha256(table).hexdigest()[:16].encode())

    def ask(self, step: int) -> str:
        os.write(self._ask, b"%08d" % step)
        return os.read(self._answer, 16).decode()

    def end(self) -> None:
        os.close(self._ask)
        os.waitpid(self._pid, 0)


def pause(seconds: float) -> None:
    """Sleep, and leave beats on the way."""
    end = time.monotonic() + seconds
    while BEATS and time.monotonic() < end:
        with Path(BEATS, os.uname().nodename).open("a") as file:
            file.write(f"{time.time_ns()}\n")
        time.sleep(BEAT_S)
    time.sleep(max(0.0, end - time.monotonic()))


def write_files(step: int, digest: str) -> None:
    """One file that is replaced, and some that come and go."""
    Path("now.txt.new").write_text(f"{step} {digest}\n")
    Path("now.txt.new").rename("now.txt")
    Path("parts").mkdir(exist_ok=True)
    Path("parts", f"{step // 3:04d}.txt").write_text(f"{digest}\n" * (step % 3 + 1))
    if step >= 15 and step % 3 == 0:
        Path("parts", f"{step // 3 - 5:04d}.txt").unlink()


def main() -> int:
    dice = random.Random(7)
    ballast = b"".join(dice.randbytes(1 << 20) for _ in range(BALLAST_MIB))
    ballast_digest = hashlib.sha256(ballast).hexdigest()
    table = Table()
    spiller = subprocess.Popen(
        ["sh", "-c", SPILLER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert spiller.stdin is not None
    assert spiller.stdout is not None
    digest = hashlib.sha256(b"relay")
    with open("trace.txt", "a", encoding="ascii", buffering=1) as trace:
        for step in range(STEPS):
            spiller.stdin.write(f"{step}\n")
            told = f"{table.ask(step)} {spiller.stdout.readline().strip()}"
            digest.update(told.encode())
            trace.write(f"{step} {told}\n")
            write_files(step, digest.hexdigest())
            print(f"step {step} {digest.hexdigest()[:16]}", flush=True)
            if step % 10 == 0:
                os.write(2, f"at {step}\n".encode())
            pause(PACE_S)
    table.end()
    spiller.stdin.close()
    spiller.wait()
    assert hashlib.sha256(ballast).hexdigest() == ballast_digest
    for path in (TABLE, SPILL):
        print(path, hashlib.sha256(path.read_bytes()).hexdigest(), flush=True)
    print("ends", flush=True)
    return int(os.environ.get("EXIT", "0"))


if __name__ == "__main__":
    raise SystemExit(main())
