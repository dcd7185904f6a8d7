"""Images out of CRIU's stream: a peer that speaks its protocol, and what the snapshot then holds."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fsnap.agent.streaming import StreamedImages
from fsnap.criu.stream import SOCKET_NAME
from fsnap.errors import CheckpointFailed, StoreUnavailable
from fsnap.snapshots.capture import Capture
from fsnap.snapshots.errors import CaptureFailed
from fsnap.snapshots.fetch import Snapshot
from fsnap.snapshots.known import KnownChunks
from fsnap.snapshots.trees import TreeSource
from fsnap.stores.base import Buffer
from fsnap.stores.memory import MemoryStore
from tests.unit.snapshots.lab import PREFIX, about

pytestmark = pytest.mark.process

MIB = 1 << 20


class Peer:
    """What CRIU does."""

    def __init__(self, images: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        folder = os.open(images, os.O_RDONLY)
        self._socket.connect(f"/proc/self/fd/{folder}/{SOCKET_NAME}")
        os.close(folder)

    def open(self, name: str) -> int:
        """Announce an image; the end to write to."""
        read, write = os.pipe()
        message = b"\x0a" + bytes([len(name)]) + name.encode()
        self._socket.sendall(struct.pack("<I", len(message)) + message)
        socket.send_fds(self._socket, [b"\0"], [read])
        os.close(read)
        return write

    def send(self, name: str, data: bytes) -> None:
        """One image from its beginning to its end."""
        with os.fdopen(self.open(name), "wb") as pipe:
            pipe.write(data)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / ("long" * 30) / "images"  # longer than a socket's address may be
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def capture(store: MemoryStore) -> Iterator[Capture]:
    with Capture(store=store, prefix=PREFIX, snapshot_id="s1", known=KnownChunks()) as capture:
        yield capture


def restored(store: MemoryStore, capture: Capture, dest: Path) -> dict[str, bytes]:
    """The images that a restore would find."""
    capture.seal_index()
    digest = capture.publish(about("s1")).manifest_digest
    snapshot = Snapshot.open(store=store, prefix=PREFIX, snapshot_id="s1", manifest_digest=digest)
    dest.mkdir()
    snapshot.restore_tree("images", dest)
    return {path.name: path.read_bytes() for path in dest.iterdir()}


def test_what_was_sent_is_in_the_snapshot(
    images: Path, store: MemoryStore, capture: Capture, tmp_path: Path
) -> None:
    """Pages one after the other, small images open all the while, nothing of the pages on the disk."""
    sent = {"pages-1.img": os.urandom(9 * MIB + 4096), "pages-2.img": bytes(3 * MIB), "pages-3.img": b""}
    sent |= {"core-1.img": b"core", "files.img": b"first, second"}
    with StreamedImages(images, capture) as stream:
        peer = Peer(images)
        files = peer.open("files.img")
        os.write(files, b"first, ")
        for name in ("pages-1.img", "core-1.img", "pages-2.img", "pages-3.img"):
            peer.send(name, sent[name])
        os.write(files, b"second")
        os.close(files)
        fed = stream.finish()
    peer.close()
    assert not (images / SOCKET_NAME).exists()
    assert (images / "pages-1.img").stat().st_blocks == 0
    capture.add_tree(TreeSource(name="images", root=images, page_structured=True), fed=fed)
    assert restored(store, capture, tmp_path / "dest") == sent


def test_pages_that_open_before_others_are_whole(
    images: Path, store: MemoryStore, capture: Capture, tmp_path: Path
) -> None:
    """Neither waits for the other: CRIU writes both in turns."""
    first, second = os.urandom(4 * MIB), os.urandom(4 * MIB)
    with StreamedImages(images, capture) as stream:
        peer = Peer(images)
        pipes = peer.open("pages-1.img"), peer.open("pages-2.img")
        for at in range(0, 4 * MIB, MIB):
            for pipe, data in zip(pipes, (first, second), strict=True):
                rest = memoryview(data)[at : at + MIB]
                while rest:
                    rest = rest[os.write(pipe, rest) :]
        for pipe in pipes:
            os.close(pipe)
        fed = stream.finish()
    peer.close()
    assert list(fed) == ["pages-1.img"]
    capture.add_tree(TreeSource(name="images", root=images, page_structured=True), fed=fed)
    expected = {"pages-1.img": first, "pages-2.img": second}
    assert restored(store, capture, tmp_path / "dest") == expected


class BrokenStore(MemoryStore):
    def put(self, key: str, data: Buffer) -> None:
        raise StoreUnavailable("it is away")


def test_a_store_that_fails_makes_criu_fail(images: Path) -> None:
    """CRIU sees a closed pipe, and the store's error is what is told."""
    store = BrokenStore()
    with (
        Capture(store=store, prefix=PREFIX, snapshot_id="s1", known=KnownChunks()) as capture,
        StreamedImages(images, capture) as stream,
    ):
        peer = Peer(images)
        with pytest.raises(BrokenPipeError):
            while True:
                peer.send("pages-1.img", os.urandom(64 * MIB))
        with pytest.raises(StoreUnavailable, match="away"):
            stream.finish()
        assert isinstance(stream.failure, StoreUnavailable)
        peer.close()


def test_a_dump_that_is_called_off(images: Path, capture: Capture) -> None:
    """Whoever waits is woken: for CRIU to connect, for pages, for other images."""
    with StreamedImages(images, capture) as stream:
        peer = Peer(images)
        pipes = [peer.open(name) for name in ("pages-1.img", "core-1.img")]
        ender = threading.Timer(0.05, stream.abort)
        ender.start()
        for pipe in pipes:
            with pytest.raises(BrokenPipeError):
                while True:
                    os.write(pipe, bytes(MIB))
            os.close(pipe)
        ender.join()
        with pytest.raises(CheckpointFailed, match="called off"):
            stream.finish()
        peer.close()
    with StreamedImages(images.parent, capture):
        pass


def test_the_capture_has_the_length_that_the_place_says(images: Path, capture: Capture) -> None:
    (images / "pages-1.img").write_bytes(bytes(10))
    fed = {"pages-1.img": capture.feed_pages("pages-1.img", lambda buffer: 0)}
    with pytest.raises(CaptureFailed, match="0 were fed"):
        capture.add_tree(TreeSource(name="images", root=images, page_structured=True), fed=fed)
