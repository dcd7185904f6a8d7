"""The end of CRIU's image stream that fsnap listens at: what dump and restore have in common.

CRIU connects to a socket in the images directory.  It names an image in a protobuf message,
after the message's length in four bytes, and sends a pipe with one byte (``SCM_RIGHTS``);
``images/img-streamer.proto`` and ``criu/img-streamer.c`` in the CRIU source.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import select
import socket
import struct
from pathlib import Path

from fsnap.errors import FsnapError

PIPE_BYTES = (16 << 20, 1 << 20)
"""What a pipe is asked to hold: the fewer turns CRIU and fsnap take, the better.  The second is what it may
without a privilege (``/proc/sys/fs/pipe-max-size``).  CRIU moves pages into it without a copy."""

MAX_MESSAGE_BYTES = 129
"""A name of less than 128 bytes, after a tag and its length in a byte each."""


class ListeningSocket:
    """One CRIU's peer.  One thread serves; :meth:`wake` may come from any.

    *name* is the socket's; *fault* is what is raised where CRIU does not keep to its protocol.
    """

    def __init__(self, images: Path, name: str, fault: type[FsnapError]) -> None:
        self._fault = fault
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._peer: socket.socket | None = None
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        folder = os.open(images, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # A socket's address holds 107 bytes; the path may be longer.
            os.fchmod(self._listener.fileno(), 0o600)  # before the bind: so it is never open to others
            self._listener.bind(f"/proc/self/fd/{folder}/{name}")
        finally:
            os.close(folder)
        self._listener.listen(1)

    def wake(self) -> None:
        """End a wait for CRIU."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b"x")

    def accept(self, timeout_s: float | None = None) -> bool:
        """Wait for CRIU to connect; false when it has not, at *timeout_s* or at :meth:`wake`."""
        listener = self._listener.fileno()
        ready, _, _ = select.select([listener, self._wake_read], [], [], timeout_s)
        if listener not in ready:
            return False
        self._peer, _ = self._listener.accept()
        return True

    def hang_up(self) -> None:
        """Serve no further image: CRIU fails at its next one."""
        for one in (self._listener, self._peer):
            if one is not None:
                one.close()

    def close(self) -> None:
        """Let go of everything."""
        self.hang_up()
        for fd in (self._wake_read, self._wake_write):
            os.close(fd)

    @property
    def _connected(self) -> socket.socket:
        assert self._peer is not None, "accept() comes first"
        return self._peer

    def _next_name(self) -> str | None:
        """The image that CRIU names next; ``None`` when it names no more."""
        head = self._exactly(4)
        if len(head) < 4:
            return None
        (length,) = struct.unpack("<I", head)
        if not 0 < length <= MAX_MESSAGE_BYTES:
            raise self._fault(f"CRIU speaks of an image with {length} bytes of name")
        return decode_name(self._exactly(length), self._fault)

    def _next_pipe(self, name: str) -> int:
        """The pipe of the image *name*, which is the caller's to close.

        ``ConnectionError`` when CRIU has ended meanwhile.
        """
        byte, control, _, _ = self._connected.recvmsg(1, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
        if not byte:
            raise ConnectionResetError("CRIU has ended")
        fds = array.array("i")
        for level, kind, data in control:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        if len(fds) != 1:
            raise self._fault(f"CRIU speaks of the image {name} and sends no pipe")
        _widen(fds[0])
        return fds[0]

    def _exactly(self, length: int) -> bytes:
        return self._connected.recv(length, socket.MSG_WAITALL)


def decode_name(message: bytes, fault: type[FsnapError]) -> str:
    """The file name in an ``img_streamer_request_entry``: field 1, a string of less than 128 bytes."""
    if len(message) < 3 or message[0] != 0x0A or message[1] != len(message) - 2:
        raise fault("CRIU speaks of an image in a way that is not known")
    name = message[2:].decode("utf-8", "replace")
    if "/" in name or name in (".", ".."):
        raise fault(f"CRIU speaks of an image called {name!r}")
    return name


def _widen(pipe: int) -> None:
    """The default of 64 KiB is slower, and works."""
    for size in PIPE_BYTES:
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, size)
            return
