"""What CRIU does not keep of a process, read from ``/proc`` while the tree is frozen.

CPU affinity and I/O priority are lost by a restore without a word; they are recorded by
PID inside the capsule and applied again before the tree is released.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

IOPRIO_GET = {"x86_64": 252, "aarch64": 31}
"""System call numbers of ioprio_get(2), for which the C library has no function."""

IOPRIO_SET = {"x86_64": 251, "aarch64": 30}
IOPRIO_WHO_PROCESS = 1
INIT = 1


def scheduling(proc: Path) -> dict[str, Any]:
    """``affinity``: [pid, "0-1"] of each task; ``ionice``: [pid, ioprio value] where one is set."""
    affinity, ionice = [], []
    outer = _outer_pids(proc)
    for pid in _pids(proc):
        if cpus := _status_field(proc, pid, "Cpus_allowed_list"):
            affinity.append([pid, cpus])
        if value := _ioprio(outer.get(pid, 0)):
            ionice.append([pid, value])
    return {"affinity": affinity, "ionice": ionice}


def apply_scheduling(proc: Path, recorded: dict[str, Any]) -> None:
    """Give a restored tree, not yet released, what :func:`scheduling` recorded of it."""
    outer = _outer_pids(proc)
    here = os.sched_getaffinity(0)
    for pid, text in recorded.get("affinity", ()):
        cpus = parse_cpus(text) & here
        if cpus and pid in outer:
            with contextlib.suppress(OSError):
                os.sched_setaffinity(outer[pid], cpus)
    number = IOPRIO_SET.get(platform.machine())
    for pid, value in recorded.get("ionice", ()):
        if number is not None and pid in outer:
            ctypes.CDLL(None).syscall(number, IOPRIO_WHO_PROCESS, outer[pid], value)


def mapped_files(proc: Path) -> frozenset[str]:
    """Files that some process has mapped shared and writable: their times do not tell of writes."""
    found = set()
    for pid in _pids(proc):
        try:
            maps = (proc / str(pid) / "maps").read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            continue
        for line in maps.splitlines():
            words = line.split(maxsplit=5)
            if (
                len(words) == 6
                and words[1].startswith("rw")
                and words[1][3] == "s"
                and words[5].startswith("/")
            ):
                found.add(words[5])
    return frozenset(found)


def parse_cpus(text: str) -> set[int]:
    """``0-2,5`` as numbers."""
    cpus: set[int] = set()
    for part in text.split(","):
        low, _, high = part.partition("-")
        cpus |= set(range(int(low), int(high or low) + 1))
    return cpus


def _pids(proc: Path) -> Iterator[int]:
    for name in os.listdir(proc):
        if name.isdigit() and int(name) != INIT:
            yield int(name)


def _outer_pids(proc: Path) -> dict[int, int]:
    """PIDs of the capsule to those of this process's namespace (``NSpid``, proc(5))."""
    wanted = os.readlink(proc / str(INIT) / "ns" / "pid")
    pairs = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            if os.readlink(f"/proc/{name}/ns/pid") == wanted:
                inner = _status_field(Path("/proc"), int(name), "NSpid").split()
                pairs[int(inner[-1])] = int(name)
        except (OSError, IndexError):
            continue
    return pairs


def _status_field(proc: Path, pid: int, field: str) -> str:
    try:
        text = (proc / str(pid) / "status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    for line in text.splitlines():
        if line.startswith(field + ":"):
            return line.partition(":")[2].strip()
    return ""


def _ioprio(pid: int) -> int:
    number = IOPRIO_GET.get(platform.machine())
    if number is None or pid == 0:
        return 0
    value = ctypes.CDLL(None).syscall(number, IOPRIO_WHO_PROCESS, pid)
    return max(0, int(value))
