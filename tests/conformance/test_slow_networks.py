"""A timeout is about silence: a pack may take as long as it takes, if only something moves."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from fsnap.errors import StoreUnavailable
from fsnap.stores.base import Hurriable
from fsnap.stores.urls import open_store
from tests.clouds import ACCOUNT, ACCOUNT_KEY

pytestmark = pytest.mark.process

PACK_BYTES = 48 << 20
SILENCE_S = 0.4


class SlowServer:
    """Reads what it is sent steadily, in three times the silence that the client allows; then it is busy."""

    def __init__(self) -> None:
        self.took_s = 0.0
        self.received_bytes = 0
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 256 << 10)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen()
        self.endpoint = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        connection, _ = self._socket.accept()
        with connection:
            length = self._read_head(connection)
            if length < PACK_BYTES:  # Google's SDK asks for an upload session first
                while self.received_bytes < length:
                    self.received_bytes += len(connection.recv(65536))
                where = f"Location: {self.endpoint}/session".encode()
                connection.sendall(b"HTTP/1.1 200 OK\r\n" + where + b"\r\nContent-Length: 0\r\n\r\n")
                length = self._read_head(connection)
            began_s = time.monotonic()
            while self.received_bytes < length:
                due_s = began_s + 3 * SILENCE_S * self.received_bytes / length
                time.sleep(max(0.0, due_s - time.monotonic()))
                piece = connection.recv(256 << 10)
                if not piece:
                    return
                self.received_bytes += len(piece)
            self.took_s = time.monotonic() - began_s
            connection.sendall(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")

    def _read_head(self, connection: socket.socket) -> int:
        """How long the body is; what came of it with the head is counted."""
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(65536)
        head, _, body = head.partition(b"\r\n\r\n")
        self.received_bytes = len(body)
        return int(re.findall(rb"(?i)\ncontent-length: *(\d+)", head)[0])

    def close(self) -> None:
        self.thread.join()
        self._socket.close()


@pytest.fixture
def slow() -> Iterator[SlowServer]:
    server = SlowServer()
    yield server
    server.close()


@pytest.mark.parametrize("url", ["s3://bucket/p", "gs://bucket/p", "az://container/p"])
def test_a_long_transfer_is_no_silence(slow: SlowServer, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    connection = f"AccountName={ACCOUNT};AccountKey={ACCOUNT_KEY};BlobEndpoint={slow.endpoint}/{ACCOUNT};"
    for name, value in {
        "AWS_ENDPOINT_URL": slow.endpoint,
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "y",
        "AWS_REGION": "us-east-1",
        "STORAGE_EMULATOR_HOST": slow.endpoint,
        "AZURE_STORAGE_CONNECTION_STRING": connection,
    }.items():
        monkeypatch.setenv(name, value)
    store = open_store(url)
    assert isinstance(store, Hurriable)
    with pytest.raises(StoreUnavailable, match="503"):
        store.hurried(SILENCE_S).put("pack", memoryview(bytes(PACK_BYTES)))
    assert slow.received_bytes >= PACK_BYTES
    assert slow.took_s > 2 * SILENCE_S
