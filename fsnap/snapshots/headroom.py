"""How much memory a capture or restore may take: what the container has left, if it has a limit.

A batch container's limit is set for its task.  An agent that goes past it gets the task
killed, so it works with fewer packs at a time where little is left, and never refuses.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
NO_LIMIT = 1 << 60
"""cgroup v1 says "no limit" by a number near 2^63."""

WIDE_BYTES = 320 << 20
"""From here on a capture may use all it likes, 140 MiB, and the rest is left to the task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Width:
    """How many things are done at once."""

    threads: int
    connections: int


def headroom_bytes(own: Path = Path("/proc/self/cgroup"), root: Path = CGROUPS) -> int | None:
    """Bytes until the tightest memory limit above this process; ``None`` without a limit.

    Page cache, which the kernel gives back, is not counted as used (cgroup-v2 ``memory.stat``).
    """
    lines = _read(own).splitlines()
    left = [
        found for line in lines for folder in _folders(line, root) if (found := _left(folder)) is not None
    ]
    return max(0, min(left)) if left else None


def width(wanted: Width, left_bytes: int | None) -> Width:
    """*wanted*, or less of it where *left_bytes* is little."""
    if left_bytes is None or left_bytes >= WIDE_BYTES:
        return wanted
    if left_bytes >= WIDE_BYTES // 2:
        return Width(threads=wanted.threads, connections=min(2, wanted.connections))
    return Width(threads=1, connections=1)


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
