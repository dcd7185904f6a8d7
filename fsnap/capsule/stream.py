"""One output stream of the task: the pipe it writes to and the spool that init reads it into.

Standard library only: it runs inside the capsule's init.
"""

from __future__ import annotations

import errno
import os
import time

READ_BYTES = 1 << 16
STREAMS = ("stdout", "stderr")


class Stream:
    """One output pipe of the task and the spool file that it is read into."""

    def __init__(self, path: str) -> None:
        self.spool = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.size = os.fstat(self.spool).st_size
        self.read_fd = -1
        self.write_fd = -1
        self.inode = 0

    def open(self) -> None:
        self.read_fd, self.write_fd = os.pipe()
        os.set_blocking(self.read_fd, False)
        self.inode = os.fstat(self.read_fd).st_ino

    def close_writer(self) -> None:
        if self.write_fd >= 0:
            os.close(self.write_fd)
            self.write_fd = -1

    def pump(self, limit: int = 64) -> bool:
        """Move what is in the pipe to the spool; true when something was moved."""
        moved = False
        while limit and self.read_fd >= 0:
            limit -= 1
            try:
                data = os.read(self.read_fd, READ_BYTES)
            except BlockingIOError:
                break
            if not data:
                os.close(self.read_fd)
                self.read_fd = -1
                break
            self._append(data)
            moved = True
        return moved

    def _append(self, data: bytes) -> None:
        """Append all of *data*; on a full disk wait for room: the task then waits in its write."""
        view = memoryview(data)
        while view:
            try:
                done = os.write(self.spool, view)
            except OSError as problem:
                if problem.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                time.sleep(0.5)
                continue
            view = view[done:]
            self.size += done
