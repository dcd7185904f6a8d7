"""What a capture is asked to take, and what it says about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fsnap.snapshots.baseline import Baseline

if TYPE_CHECKING:
    from fsnap.snapshots.seen import Seen


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeSource:
    """One directory tree to capture."""

    name: str
    """``images``, ``tmp``, ``shm``, ``state-0``, …: letters, digits and ``-``."""
    root: Path
    """Where it is now; may be ``/proc/PID/root/…`` or ``/proc/self/fd/N``."""
    exclude: tuple[str, ...] = ()
    """Globs (fnmatch) on the relative path; one without ``/`` matches any last name. Prunes directories.

    A leading ``/`` anchors a single name at the root: ``/out.log`` leaves ``sub/out.log`` in.
    """
    baseline: Baseline | None = None
    """What was there before the task started: inputs, recorded but not stored."""
    include_inputs: bool = False
    kind: Literal["plain", "overlay-upper"] = "plain"
    page_structured: bool = False
    """CRIU images: ``pages-*.img`` are cut at pages."""
    unchanged: Seen | None = None
    """What an earlier snapshot saw of this tree; files in the same state are not read again."""
    reread: frozenset[str] = frozenset()
    """Paths to read although their state is the same: files that are mapped for writing."""
    append_only: tuple[str, ...] = ()
    """Globs of files of which the user promises that only their tail is new."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeStats:
    """What one tree came to."""

    name: str
    files: int
    directories: int
    others: int
    """Links, fifos, sockets, devices."""
    bytes: int
    """Content recorded, holes and inputs left out."""
    read_bytes: int
    reused_bytes: int
    """Content of files that were not read again."""
    inputs: int
    input_bytes: int
    deleted_inputs: int
    skipped: tuple[str, ...]
    """Directories on other mounts, which are not in the snapshot."""
