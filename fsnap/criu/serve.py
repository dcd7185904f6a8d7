"""CRIU's image stream, the other way: ``criu restore --stream`` asks for its images one by one.

CRIU connects to the socket ``streamer-serve.sock`` in the images directory.  For each image
that it looks for it sends a protobuf message with the image's name, after its length in
four bytes; the answer, a message of the same form, says whether there is such an image.
If there is, CRIU sends one byte with the write end of a pipe (``SCM_RIGHTS``), and reads
the image from the other end (``images/img-streamer.proto`` and ``criu/img-streamer.c`` in
the CRIU source).  It reads several pipes at once, and may close one before its end; one
that is closed too early at this end makes CRIU fail.
"""

from __future__ import annotations

import array
import contextlib
import os
import select
import socket
import struct
from pathlib import Path

from fsnap.criu.stream import widen
from fsnap.errors import RestoreFailed

SOCKET_NAME = "streamer-serve.sock"
MAX_MESSAGE_BYTES = 129
_ANSWERS = {exists: struct.pack("<I", 2) + bytes([0x08, exists]) for exists in (False, True)}
"""An ``img_streamer_reply_entry`` each: field 1, a boolean."""


class ServeSocket:
    """The listening end, for one restore.  One thread serves; :meth:`wake` may come from any."""

    def __init__(self, images: Path) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._peer: socket.socket | None = None
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        folder = os.open(images, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # A socket's address holds 107 bytes; the path may be longer.
            os.fchmod(self._listener.fileno(), 0o600)  # before the bind: so it is never open to others
            self._listener.bind(f"/proc/self/fd/{folder}/{SOCKET_NAME}")
        finally:
            os.close(folder)
        self._listener.listen(1)

    def wake(self) -> None:
        """End a wait for CRIU's next wish."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b"x")

    def accept(self) -> bool:
        """Wait for CRIU to connect; false when :meth:`wake` came first."""
        if not self._readable(self._listener):
            return False
        self._peer, _ = self._listener.accept()
        return True

    def next_name(self) -> str | None:
        """The image that CRIU looks for next; ``None`` when it wants no more, or :meth:`wake` came."""
        assert self._peer is not None, "accept() comes first"
        head = self._exactly(4) if self._readable(self._peer) else b""
        if len(head) < 4:
            return None
        (length,) = struct.unpack("<I", head)
        if not 0 < length <= MAX_MESSAGE_BYTES:
            raise RestoreFailed(f"CRIU asks for an image with {length} bytes of name")
        return decode_request(self._exactly(length))

    def refuse(self) -> None:
        """There is no such image."""
        assert self._peer is not None
        self._peer.sendall(_ANSWERS[False])

    def promise(self) -> int:
        """There is: the pipe to write it to, which is the caller's to close.

        ``ConnectionError`` when CRIU has ended meanwhile.
        """
        assert self._peer is not None
        self._peer.sendall(_ANSWERS[True])
        data, control, _, _ = self._peer.recvmsg(1, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
        if not data:
            raise ConnectionResetError("CRIU has ended")
        fds = array.array("i")
        for level, kind, data in control:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        if len(fds) != 1:
            raise RestoreFailed("CRIU asked for an image and sent no pipe")
        widen(fds[0])
        return fds[0]

    def close(self) -> None:
        """Let go of everything."""
        for one in (self._listener, self._peer):
            if one is not None:
                one.close()
        for fd in (self._wake_read, self._wake_write):
            os.close(fd)

    def _readable(self, what: socket.socket) -> bool:
        waited = [what.fileno(), self._wake_read]
        return self._wake_read not in select.select(waited, [], [])[0]

    def _exactly(self, length: int) -> bytes:
        assert self._peer is not None
        return self._peer.recv(length, socket.MSG_WAITALL)


def decode_request(message: bytes) -> str:
    """The file name in an ``img_streamer_request_entry``: field 1, a string of less than 128 bytes."""
    if len(message) < 3 or message[0] != 0x0A or message[1] != len(message) - 2:
        raise RestoreFailed("CRIU asks for an image in a way that is not known")
    name = message[2:].decode("utf-8", "replace")
    if "/" in name or name in (".", ".."):
        raise RestoreFailed(f"CRIU asks for an image called {name!r}")
    return name
