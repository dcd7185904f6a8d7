"""CRIU's image stream: ``criu dump --stream`` sends its images instead of writing files.

For each image CRIU sends its name and the read end of a pipe; the image is what comes out
of that pipe.  Several pipes are open at once.  A pipe that is closed at this end makes CRIU
fail, which rolls its dump back.
"""

from __future__ import annotations

import select
from pathlib import Path

from fsnap.criu.imagesocket import ListeningSocket
from fsnap.errors import CheckpointFailed

SOCKET_NAME = "streamer-capture.sock"
ACCEPT_TIMEOUT_S = 60.0


class ImageSocket(ListeningSocket):
    """The listening end, for one dump."""

    def __init__(self, images: Path) -> None:
        super().__init__(images, SOCKET_NAME, CheckpointFailed)
        self._path = images / SOCKET_NAME

    @property
    def wake_fd(self) -> int:
        """Readable once somebody called :meth:`wake`."""
        return self._wake_read

    @property
    def peer_fd(self) -> int:
        """Readable when CRIU announces an image, or has ended."""
        return self._connected.fileno()

    def accept(self, timeout_s: float | None = ACCEPT_TIMEOUT_S) -> bool:
        """As the base says; the socket's file is gone once CRIU has connected."""
        if not super().accept(timeout_s):
            return False
        self._path.unlink()
        return True

    def next_image(self) -> tuple[str, int] | None:
        """Name of the next image and the pipe's descriptor, which is the caller's; ``None`` at the end."""
        name = self._next_name()
        return None if name is None else (name, self._next_pipe(name))


def is_written(fd: int) -> bool:
    """Whether the other end of the pipe *fd* is closed: reading it to its end waits for nobody."""
    poll = select.poll()
    poll.register(fd, 0)
    return bool(poll.poll(0))
