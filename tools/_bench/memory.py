"""What the agent takes of the machine's memory: its own, its helpers', and what it stages in tmpfs.

The capsule's init and what runs in the capsule are not counted; nor is the page cache,
which the kernel takes back when it needs it.
"""

from __future__ import annotations

import threading
from pathlib import Path

from fsnap.capsule.mounts import fstype_of, read_mounts

LOOK_S = 0.02
IN_MEMORY = ("tmpfs", "ramfs")
KIB = 1024
BLOCK_BYTES = 512
RESET_PEAK = "5"
"""Written to ``clear_refs``: the peak is the present size again (proc(5))."""


class MemoryPeak:
    """Looks at process *pid* while it works."""

    def __init__(self, pid: int, home: Path) -> None:
        self._pid = pid
        self._home = home
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.idle_bytes = 0
        self.peak_bytes = 0

    def begin(self, idle_bytes: int | None = None) -> None:
        """The agent is idle now: what it has counts as nothing; or *idle_bytes*, if it is not idle."""
        if idle_bytes is None:
            Path(f"/proc/{self._pid}/clear_refs").write_text(RESET_PEAK)
        self.idle_bytes = self._look("VmRSS") if idle_bytes is None else idle_bytes
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    @property
    def above_idle_bytes(self) -> int:
        """The peak above the idle agent."""
        return max(0, self.peak_bytes - self.idle_bytes)

    def _run(self) -> None:
        while not self._stop.wait(LOOK_S):
            self.peak_bytes = max(self.peak_bytes, self._look("VmHWM"))

    def _look(self, field: str) -> int:
        own = _status(self._pid, field)
        helpers = sum(_status(pid, "VmRSS") for pid in self._helpers(self._pid))
        return own + helpers + self._staged_bytes()

    def _helpers(self, pid: int) -> list[int]:
        """Children of the agent that live in its own PID namespace, and theirs."""
        found = []
        for child in _children(pid):
            if _namespace(child) == _namespace(self._pid):
                found += [child, *self._helpers(child)]
        return found

    def _staged_bytes(self) -> int:
        """Files in memory: below ``FSNAP_HOME`` if that is a tmpfs, and memory files that the agent holds."""
        total = 0
        mounts = read_mounts()
        for folder in (*self._home.glob("run/*/images"), *self._home.glob("run/*/staging")):
            if fstype_of(str(folder.resolve()), mounts) in IN_MEMORY:
                total += sum(_blocks(path) for path in folder.rglob("*"))
        for link in _entries(Path(f"/proc/{self._pid}/fd")):
            try:
                target = str(link.readlink())
            except OSError:
                continue
            if target.startswith(("/memfd:", "/dev/shm/")):
                total += _blocks(link)
        return total


def _status(pid: int, field: str) -> int:
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(row.split()[1]) * KIB for row in text.splitlines() if row.startswith(f"{field}:")), 0)


def _children(pid: int) -> list[int]:
    found = []
    for task in _entries(Path(f"/proc/{pid}/task")):
        try:
            found += [int(word) for word in (task / "children").read_text().split()]
        except OSError:
            continue
    return found


def _namespace(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    except OSError:
        return ""


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _blocks(path: Path) -> int:
    try:
        return path.stat().st_blocks * BLOCK_BYTES
    except OSError:
        return 0
