"""A path's state as ``lstat`` gives it, in a fifth of the memory."""

from __future__ import annotations

import os
from typing import NamedTuple


class State(NamedTuple):
    """The fields of ``stat_result`` that a snapshot needs."""

    mode: int
    """Type and permission bits."""
    dev: int
    ino: int
    uid: int
    gid: int
    size: int
    rdev: int
    mtime_ns: int
    atime_ns: int
    ctime_ns: int


Key = tuple[int, int, int, int, int]
"""Device, inode, size, modification and change time."""

NOWHERE = State(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
"""Of a path that is gone."""


def state_of(result: os.stat_result) -> State:
    """The state in *result*."""
    return State(
        mode=result.st_mode,
        dev=result.st_dev,
        ino=result.st_ino,
        uid=result.st_uid,
        gid=result.st_gid,
        size=result.st_size,
        rdev=result.st_rdev,
        mtime_ns=result.st_mtime_ns,
        atime_ns=result.st_atime_ns,
        ctime_ns=result.st_ctime_ns,
    )


def state_key(state: State) -> Key:
    """What must be equal for a file's content to be taken as unchanged."""
    return (state.dev, state.ino, state.size, state.mtime_ns, state.ctime_ns)


def key_of(fd: int) -> Key:
    """The key of an open file, now."""
    return state_key(state_of(os.fstat(fd)))
