"""CRIU's image stream, the other way: ``criu restore --stream`` asks for its images one by one.

For each image that it looks for CRIU sends its name; the answer, a protobuf message after
its length in four bytes, says whether there is such an image.  If there is, CRIU sends the
write end of a pipe, and reads the image from the other end.  It reads several pipes at
once, and may close one before its end; one that is closed too early at this end makes CRIU
fail.
"""

from __future__ import annotations

import select
import struct
from pathlib import Path

from fsnap.criu.imagesocket import ListeningSocket
from fsnap.errors import RestoreFailed

SOCKET_NAME = "streamer-serve.sock"
_ANSWERS = {exists: struct.pack("<I", 2) + bytes([0x08, exists]) for exists in (False, True)}
"""An ``img_streamer_reply_entry`` each: field 1, a boolean."""


class ServeSocket(ListeningSocket):
    """The listening end, for one restore."""

    def __init__(self, images: Path) -> None:
        super().__init__(images, SOCKET_NAME, RestoreFailed)

    def next_name(self) -> str | None:
        """The image that CRIU looks for next; ``None`` when it wants no more, or :meth:`wake` came."""
        waited = [self._connected.fileno(), self._wake_read]
        return None if self._wake_read in select.select(waited, [], [])[0] else self._next_name()

    def refuse(self) -> None:
        """There is no such image."""
        self._connected.sendall(_ANSWERS[False])

    def promise(self, name: str) -> int:
        """There is the image *name*: the pipe to write it to, which is the caller's to close.

        ``ConnectionError`` when CRIU has ended meanwhile.
        """
        self._connected.sendall(_ANSWERS[True])
        return self._next_pipe(name)
