"""The process tree in CRIU's images (``pstree.img``).

The file is two 32-bit magics, and of each process a 32-bit length and a protobuf
``pstree_entry`` (``images/pstree.proto`` in the CRIU source): its fields 1, 2, 4 and 5 are
PID, parent's PID (0 for the root), session, and the ids of its threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fsnap.criu.protobuf import fields

MAGICS_BYTES = 8
LENGTH_BYTES = 4
_PID, _PARENT, _SESSION, _THREADS = 1, 2, 4, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageProcess:
    """A process as the images have it; ids are those of the capsule's namespace."""

    pid: int
    parent: int
    session: int
    threads: tuple[int, ...]


def has_strays(images: Path) -> bool:
    """Whether CRIU would hand processes of the tree in *images* to init when it restores them.

    A child of the root that is in another's session (its parent has ended, and the root adopted it) is
    restored below a passing process of that session, whose orphan it then is: ``prepare_pstree_ids`` in
    CRIU's ``pstree.c``, which takes the root for the namespace's init.
    """
    try:
        processes = read_processes(images)
    except (OSError, ValueError):
        return False
    roots = {process.pid: process.session for process in processes if process.parent == 0}
    return any(
        process.parent in roots and process.session not in (process.pid, roots[process.parent])
        for process in processes
    )


def read_processes(images: Path) -> list[ImageProcess]:
    """All of the tree; :class:`OSError`, :class:`ValueError`."""
    image = (images / "pstree.img").read_bytes()
    found = []
    at = MAGICS_BYTES
    while at < len(image):
        length = int.from_bytes(image[at : at + LENGTH_BYTES], "little")
        at += LENGTH_BYTES
        found.append(_process(image[at : at + length]))
        at += length
    return found


def _process(entry: bytes) -> ImageProcess:
    numbers = [(number, value) for number, value in fields(entry) if isinstance(value, int)]
    single = dict(numbers)
    return ImageProcess(
        pid=single.get(_PID, 0),
        parent=single.get(_PARENT, 0),
        session=single.get(_SESSION, 0),
        threads=tuple(value for number, value in numbers if number == _THREADS),
    )
