"""Telling one process, boot and PID namespace from another, exactly."""

from __future__ import annotations

import os
import socket
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """The kernel's id of this boot."""
    return BOOT_ID.read_text(encoding="ascii").strip()


def pid_namespace() -> str:
    """The PID namespace that this process is in, as the kernel names it."""
    return os.readlink("/proc/self/ns/pid")


def host_name() -> str:
    """The node's host name."""
    return socket.gethostname()


def start_ticks(pid: int) -> int | None:
    """``starttime`` of *pid* (proc(5), stat field 22, clock ticks since boot); ``None``: no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rsplit(")", 1)[1].split()
    if fields[0] in ("Z", "X"):
        return None
    return int(fields[19])
