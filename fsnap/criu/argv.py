"""CRIU's command lines, as pure functions.

What each option is for:

``--manage-cgroups=ignore``: the scheduler owns the cgroups.  ``--link-remap`` and
``--ghost-limit``: unlinked files that are still open.  ``--file-locks``: flock and fcntl
locks.  ``--ext-unix-sk``: datagram sockets to syslog.  ``--tcp-established`` with nftables:
connections inside the tree survive without an ``iptables`` program.  ``--cpu-cap=cpu``: a
CPU that lacks features of the old one is refused instead of crashing the task later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

COMMON = ("--manage-cgroups=ignore", "--file-locks", "--ext-unix-sk", "-v4")
GHOST_LIMIT = "4G"
"""CRIU's default of 1 MiB is too small for sort and samtools, which unlink their open temporaries."""

STDIO_FD_BASE = 100
"""The capsule's init gives CRIU the new output pipes at these numbers: stdout, then stderr."""


def dump_argv(
    *,
    criu: Path,
    root_pid: int,
    images: Path,
    gate: Path,
    leave_running: bool,
    network_lock: str,
    timeout_s: int,
    stream: bool = False,
) -> list[str]:
    """``criu dump`` of the tree under *root_pid*, whose gate is the script *gate*.

    With *stream* it sends its images (:mod:`fsnap.criu.stream`) and has to be started in *images*:
    the path of a socket is short.
    """
    folder = "." if stream else str(images)
    argv = [str(criu), "dump", "-t", str(root_pid), "-D", folder, "-o", "dump.log", *COMMON]
    argv += ["--link-remap", "--ghost-limit", GHOST_LIMIT, "--cpu-cap=cpu", "--timeout", str(timeout_s)]
    argv += ["--tcp-established", "--network-lock", network_lock, "--action-script", str(gate)]
    if stream:
        argv.append("--stream")
    return [*argv, "--leave-running"] if leave_running else argv


def restore_argv(
    *,
    criu: Path,
    images: Path,
    gate: Path,
    pipes: Mapping[str, int],
    network_lock: str,
    tcp: str,
    cpu_check: bool,
    stream: bool = False,
) -> list[str]:
    """``criu restore``; *pipes* has the inodes that the output pipes had at the dump, *tcp* is
    ``established`` or ``close``.

    With *stream* it asks for its images (:mod:`fsnap.criu.serve`) and has to be started in *images*:
    the path of a socket is short.
    """
    folder = "." if stream else str(images)
    argv = [str(criu), "restore", "-d", "-D", folder, "-o", "restore.log", *COMMON]
    argv += [f"--tcp-{tcp}", "--network-lock", network_lock, "--action-script", str(gate)]
    if stream:
        argv.append("--stream")
    if cpu_check:
        argv.append("--cpu-cap=cpu")
    for offset, name in enumerate(("stdout", "stderr")):
        argv += ["--inherit-fd", f"fd[{STDIO_FD_BASE + offset}]:pipe:[{pipes[name]}]"]
    return argv


def recorded_options(argv: Sequence[str]) -> tuple[str, ...]:
    """The options of *argv* that say how a dump was made, without its paths and numbers."""
    skip = {"-t", "-D", "-o", "--action-script", "--timeout"}
    kept = []
    previous = ""
    for word in argv[2:]:
        if previous not in skip and word not in skip:
            kept.append(word)
        previous = word
    return tuple(kept)


GATE_SCRIPT = """#!/bin/sh
# CRIU runs this at each stage; at two of them the tree is whole and frozen, and the
# capsule's init is asked what to do: "go" lets CRIU finish, anything else rolls back.
case "$CRTOOLS_SCRIPT_ACTION" in
post-dump | post-restore)
    echo "$CRTOOLS_SCRIPT_ACTION" >'{run_dir}/gate.req'
    read -r verdict <'{run_dir}/gate.ans'
    [ "$verdict" = go ]
    ;;
esac
"""


def gate_script(run_dir: Path) -> str:
    """The action script for a capsule whose FIFOs are in *run_dir*."""
    return GATE_SCRIPT.replace("{run_dir}", str(run_dir).replace("'", "'\\''"))
