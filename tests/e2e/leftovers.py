"""What a run of fsnap may leave on a machine: nothing but its locks and its journal."""

from __future__ import annotations

import contextlib
import ctypes
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


def nft_tables() -> set[str]:
    """The tables of nftables, among them CRIU's network locks; empty where the library is missing."""
    try:
        nft = ctypes.CDLL("libnftables.so.1")
    except OSError:
        return set()
    nft.nft_ctx_new.restype = ctypes.c_void_p
    nft.nft_ctx_get_output_buffer.restype = ctypes.c_char_p
    context = ctypes.c_void_p(nft.nft_ctx_new(0))
    try:
        nft.nft_ctx_buffer_output(context)
        nft.nft_ctx_buffer_error(context)
        nft.nft_run_cmd_from_buffer(context, b"list tables")
        return set((nft.nft_ctx_get_output_buffer(context) or b"").decode().splitlines())
    finally:
        nft.nft_ctx_free(context)


def assert_clean(root: Path, mounts_before: list[str], tables_before: set[str]) -> None:
    """No process, mount, network lock or run-time file of *root* is left."""
    end = time.monotonic() + PATIENCE_S
    while (left := processes_of(root)) and time.monotonic() < end:
        time.sleep(0.02)
    assert not left, f"processes are left: {left}"
    ours = [point for point in mounts() if point not in mounts_before and str(root) in point]
    assert not ours, f"mounts are left: {ours}"
    locks = {table for table in nft_tables() - tables_before if "CRIU" in table}
    assert not locks, f"network locks are left: {locks}"
    for run_dir in root.glob("home*/run/*"):
        files = {path.name for path in run_dir.iterdir()} - LOCKS
        assert not files, f"{run_dir} still has {files}"
