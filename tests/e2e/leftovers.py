"""What a run of fsnap may leave on a machine: nothing but its locks and its journal."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

LOCKS = {"agent.lock", "init.lock"}
PATIENCE_S = 5.0
"""The kernel ends a killed PID namespace after the agent has gone on."""


def processes_of(root: Path) -> dict[int, str]:
    """PID to command line of all whose arguments or environment name a path below *root*."""
    wanted = os.fsencode(f"{root}/")
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            arguments = Path("/proc", name, "cmdline").read_bytes()
            if wanted in arguments + Path("/proc", name, "environ").read_bytes():
                found[int(name)] = arguments.replace(b"\0", b" ").decode(errors="replace")
    return found


def kill_processes_of(root: Path) -> None:
    """End them all at once, as the loss of a machine does."""
    for pid in processes_of(root):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def mounts() -> list[str]:
    """The machine's mount points."""
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    return sorted(line.split(" ")[4] for line in lines)


def assert_clean(root: Path, mounts_before: list[str]) -> None:
    """No process, mount or run-time file of *root* is left."""
    end = time.monotonic() + PATIENCE_S
    while (left := processes_of(root)) and time.monotonic() < end:
        time.sleep(0.02)
    assert not left, f"processes are left: {left}"
    ours = [point for point in mounts() if point not in mounts_before and str(root) in point]
    assert not ours, f"mounts are left: {ours}"
    for run_dir in root.glob("home*/run/*"):
        files = {path.name for path in run_dir.iterdir()} - LOCKS
        assert not files, f"{run_dir} still has {files}"
