"""What ``/proc`` says of the capsule's processes.  Standard library only: it runs inside the init."""

from __future__ import annotations

import os


def others() -> list[int]:
    """Every process of the PID namespace but init."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != 1]


def state_and_group(pid: int) -> tuple[str, int]:
    """State and process group of *pid* (proc(5), ``stat``); ``X`` and 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
    except OSError:
        return "X", 0
    return fields[0], int(fields[2])
