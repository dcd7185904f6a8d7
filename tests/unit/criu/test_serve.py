"""The socket that CRIU asks for its images, with a peer that speaks as CRIU does."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fsnap.criu.serve import SOCKET_NAME, ServeSocket
from fsnap.errors import RestoreFailed

pytestmark = pytest.mark.process


class Peer:
    """What ``criu/img-streamer.c`` does."""

    def __init__(self, images: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(str(images / SOCKET_NAME))

    def ask(self, name: str) -> int | None:
        """The end to read the image from, or ``None`` where there is none."""
        message = b"\x0a" + bytes([len(name)]) + name.encode()
        self.say(struct.pack("<I", len(message)) + message)
        (length,) = struct.unpack("<I", self._socket.recv(4, socket.MSG_WAITALL))
        answer = self._socket.recv(length, socket.MSG_WAITALL)
        assert answer in (b"\x08\x00", b"\x08\x01")
        if answer == b"\x08\x00":
            return None
        mine, theirs = os.pipe()
        socket.send_fds(self._socket, [b"\0"], [theirs])
        os.close(theirs)
        return mine

    def say(self, data: bytes) -> None:
        self._socket.sendall(data)

    def leave(self) -> None:
        self._socket.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[ServeSocket]:
    folder = tmp_path / ("long" * 40)  # no socket could be bound to this path
    folder.mkdir()
    served = ServeSocket(folder)
    os.symlink(folder, tmp_path / "short")
    yield served
    served.close()


@pytest.fixture
def peer(served: ServeSocket, tmp_path: Path) -> Iterator[Peer]:
    peer = Peer(tmp_path / "short")
    assert served.accept()
    yield peer
    peer.leave()


def serve(served: ServeSocket, images: dict[str, bytes]) -> None:
    while (name := served.next_name()) is not None:
        if name not in images:
            served.refuse()
            continue
        pipe = served.promise(name)
        os.write(pipe, images[name])
        os.close(pipe)


def test_images_are_given_and_refused(served: ServeSocket, peer: Peer) -> None:
    server = threading.Thread(target=serve, args=(served, {"core-1.img": b"core", "mm-1.img": b"mm"}))
    server.start()
    for name, content in (("mm-1.img", b"mm"), ("none.img", None), ("core-1.img", b"core")):
        pipe = peer.ask(name)
        if content is None:
            assert pipe is None
            continue
        assert pipe is not None
        with os.fdopen(pipe, "rb") as file:
            assert file.read() == content
    peer.leave()
    server.join()


def test_a_wait_can_be_ended(tmp_path: Path) -> None:
    served = ServeSocket(tmp_path)
    served.wake()
    assert not served.accept()
    served.close()


def test_a_wait_for_a_name_can_be_ended(served: ServeSocket, peer: Peer) -> None:
    served.wake()
    assert served.next_name() is None


def test_a_name_without_end_is_refused(served: ServeSocket, peer: Peer) -> None:
    peer.say(struct.pack("<I", 1 << 30))
    with pytest.raises(RestoreFailed, match="bytes of name"):
        served.next_name()
