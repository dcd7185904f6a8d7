"""Bytes into a pipe without a copy of them: the pipe takes the pages that they lie in.

``write`` finds a page for every four KiB and copies into it, and holds the pipe meanwhile,
so that its reader waits.  vmsplice(2) hands over the writer's own pages; so they must stay
as they are until the reader has taken them, which is seen by what is left in the pipe.

CRIU holds the pipe while it reads a MiB, and whoever wants it then spins.  So it is
approached seldom: with some MiB at a time, and when it is full not before a good part of it
is likely to be empty.
"""

from __future__ import annotations

import array
import ctypes
import errno
import fcntl
import os
import select
import termios
import time
from collections import deque
from collections.abc import Callable

import numpy as np

SPLICE_F_NONBLOCK = 2
BATCH_BYTES = 4 << 20
MAX_PARTS = 256
"""A quarter of what one call takes (``IOV_MAX``)."""

DRAINED_BPS = 4 << 30
"""Some four times faster than CRIU reads: while a pipe's capacity takes so long it does not run empty."""


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


_libc = ctypes.CDLL(None, use_errno=True)
_libc.vmsplice.argtypes = (ctypes.c_int, ctypes.POINTER(_Iovec), ctypes.c_ulong, ctypes.c_uint)
_libc.vmsplice.restype = ctypes.c_ssize_t


class PipeFeed:
    """The write end *pipe*.  For one thread.

    *pause* is called now and then, also while the reader is waited for, and may raise.
    """

    def __init__(self, pipe: int, pause: Callable[[], None]) -> None:
        self._pipe = pipe
        self._pause = pause
        self._wait_s = fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ) / DRAINED_BPS
        self._batch: list[memoryview] = []
        self._batch_bytes = 0
        self._sent_bytes = 0
        self._held: deque[tuple[int, list[memoryview]]] = deque()
        """What the reader may not have taken yet, and where each batch ends."""

    def send(self, data: memoryview) -> None:
        """Write all of *data*, which nobody may change; ``BrokenPipeError`` when the reader is gone."""
        if not data:
            return
        self._batch.append(data)
        self._batch_bytes += len(data)
        if self._batch_bytes >= BATCH_BYTES or len(self._batch) == MAX_PARTS:
            self._flush()

    def finish(self) -> None:
        """Write what is left, and wait until the reader has taken everything or is gone."""
        if self._batch:
            self._flush()
        poll = select.poll()
        poll.register(self._pipe, 0)  # tells of an error alone: that nobody reads
        while self._held and not poll.poll(1):
            self._pause()
            self._let_go()

    def _flush(self) -> None:
        parts = [_Iovec(np.frombuffer(data, np.uint8).ctypes.data, len(data)) for data in self._batch]
        self._held.append((self._sent_bytes + self._batch_bytes, self._batch))
        self._batch, self._batch_bytes = [], 0
        first = 0
        while first < len(parts):
            self._pause()
            done = self._splice(parts[first:])
            self._sent_bytes += done
            while first < len(parts) and done >= parts[first].length:
                done -= parts[first].length
                first += 1
            if first < len(parts):
                parts[first].base += done
                parts[first].length -= done
        self._let_go()

    def _splice(self, parts: list[_Iovec]) -> int:
        """How many bytes of *parts* the pipe took; 0 after a wait."""
        done = int(_libc.vmsplice(self._pipe, (_Iovec * len(parts))(*parts), len(parts), SPLICE_F_NONBLOCK))
        if done >= 0:
            return done
        error = ctypes.get_errno()
        if error == errno.EPIPE:
            raise BrokenPipeError(error, os.strerror(error))
        if error not in (errno.EAGAIN, errno.EINTR):
            raise OSError(error, os.strerror(error))
        time.sleep(self._wait_s)
        return 0

    def _let_go(self) -> None:
        left = array.array("i", [0])
        fcntl.ioctl(self._pipe, termios.FIONREAD, left)
        taken_bytes = self._sent_bytes - left[0]
        while self._held and self._held[0][0] <= taken_bytes:
            self._held.popleft()
