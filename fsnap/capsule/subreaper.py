"""Who adopts orphans (``PR_SET_CHILD_SUBREAPER``, prctl(2)): this process, or another one.

Standard library only: it runs inside the capsule's init.
"""

from __future__ import annotations

import ctypes
import os

from fsnap.capsule.tracing import stopped

_PR_SET_CHILD_SUBREAPER = 36
_PRCTL = 157
"""On x86-64."""

_libc = ctypes.CDLL(None, use_errno=True)


def become_subreaper() -> None:
    """This process adopts the orphans below it, also after an exec."""
    if _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl: {os.strerror(number)}")


def make_subreaper(pid: int) -> None:
    """The single-threaded process *pid* adopts the orphans below it from now on.

    :class:`OSError` as for :func:`~fsnap.capsule.tracing.stopped`, and when the call fails.
    """
    with stopped(pid) as process:
        made = process.call(_PRCTL, _PR_SET_CHILD_SUBREAPER, 1)
    if made:
        raise OSError(-made, os.strerror(-made))
