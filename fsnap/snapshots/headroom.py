"""How much memory a capture or restore may take: what the container has left, if it has a limit.

A batch container's limit is set for its task.  An agent that goes past it gets the task
killed, so it works with fewer packs at a time where little is left, and never refuses.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from fsnap.snapshots.packs import ROOM_BYTES
from fsnap.snapshots.sink import BUFFER_BYTES

CGROUPS = Path("/sys/fs/cgroup")
NO_LIMIT = 1 << 60
"""cgroup v1 says "no limit" by a number near 2^63."""

MOST_THREADS = 6
MOST_CONNECTIONS = 12
"""With so many of each a capture takes 375 MiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Width:
    """How many things are done at once."""

    threads: int
    connections: int


NARROWEST = Width(threads=1, connections=1)


def headroom_bytes(own: Path = Path("/proc/self/cgroup"), root: Path = CGROUPS) -> int | None:
    """Bytes until the tightest memory limit above this process; ``None`` without a limit.

    Page cache, which the kernel gives back, is not counted as used (cgroup-v2 ``memory.stat``).
    """
    lines = _read(own).splitlines()
    left = [
        found for line in lines for folder in _folders(line, root) if (found := _left(folder)) is not None
    ]
    return max(0, min(left)) if left else None


def memory_bytes(width: Width) -> int:
    """What a sink of this width takes at most (:mod:`fsnap.snapshots.sink`), its tables left out."""
    return (2 * width.threads + 1) * BUFFER_BYTES + (width.connections + 1 + width.threads) * ROOM_BYTES


def fitting_width(processors: int, left_bytes: int | None) -> Width:
    """As wide as the *processors* can use, and no wider than takes half of *left_bytes*; never less than one.

    Two connections per processor: on AWS a single one moves some 90 MB/s, whatever the network could.
    """
    found = Width(
        threads=max(1, min(MOST_THREADS, processors)),
        connections=max(2, min(MOST_CONNECTIONS, 2 * processors)),
    )
    while left_bytes is not None and memory_bytes(found) > left_bytes // 2 and found != NARROWEST:
        found = Width(threads=max(1, found.threads // 2), connections=max(1, found.connections // 2))
    return found


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0))


def _folders(line: str, root: Path) -> list[Path]:
    """The memory cgroup that a line of proc(5) ``cgroup`` names, and those above it, v1 or v2."""
    number, _, rest = line.partition(":")
    controllers, _, path = rest.partition(":")
    if number == "0":
        mounts = [root, root / "unified"]
    elif "memory" in controllers.split(","):
        mounts = [root / "memory"]
    else:
        return []
    # A container sees its own cgroup as the mount's root, and its path as the host names it.
    inner = path.strip("/")
    parts = inner.split("/") if inner else []
    return [mount.joinpath(*parts[:count]) for mount in mounts for count in range(len(parts) + 1)]


def _left(folder: Path) -> int | None:
    for limit, used, cache in (
        ("memory.max", "memory.current", ("inactive_file", "active_file")),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file")),
    ):
        bound, current = _read(folder / limit).strip(), _read(folder / used).strip()
        if not bound.isdigit() or not current.isdigit() or int(bound) >= NO_LIMIT:
            continue
        stat = dict(row.split(maxsplit=1) for row in _read(folder / "memory.stat").splitlines() if " " in row)
        returnable = sum(int(stat.get(name, 0)) for name in cache)
        return int(bound) - max(0, int(current) - returnable)
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
