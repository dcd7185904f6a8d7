"""A task that is reclaimed again and again, by the command lines that a user would type.

A *node* here is a fresh ``FSNAP_HOME`` and a state dir that has been emptied (and got its
inputs back).  The reference is the same command at the same paths without fsnap; there it
runs with ``PACE=0``, which makes the workloads skip their pauses and nothing else.  So
does the file that ``HURRY`` names, which the last attempt finds.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.e2e import folder, leftovers

FSNAP = Path(sys.executable).with_name("fsnap")
WORKLOADS = Path(__file__).with_name("workloads")
CHECKPOINTED = 177
LIMIT_S = 60.0
"""Longest wait for anything: a loaded machine is slow, a hung one is a failure."""

WITH_LOOPBACK = ("sh", "-c", 'ip link set lo up && exec "$@"', "sh")
"""CRIU's look at the kernel needs it, and a new network namespace has it down."""

OWN_NETWORK = ("unshare", "--net", *WITH_LOOPBACK)
"""Put before fsnap, for a node that is lost: CRIU's network lock goes with it."""

NEW_NODE = (
    *("unshare", "--pid", "--mount", "--net", "--fork", "--mount-proc", "--kill-child"),
    *WITH_LOOPBACK,
)
"""A PID, mount and network namespace of its own, where fsnap is PID 1."""

CHUNK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What is visible of a run from outside."""

    exit_code: int
    stdout: bytes
    stderr: bytes
    files: dict[str, folder.Entry]


class Reader:
    """Reads one pipe; slowly with *bytes_per_s*, and no further than *head_bytes*."""

    def __init__(
        self, pipe: IO[bytes], bytes_per_s: float | None = None, head_bytes: int | None = None
    ) -> None:
        self._pipe = pipe
        self._head_bytes = head_bytes
        self._bytes_per_s = bytes_per_s
        self.data = bytearray()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while chunk := os.read(self._pipe.fileno(), CHUNK_BYTES):
            self.data += chunk
            if self._bytes_per_s is not None:
                time.sleep(len(chunk) / self._bytes_per_s)
            if self._head_bytes is not None and len(self.data) >= self._head_bytes:
                self._pipe.close()
                return

    def hurry(self) -> None:
        """Be slow no more."""
        self._bytes_per_s = None

    def finish(self) -> bytes:
        self._thread.join()
        self._pipe.close()
        return bytes(self.data)


class Attempt:
    """One ``fsnap run``, started and not yet waited for."""

    def __init__(
        self, scenario: Scenario, process: subprocess.Popen[bytes], stdout: Reader, stderr: Reader
    ) -> None:
        self._scenario = scenario
        self.process = process
        self.stdout = stdout
        self.stderr = stderr
        self.exit_code = -1

    def wait(self, what: str, ready: Callable[[], bool]) -> None:
        """Wait until *ready*; the attempt must not end before."""
        end = time.monotonic() + LIMIT_S
        while not ready():
            ended = self.process.poll() is not None
            if ready():
                return
            assert not ended, f"ended with {self.process.returncode} before {what}: {self.told()}"
            assert time.monotonic() < end, f"no {what} after {LIMIT_S} s: {self.told()}"
            time.sleep(0.01)

    def wait_stdout(self, text: str) -> None:
        """Wait for *text* in what this attempt printed."""
        self.wait(f"{text!r} on stdout", lambda: text.encode() in self.stdout.data)

    def wait_stderr(self, text: str) -> None:
        """Wait for *text* in stderr, fsnap's own log included."""
        self.wait(f"{text!r} on stderr", lambda: text.encode() in self.stderr.data)

    def wait_file(self, path: Path, text: str) -> None:
        """Wait for *text* in the file *path*."""
        self.wait(f"{text!r} in {path}", lambda: path.exists() and text in path.read_text(errors="replace"))

    def told(self) -> str:
        """The end of what it printed, for messages."""
        stdout, stderr = bytes(self.stdout.data[-500:]), bytes(self.stderr.data[-3000:])
        return f"stdout …{stdout!r}, stderr …{stderr.decode(errors='replace')}"

    def finish(self, expected: int | None = None) -> int:
        """Wait for its end; the exit code."""
        try:
            self.exit_code = self.process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"does not end: {self.told()}") from None
        self.stdout.hurry()
        self.stdout.finish()
        self.stderr.finish()
        if expected is not None:
            assert self.exit_code == expected, f"ended with {self.exit_code}, not {expected}: {self.told()}"
        return self.exit_code

    @property
    def log(self) -> str:
        """fsnap's own lines."""
        lines = bytes(self.stderr.data).decode(errors="replace").splitlines()
        return "\n".join(line for line in lines if line.startswith("fsnap"))

    @property
    def task_stderr(self) -> bytes:
        """The task's lines."""
        lines = bytes(self.stderr.data).splitlines(keepends=True)
        return b"".join(line for line in lines if not line.startswith(b"fsnap"))


