"""Which mounts a capsule needs, from the machine's mount table.  Pure but for reading it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsnap.errors import UsageError

UNFIT_UPPERS = frozenset({"overlay", "nfs", "nfs4", "cifs", "9p", "vfat", "fuse"})
"""File systems that can't hold an overlay's upper (Linux, overlayfs.rst: xattrs, d_type, no overlay)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MountLine:
    """One row of ``mountinfo`` (proc(5))."""

    point: str
    fstype: str


def read_mounts(path: Path = Path("/proc/self/mountinfo")) -> list[MountLine]:
    """The mount table, oldest first."""
    rows = []
    for line in path.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        left, _, right = line.partition(" - ")
        rows.append(MountLine(point=_unescaped(left.split(" ")[4]), fstype=right.split(" ")[0]))
    return rows


def _unescaped(text: str) -> str:
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text


def within(path: str, parent: str) -> bool:
    """*path* is *parent* or lies below it."""
    return path == parent or path.startswith(parent.rstrip("/") + "/")


def fstype_of(path: str, mounts: Iterable[MountLine]) -> str:
    """The type of the file system that *path* is on: its nearest, newest mount."""
    best = MountLine(point="", fstype="")
    for row in mounts:
        if within(path, row.point) and len(row.point) >= len(best.point):
            best = row
    return best.fstype


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlay:
    """One scratch place: the capsule sees the host's files below, the task's above."""

    name: str
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CapsuleMounts:
    """What the launcher is told to mount."""

    overlays: tuple[Overlay, ...]
    keep: tuple[str, ...]
    """Directories that an overlay would hide and that are bound back over it."""
    scratch_tmpfs: bool
    """The overlays' uppers can't lie in the run directory: they take memory."""

    def to_plain(self) -> dict[str, Any]:
        return {
            "overlays": [{"name": o.name, "target": o.target} for o in self.overlays],
            "keep": list(self.keep),
            "scratch_tmpfs": self.scratch_tmpfs,
        }


def plan_mounts(
    *, run_dir: str, state_dirs: Sequence[str], scratch: Sequence[str], mounts: Sequence[MountLine]
) -> CapsuleMounts:
    """Overlays for ``/tmp`` and each *scratch* directory; all paths absolute and resolved.

    :class:`UsageError` for a scratch place that holds a state dir's parent or is one.
    """
    overlays = [Overlay(name="tmp", target="/tmp")] if "/tmp" not in state_dirs else []
    for number, place in enumerate(scratch):
        if place == "/tmp":
            continue
        if place == "/" or any(place == d for d in state_dirs):
            raise UsageError(f"--scratch {place}: it can't be / or a state dir")
        overlays.append(Overlay(name=f"scratch-{number}", target=place))
    targets = [overlay.target for overlay in overlays]
    wanted = {run_dir, *state_dirs, *(row.point for row in mounts)}
    keep = [path for path in wanted if any(within(path, t) and path != t for t in targets)]
    keep = [path for path in keep if not any(within(path, other) and path != other for other in keep)]
    hidden = any(within(run_dir, target) for target in targets)
    return CapsuleMounts(
        overlays=tuple(overlays),
        keep=tuple(sorted(keep)),
        scratch_tmpfs=hidden or fstype_of(run_dir, mounts) in UNFIT_UPPERS,
    )
