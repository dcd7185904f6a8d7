"""The process tree in CRIU's images (``pstree.img``).

The file is two 32-bit magics, and of each process a 32-bit length and a protobuf
``pstree_entry`` (``images/pstree.proto`` in the CRIU source): its fields 1, 2 and 4 are
PID, parent's PID (0 for the root) and session.
"""

from __future__ import annotations

from pathlib import Path

from fsnap.criu.protobuf import fields

_MAGICS_BYTES = 8
_LENGTH_BYTES = 4
_PID, _PARENT, _SESSION = 1, 2, 4


def has_strays(images: Path) -> bool:
    """Whether CRIU would hand processes of the tree in *images* to init when it restores them.

    A child of the root that is in another's session (its parent has ended, and the root adopted it) is
    restored below a passing process of that session, whose orphan it then is: ``prepare_pstree_ids`` in
    CRIU's ``pstree.c``, which takes the root for the namespace's init.
    """
    try:
        processes = _processes((images / "pstree.img").read_bytes())
    except (OSError, ValueError):
        return False
    roots = {process[_PID]: process[_SESSION] for process in processes if process[_PARENT] == 0}
    return any(
        process[_PARENT] in roots and process[_SESSION] not in (process[_PID], roots[process[_PARENT]])
        for process in processes
    )


def _processes(image: bytes) -> list[dict[int, int]]:
    found = []
    at = _MAGICS_BYTES
    while at < len(image):
        length = int.from_bytes(image[at : at + _LENGTH_BYTES], "little")
        at += _LENGTH_BYTES
        entry = {number: value for number, value in fields(image[at : at + length]) if isinstance(value, int)}
        found.append({_PID: 0, _PARENT: 0, _SESSION: 0} | entry)
        at += length
    return found