class Scenario:
    """One task, its store, its state dir, and the nodes that it visits."""

    def __init__(self, root: Path, command: Sequence[str | Path], *, cwd: Path | None = None) -> None:
        """Everything is made below *root*, which must be the test's own."""
        self.root = root
        self.state = self._folder("D")
        self.store = root / "S"
        self.notice_path = root / "N"
        self.command = [str(word) for word in command]
        self.cwd = cwd or self.state
        self.task_id = "T"
        self.hurry = root / "hurry"
        self.env: dict[str, str] = {"HURRY": str(self.hurry)}
        self.flags: list[str] = ["--after-commit", "exit"]
        self.node: tuple[str, ...] = ()
        self.put_inputs: Callable[[], None] = lambda: None
        """Puts into an emptied state dir what every node has there before the task starts."""
        self.attempts: list[Attempt] = []
        self._homes = itertools.count(1)
        self._notices = itertools.count(1)
        self._mounts = leftovers.mounts()

    def _folder(self, name: str) -> Path:
        path = self.root / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    # -- the reference

    def baseline(self, cleanup: Callable[[], None] = lambda: None, pace: str = "0") -> Result:
        """Run the command without fsnap, then forget what it did."""
        folder.wipe(self.state)
        self.put_inputs()
        run = subprocess.run(
            self.command,
            cwd=self.cwd,
            env={**os.environ, **self.env, "PACE": pace},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LIMIT_S,
            check=False,
        )
        files = folder.describe(self.state)
        cleanup()
        code = run.returncode if run.returncode >= 0 else 128 - run.returncode
        return Result(exit_code=code, stdout=run.stdout, stderr=run.stderr, files=files)

    # -- attempts

    def fresh_node(self) -> None:
        """The next attempt is on another machine: empty home, emptied state dir, no notice."""
        folder.wipe(self.state)
        self.put_inputs()
        self.notice_path.unlink(missing_ok=True)
        self.env["FSNAP_HOME"] = str(self._folder(f"home-{next(self._homes)}"))

    def start(
        self,
        *flags: str,
        fresh: bool = True,
        stdout_bytes_per_s: float | None = None,
        head_bytes: int | None = None,
        command: Sequence[str] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Attempt:
        """Start the task, or go on with it, on a fresh node unless told otherwise.

        *env* is added to its environment.
        """
        if fresh:
            self.fresh_node()
        line = [*self.node, str(FSNAP), "run", "--task", self.task_id, "--store", f"file://{self.store}"]
        line += ["--state-dir", str(self.state), "--provider", f"file:{self.notice_path}"]
        process = subprocess.Popen(
            [*line, *self.flags, *flags, "--", *(command or self.command)],
            cwd=self.cwd,
            env={"PACE": "0.1", **os.environ, **self.env, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        attempt = Attempt(
            self, process, Reader(process.stdout, stdout_bytes_per_s, head_bytes), Reader(process.stderr)
        )
        self.attempts.append(attempt)
        return attempt

    def give_notice(self, window_s: float | None = None) -> None:
        """Say that the node goes; each time it is another notice."""
        number = next(self._notices)
        content = {"window_s": 120.0 + number / 1000 if window_s is None else window_s}
        fresh = self.notice_path.with_name(f"N.{number}")
        fresh.write_text(json.dumps(content))
        fresh.rename(self.notice_path)

    def reclaim(self, ready: Callable[[Attempt], None], *flags: str) -> Attempt:
        """One attempt on a fresh node that is reclaimed as soon as *ready* returns."""
        attempt = self.start(*flags)
        ready(attempt)
        self.give_notice()
        attempt.finish(CHECKPOINTED)
        self.assert_clean()
        return attempt

    def finish(self, *flags: str, expected: int | None = 0, fresh: bool = True) -> Attempt:
        """The last attempt, to the task's own end."""
        self.hurry.touch()
        attempt = self.start(*flags, fresh=fresh)
        attempt.finish(expected)
        self.assert_clean()
        return attempt

    def result(self) -> Result:
        """The attempts' outputs joined, the last one's exit code, and the state dir as it is."""
        return Result(
            exit_code=self.attempts[-1].exit_code,
            stdout=b"".join(bytes(attempt.stdout.data) for attempt in self.attempts),
            stderr=b"".join(attempt.task_stderr for attempt in self.attempts),
            files=folder.describe(self.state),
        )

    def run_through(self, *moments: Callable[[Attempt], None], expected: int | None = 0) -> Result:
        """Reclaimed once at each of *moments*, then run to its end."""
        for ready in moments:
            self.reclaim(ready)
        self.finish(expected=expected)
        return self.result()

    def lose_node(self, attempt: Attempt) -> None:
        """The machine is gone without a word: everything of it is killed at once."""
        leftovers.kill_processes_of(self.root)
        attempt.finish()
        shutil.rmtree(self.env["FSNAP_HOME"])

    def assert_clean(self) -> None:
        """Nothing of the attempts is left on this machine."""
        leftovers.assert_clean(self.root, self._mounts)

    def close(self) -> None:
        """End whatever a failed test has left."""
        for attempt in self.attempts:
            if attempt.process.poll() is None:
                attempt.process.send_signal(signal.SIGKILL)
        leftovers.kill_processes_of(self.root)


def assert_same(actual: Result, expected: Result) -> None:
    """Exit code, output and files are those of the uninterrupted run."""
    assert actual.exit_code == expected.exit_code
    assert_same_bytes(actual.stdout, expected.stdout, "stdout")
    assert_same_bytes(actual.stderr, expected.stderr, "stderr")
    assert actual.files == expected.files


def assert_same_bytes(actual: bytes, expected: bytes, what: str) -> None:
    """Equal; a difference is told by its place, not by megabytes."""
    if actual == expected:
        return
    pairs = zip(actual, expected, strict=False)
    at = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(actual), len(expected)))
    around = slice(max(0, at - 60), at + 60)
    raise AssertionError(
        f"{what} differs at byte {at} ({len(actual)} bytes, expected {len(expected)}): "
        f"{actual[around]!r} instead of {expected[around]!r}"
    )


def printed(text: str) -> Callable[[Attempt], None]:
    """The moment at which *text* was on the attempt's stdout."""
    return lambda attempt: attempt.wait_stdout(text)


def damage(path: Path) -> None:
    """Damage an object in its middle: some bytes, since one bit of a compressed chunk may mean nothing.

    In place, as a disk does: a file that is written anew is empty for a moment.
    """
    path.chmod(0o600)
    with path.open("r+b") as file:
        middle = path.stat().st_size // 2
        file.seek(middle)
        harmed = bytes(byte ^ 0x5A for byte in file.read(16))
        file.seek(middle)
        file.write(harmed)
