"""CRIU's image stream: ``criu dump --stream`` sends its images instead of writing files.

CRIU connects to the socket ``streamer-capture.sock`` in the images directory.  For each
image it sends a protobuf message with the image's name, after its length in four bytes,
and then one byte that carries the read end of a pipe (``SCM_RIGHTS``); the image is what
comes out of that pipe (``images/img-streamer.proto`` and ``criu/img-streamer.c`` in the
CRIU source).  Several pipes are open at once.  A pipe that is closed at this end makes
CRIU fail, which rolls its dump back.
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

from fsnap.errors import CheckpointFailed

SOCKET_NAME = "streamer-capture.sock"
PIPE_BYTES = (16 << 20, 1 << 20)
"""What a pipe is asked to hold: the fewer turns CRIU and the reader take, the better.  The second is what
it may without a privilege (``/proc/sys/fs/pipe-max-size``).  CRIU moves pages into it without a copy."""
MAX_NAME_BYTES = 4096
ACCEPT_TIMEOUT_S = 60.0


class ImageSocket:
    """The listening end, for one dump.  One thread receives; :meth:`wake` may come from any."""

    def __init__(self, images: Path) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._peer: socket.socket | None = None
        self._path = images / SOCKET_NAME
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        folder = os.open(images, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # A socket's address holds 107 bytes; the path may be longer.
            os.fchmod(self._listener.fileno(), 0o600)  # before the bind: so it is never open to others
            self._listener.bind(f"/proc/self/fd/{folder}/{SOCKET_NAME}")
        finally:
            os.close(folder)
        self._listener.listen(1)

    @property
    def wake_fd(self) -> int:
        """Readable once somebody called :meth:`wake`."""
        return self._wake_read

    def wake(self) -> None:
        """Let a thread that waits for images look up."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b"x")

    def accept(self) -> bool:
        """Wait for CRIU to connect; false when :meth:`wake` came first."""
        listener = self._listener.fileno()
        ready, _, _ = select.select([listener, self._wake_read], [], [], ACCEPT_TIMEOUT_S)
        if listener not in ready:
            return False
        self._peer, _ = self._listener.accept()
        self._path.unlink()
        return True

    @property
    def peer_fd(self) -> int:
        """Readable when CRIU announces an image, or has ended."""
        assert self._peer is not None, "accept() comes first"
        return self._peer.fileno()

    def next_image(self) -> tuple[str, int] | None:
        """Name of the next image and the pipe's descriptor, which is the caller's; ``None`` at the end."""
        assert self._peer is not None, "accept() comes first"
        head = self._exactly(4)
        if not head:
            return None
        (length,) = struct.unpack("<I", head)
        if not 0 < length <= MAX_NAME_BYTES:
            raise CheckpointFailed(f"CRIU announced an image with {length} bytes of name")
        name = decode_request(self._exactly(length))
        _, control, _, _ = self._peer.recvmsg(1, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
        fds = array.array("i")
        for level, kind, data in control:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        if len(fds) != 1:
            raise CheckpointFailed(f"CRIU announced the image {name} without a pipe")
        widen(fds[0])
        return name, fds[0]

    def hang_up(self) -> None:
        """Take no further image: CRIU fails when it announces one."""
        for one in (self._listener, self._peer):
            if one is not None:
                one.close()

    def close(self) -> None:
        """Let go of everything."""
        self.hang_up()
        for fd in (self._wake_read, self._wake_write):
            os.close(fd)

    def _exactly(self, length: int) -> bytes:
        assert self._peer is not None
        return self._peer.recv(length, socket.MSG_WAITALL)


def widen(pipe: int) -> None:
    """The default of 64 KiB is slower, and works."""
    for size in PIPE_BYTES:
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, size)
            return


def decode_request(message: bytes) -> str:
    """The file name in an ``img_streamer_request_entry``: field 1, a string of less than 128 bytes."""
    if len(message) < 3 or message[0] != 0x0A or message[1] != len(message) - 2:
        raise CheckpointFailed("CRIU announced an image in a way that is not known")
    name = message[2:].decode("utf-8", "replace")
    if "/" in name or name in (".", ".."):
        raise CheckpointFailed(f"CRIU announced an image called {name!r}")
    return name


def is_written(fd: int) -> bool:
    """Whether the other end of the pipe *fd* is closed: reading it to its end waits for nobody."""
    poll = select.poll()
    poll.register(fd, 0)
    return bool(poll.poll(0))
