"""When the lease ends: a timer on a clock that goes on while the machine sleeps.

``select`` counts its timeout on the monotonic clock, which stands still during a suspend: a lease
that ended meanwhile would be noticed up to a whole timeout after the machine woke.  A timerfd on
``CLOCK_BOOTTIME`` is readable at once (timerfd_create(2)).  Python has it from 3.13 on; before
that the C library is asked.  Where neither has it, whoever waits must look again every
:data:`LOOK_S`.  Standard library only: it runs inside the capsule's init.
"""

from __future__ import annotations

import ctypes
import os
import struct
import time

LOOK_S = 0.1
"""Without a timer: how long a wait may last while a lease runs."""

ABSOLUTE = 1
FAR = 10**9
"""Seconds; a kernel refuses times that its own counter can't hold."""


class LeaseTimer:
    """The end of the lease, on this process's ``CLOCK_BOOTTIME``; ``None``: there is no end."""

    def __init__(self) -> None:
        self.end_s: float | None = None
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self._made()
        """Readable once the lease has ended; -1: there is no timer here."""

    def _made(self) -> int:
        try:
            create = self._libc.timerfd_create
        except AttributeError:
            return -1
        return int(create(time.CLOCK_BOOTTIME, os.O_NONBLOCK | os.O_CLOEXEC))

    def set(self, end_s: float | None) -> None:
        """It ends then, which may be past."""
        self.end_s = end_s
        if self.fd >= 0:
            nanoseconds = 0 if end_s is None else max(1, int(min(end_s, FAR) * 1e9))
            spec = struct.pack("qqqq", 0, 0, *divmod(nanoseconds, 10**9))
            if self._libc.timerfd_settime(self.fd, ABSOLUTE, spec, None) != 0:
                os.close(self.fd)
                self.fd = -1

    @property
    def over(self) -> bool:
        """The lease has ended."""
        return self.end_s is not None and now_s() >= self.end_s

    @property
    def wait_s(self) -> float | None:
        """How long to wait for something else at most; ``None`` where the timer wakes."""
        if self.end_s is None or self.fd >= 0:
            return None
        return max(0.0, min(LOOK_S, self.end_s - now_s()))


def now_s() -> float:
    """Seconds on ``CLOCK_BOOTTIME``."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
