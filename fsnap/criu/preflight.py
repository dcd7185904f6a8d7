"""What CRIU can't save, found in a running tree before the reclaim.

A dump of some of these succeeds and its restore fails, or output is lost in silence, so
CRIU's exit code is no answer.  Everything is read from ``/proc`` as the capsule sees it
(*proc* is ``/proc/INIT/root/proc`` from outside).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

NAMESPACES = ("mnt", "pid", "user", "net")
BAD_ANON = re.compile(r"anon_inode:\[?(io_uring|userfaultfd|perf_event|bpf-\w+)")
SOCKET = re.compile(r"socket:\[(\d+)\]")
INIT = 1
STATE_COLUMN, INODE_COLUMN = 3, 9
LISTENING = "0A"
CAP_SYS_RESOURCE = 24
"""linux/capability.h"""

OTHER_USER = "runs as another user than the agent, which lacks CAP_SYS_RESOURCE: CRIU can't read its limits"
OUTSIDE = (
    "is outside of the task's tree: CRIU made it a child of init when it restored it, and would not dump it"
)
"""A child of the root whose session leader has ended: CRIU restores it below a passing process of that
session (``prepare_pstree_ids`` in criu/pstree.c), before the root adopts orphans again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that forbids a checkpoint."""

    pid: int
    command: str
    what: str

    def __str__(self) -> str:
        return f"process {self.pid} ({self.command}): {self.what}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeSight:
    """One look at the tree."""

    problems: tuple[Problem, ...]
    pids: tuple[int, ...]
    rss_bytes: int
    connected: bool
    """Some process holds a TCP connection: CRIU must lock the network while it dumps."""


def look(proc: Path, root_pid: int, helpers: frozenset[int] = frozenset()) -> TreeSight:
    """All processes of the capsule but its init and CRIU's own (*helpers*); *root_pid* is the task's root."""
    init = _Init.seen(proc)
    problems: list[Problem] = []
    sockets: set[str] = set()
    pids = []
    rss = 0
    for pid in _pids(proc):
        if pid == INIT or pid in helpers:
            continue
        try:
            targets = list(_links(proc / str(pid) / "fd"))
            problems += _problems(proc, pid, root_pid, init, targets)
            sockets |= {found[1] for _, target in targets if (found := SOCKET.match(target))}
            rss += _rss_bytes(proc, pid)
        except (FileNotFoundError, ProcessLookupError):
            continue
        pids.append(pid)
    connected = bool(sockets) and not sockets.isdisjoint(_connections(proc))
    return TreeSight(problems=tuple(problems), pids=tuple(pids), rss_bytes=rss, connected=connected)


class _Init(NamedTuple):
    """What CRIU has from the capsule's init, which starts it."""

    spaces: dict[str, str]
    ids: list[str]
    may_read_limits: bool
    """Of processes with other user or group IDs (prlimit(2))."""

    @classmethod
    def seen(cls, proc: Path) -> _Init:
        status = _status(proc, INIT)
        capabilities = int(status.get("CapEff", "0"), 16)
        return cls(_namespaces(proc, INIT), _ids(status), bool(capabilities >> CAP_SYS_RESOURCE & 1))


def _ids(status: Mapping[str, str]) -> list[str]:
    """Real, effective and saved user and group IDs."""
    return [word for name in ("Uid", "Gid") for word in status.get(name, "").split()[:3]]


def _pids(proc: Path) -> list[int]:
    return sorted(int(name) for name in os.listdir(proc) if name.isdigit())


def _namespaces(proc: Path, pid: int) -> dict[str, str]:
    found = {}
    for name in NAMESPACES:
        try:
            found[name] = os.readlink(proc / str(pid) / "ns" / name)
        except (FileNotFoundError, PermissionError):
            continue
    return found


def _problems(
    proc: Path, pid: int, root_pid: int, init: _Init, targets: Sequence[tuple[str, str]]
) -> Iterator[Problem]:
    status = _status(proc, pid)
    command = status.get("Name", "?")
    if status.get("State", "").startswith(("Z", "X")):
        return
    if status.get("PPid") == str(INIT) and pid != root_pid:
        yield Problem(pid=pid, command=command, what=OUTSIDE)
    tracer = status.get("TracerPid", "0")
    if tracer != "0":
        yield Problem(pid=pid, command=command, what=f"is traced by process {tracer}")
    if not init.may_read_limits and _ids(status) != init.ids:
        yield Problem(pid=pid, command=command, what=OTHER_USER)
    for name, inode in _namespaces(proc, pid).items():
        if init.spaces.get(name) != inode:
            yield Problem(pid=pid, command=command, what=f"is in a {name} namespace of its own")
    for fd, target in targets:
        if what := _bad_target(target):
            yield Problem(pid=pid, command=command, what=f"holds {what} (file descriptor {fd})")


def _connections(proc: Path) -> Iterator[str]:
    """Inodes of the TCP sockets with a peer in the capsule's network, the host's; proc(5) ``net/tcp``."""
    for name in ("tcp", "tcp6"):
        try:
            table = (proc / str(INIT) / "net" / name).read_text(encoding="ascii")
        except FileNotFoundError:
            continue  # no IPv6
        for row in table.splitlines()[1:]:
            columns = row.split()
            if columns[STATE_COLUMN] != LISTENING:
                yield columns[INODE_COLUMN]


def _bad_target(target: str) -> str | None:
    if found := BAD_ANON.match(target):
        return str(found[1])
    if target == "/dev/fuse":
        return "a FUSE connection"
    return None


def _links(folder: Path) -> Iterator[tuple[str, str]]:
    for name in os.listdir(folder):
        try:
            yield name, os.readlink(folder / name)
        except FileNotFoundError:
            continue


def _status(proc: Path, pid: int) -> dict[str, str]:
    text = (proc / str(pid) / "status").read_text(encoding="utf-8", errors="replace")
    return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


def _rss_bytes(proc: Path, pid: int) -> int:
    status = _status(proc, pid)
    kib = sum(int(status.get(name, "0 kB").split()[0]) for name in ("RssAnon", "RssShmem"))
    return kib * 1024
