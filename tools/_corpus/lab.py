"""Real tasks on nodes that come and go: what a scenario of the corpus needs.

A node is a PID, mount and UTS namespace with its own host name, boot id and
``FSNAP_HOME``; the state dir is emptied when a task moves.  Needs root and CRIU.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

FSNAP = Path(sys.executable).with_name("fsnap")
LIMIT_S = 60.0

NODE = """
hostname "$1"; mount --bind "$2" /proc/sys/kernel/random/boot_id; shift 2; exec "$@"
"""
UNSHARE = ("unshare", "--pid", "--mount", "--uts", "--fork", "--mount-proc", "--kill-child")

COUNT = """
import sys, time
steps, end, mib = (int(word) for word in sys.argv[1:])
heap = [bytearray(open("/dev/urandom", "rb").read(1 << 20)) for _ in range(mib)]
for step in range(steps):
    print("step", step, flush=True)
    time.sleep(0.1)
sys.exit(end)
"""

NAMESPACE = """
import ctypes
ctypes.CDLL(None).unshare(0x00020000)  # a mount namespace of its own, which no dump can hold
"""


class Run:
    """One ``fsnap run``, started and not yet waited for."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self.process = process
        self._output = output

    def said(self, text: str) -> None:
        """Wait until *text* was printed, by the task or by fsnap."""
        self._until(lambda: text in self._output.read_text(errors="replace"), f"{text!r}")

    def ends(self, expected: int) -> None:
        """Wait for its end, which has to be *expected*."""
        self._until(lambda: self.process.poll() is not None, "end")
        if self.process.returncode != expected:
            raise RuntimeError(
                f"ended with {self.process.returncode}, not {expected}: {self._output.read_text()[-3000:]}"
            )

    def signal(self, number: int) -> None:
        """Send *number* to fsnap itself, below the program that made its namespaces."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        os.kill(int(children[0]), number)

    def vanish(self) -> None:
        """The node is gone, with all that is on it."""
        self.process.kill()
        self.process.wait(LIMIT_S)

    def _until(self, ready: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + LIMIT_S
        while not ready():
            if time.monotonic() > end or (what != "end" and self.process.poll() is not None and not ready()):
                raise RuntimeError(f"no {what}: {self._output.read_text()[-3000:]}")
            time.sleep(0.02)


class Lab:
    """One task below *root*."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = root / "data"
        self.notice_path = root / "notice"
        self.inputs: dict[str, str] = {}
        self.flags: list[str] = ["--after-commit", "exit"]
        self._nodes = 0
        self._notices = 0
        self._runs: list[Run] = []
        self.state.mkdir(parents=True)
        (root / "task.py").write_text(COUNT)
        (root / "namespace.py").write_text(NAMESPACE + COUNT)
        self.task()

    @property
    def store(self) -> str:
        """The store's URL."""
        return f"file://{self.root / 'store'}"

    def task(self, *, steps: int = 12, end: int = 0, mib: int = 1, script: str = "task.py") -> None:
        """What it does: count to *steps*, ten a second, with *mib* MiB of heap, then exit with *end*."""
        self.command = ["python3", str(self.root / script), str(steps), str(end), str(mib)]

    def start(self, *flags: str, same_node: bool = False) -> Run:
        """Start the task, or go on with it, on a new node unless told otherwise."""
        if not same_node:
            self._nodes += 1
            shutil.rmtree(self.state)
            self.state.mkdir()
            for name, text in self.inputs.items():
                (self.state / name).write_text(text)
        name = f"node-{chr(ord('a') + self._nodes - 1)}"
        home = self.root / name
        home.mkdir(exist_ok=True)
        boot = home / "boot_id"
        boot.write_text(f"{uuid.uuid5(uuid.NAMESPACE_DNS, name)}\n")
        line = [str(FSNAP), "run", "--task", "task", "--store", self.store, "--state-dir", str(self.state)]
        line += [
            "--provider",
            f"file:{self.notice_path}",
            "--verbose",
            *self.flags,
            *flags,
            "--",
            *self.command,
        ]
        return self._spawn([*UNSHARE, "sh", "-ec", NODE, "node", name, str(boot), *line], home)

    def _spawn(self, line: Sequence[str], home: Path) -> Run:
        output = self.root / f"output-{len(self._runs)}"
        with output.open("wb") as file:
            process = subprocess.Popen(
                line,
                cwd=self.state,
                env={**os.environ, "FSNAP_HOME": str(home)},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        run = Run(process, output)
        self._runs.append(run)
        return run

    def notice(self, window_s: float = 120.0) -> None:
        """The node goes; each time it is another notice."""
        self._notices += 1
        fresh = self.root / "notice.new"
        fresh.write_text(f'{{"window_s": {window_s}, "n": {self._notices}}}')
        fresh.rename(self.notice_path)

    def take_back(self) -> None:
        """The node stays."""
        self.notice_path.unlink(missing_ok=True)

    def reclaim(self, run: Run, window_s: float = 120.0) -> None:
        """A notice, and the checkpoint that follows."""
        self.notice(window_s)
        run.ends(177)
        self.take_back()

    def snapshots(self) -> list[str]:
        """Ids of those whose manifest is in the store, oldest first."""
        found = (self.root / "store").glob("tasks/task/snapshots/*/manifest.json")
        return sorted(path.parent.name for path in found)

    def until_snapshots(self, count: int) -> None:
        """Wait for *count* of them."""
        end = time.monotonic() + LIMIT_S
        while len(self.snapshots()) < count:
            if time.monotonic() > end:
                raise RuntimeError(f"no {count} snapshots")
            time.sleep(0.002)

    def packs(self) -> set[Path]:
        """All packs in the store."""
        return {path for path in (self.root / "store/tasks/task/packs").rglob("*") if path.is_file()}

    def close(self) -> None:
        """End what a failed scenario has left."""
        for run in self._runs:
            if run.process.poll() is None:
                run.process.send_signal(signal.SIGKILL)
                run.process.wait(LIMIT_S)
