"""The task's output: from the spools that init writes to where ``run`` was told to send it.

The agent tails the spools, so its own death breaks no pipe of the task.  ``emitted`` is
the number of bytes of the whole task's stream that have left this agent; a snapshot
records it and carries what the spool has beyond it, so that the attempts' outputs joined
are the whole stream however far a slow reader was behind.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import stat
import threading
import time
from pathlib import Path

READ_BYTES = 1 << 18
PIPE_BYTES = 4096
"""A pipe that poll(2) calls writable takes this much at once, so that a slow reader never blocks us."""
IDLE_S = 0.02
FULL_S = 0.2
"""Between tries to write to a full disk: its output is late, and not lost."""
STOP_S = 600.0
"""How long the end of a task waits for a reader that takes its output slowly."""
PUNCH_BYTES = 64 << 20
"""Emitted parts of a spool are given back to the disk in steps of this size."""

FALLOC_FL_KEEP_SIZE = 1
FALLOC_FL_PUNCH_HOLE = 2


class Output:
    """One stream (stdout or stderr)."""

    def __init__(self, *, name: str, spool: Path, target: Path | None) -> None:
        """Emit to the file *target*, or to this process's own stream."""
        self.name = name
        self._spool_path = spool
        self._mark = spool.with_name(f"{name}.emitted")
        self.target = target
        self._base = 0
        self._lock = threading.Lock()
        self._broken = False
        self._held = False
        self._pipe = False
        self._stop = False
        self._stop_at = 0.0
        self._thread: threading.Thread | None = None
        self._spool = -1
        self._out = -1
        self._mark_fd = -1
        self._at = 0
        self._punched = 0

    def start(self, base: int, *, resume: bool = False) -> None:
        """Begin with the spool's first byte being number *base* of the stream.

        *resume*: go on where an earlier agent of this very capsule stopped.
        """
        self._spool = os.open(self._spool_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if self.target is None:
            self._out = 1 if self.name == "stdout" else 2
        else:
            self._out = os.open(self.target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._pipe = not stat.S_ISREG(os.fstat(self._out).st_mode)
        self._mark_fd = os.open(self._mark, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if resume:
            base, self._at = self._read_mark(base)
        else:
            self._at = 0
        self._base = base
        if self.exact:
            os.ftruncate(self._out, self.emitted)
            os.lseek(self._out, self.emitted, os.SEEK_SET)
        self._write_mark()
        self._stop = False
        self._thread = threading.Thread(target=self._run, name=f"output-{self.name}", daemon=True)
        self._thread.start()

    @property
    def exact(self) -> bool:
        """It goes to a file of ours, which travels and is put back to the byte; ``/dev/null`` is none."""
        return self.target is not None and self._out >= 0 and not self._pipe

    @property
    def emitted(self) -> int:
        """Bytes of the task's stream that have left."""
        return self._base + self._at

    @property
    def base(self) -> int:
        """The number, in the task's stream, of the spool's first byte."""
        return self._base

    def tail_range(self, spool_bytes: int) -> tuple[int, int]:
        """Start and end, in the spool, of what has not left yet when the spool has *spool_bytes*."""
        return self._at, spool_bytes

    def flush(self, spool_bytes: int, timeout_s: float) -> bool:
        """Wait until the spool's first *spool_bytes* have left; false when the reader is too slow."""
        end = time.monotonic() + timeout_s
        while self._at < spool_bytes and not (self._broken or self._held or self._thread is None):
            if time.monotonic() > end:
                return False
            time.sleep(0.001)
        return True

    def stop(self) -> None:
        """End the thread, after what the spool has now and the reader takes within ``STOP_S``."""
        self._stop_at = time.monotonic() + STOP_S
        self._stop = True
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self.exact:
            os.fsync(self._out)
        if self.target is not None and self._out >= 0:
            os.close(self._out)
        if self._spool >= 0:
            os.close(self._spool)
        if self._mark_fd >= 0:
            os.close(self._mark_fd)
        self._spool = self._out = self._mark_fd = -1

    def _run(self) -> None:
        while True:
            last = self._stop
            if not self._emit_some():
                if last:
                    return
                time.sleep(IDLE_S)
            elif last and time.monotonic() > self._stop_at:
                return

    def hold(self) -> None:
        """Emit nothing more: what is left is in a snapshot and the next attempt's to emit."""
        with self._lock:
            self._held = True

    def unhold(self) -> None:
        """Go on: that snapshot came to nothing."""
        self._held = False

    def _emit_some(self) -> bool:
        with self._lock:
            if self._held:
                return False
            data = os.pread(self._spool, PIPE_BYTES if self._pipe else READ_BYTES, self._at)
            if not data:
                return False
            self._at += self._write(data)
            self._write_mark()
        self._punch()
        return True

    def _write(self, data: bytes) -> int:
        """Bytes of *data* that have left; all of it once the reader is gone."""
        if self._broken:
            return len(data)
        try:
            if self._pipe and not _writable(self._out):
                return 0
            return os.write(self._out, data)
        except BlockingIOError:
            return 0
        except OSError as problem:
            if problem.errno in (errno.ENOSPC, errno.EDQUOT):
                time.sleep(FULL_S)
                return 0
            # Whoever read our output is gone (a closed pipe): the task need not die of that.
            self._broken = True
            return len(data)

    def _punch(self) -> None:
        if self._at - self._punched < PUNCH_BYTES:
            return
        with contextlib.suppress(OSError, AttributeError):
            _punch_hole(self._spool, self._punched, self._at - self._punched)
        self._punched = self._at

    def _write_mark(self) -> None:
        # In place and of one length: truncating it for each piece of output costs more than the output.
        os.pwrite(self._mark_fd, f"{self._base:020d} {self._at:020d}\n".encode("ascii"), 0)

    def _read_mark(self, base: int) -> tuple[int, int]:
        try:
            words = self._mark.read_text(encoding="ascii").split()
            return int(words[0]), int(words[1])
        except (OSError, ValueError, IndexError):
            return base, 0


def _writable(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(IDLE_S * 1000))


def _punch_hole(fd: int, start: int, length: int) -> None:
    """fallocate(2) with FALLOC_FL_PUNCH_HOLE, which the standard library lacks."""
    import ctypes

    flags = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
    ctypes.CDLL(None).fallocate(fd, flags, ctypes.c_int64(start), ctypes.c_int64(length))


def own_stream_paths() -> list[str]:
    """Regular files that this process's stdout and stderr go to; they are never captured."""
    found = []
    for fd in (1, 2):
        with contextlib.suppress(OSError):
            fcntl.fcntl(fd, fcntl.F_GETFL)
            path = os.readlink(f"/proc/self/fd/{fd}")
            if path.startswith("/") and os.path.isfile(path):
                found.append(path)
    return found
