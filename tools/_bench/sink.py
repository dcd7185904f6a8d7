"""An HTTP server that reads what it is sent and keeps none of it: it shows how fast a client can send.

``with sink() as endpoint:`` runs it in a process of its own.  To a PUT it answers 200 and names the checksum
that came with it, as a server does that has compared them (this one compares nothing).  A GET is answered
with bytes that it has at hand: as many as its range asks for, or ``OBJECT_BYTES``.  Any S3 client can talk to
it, and so can ``curl -T``.
"""

from __future__ import annotations

import os
import re
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HOST = "127.0.0.1"
OBJECT_BYTES = 32 << 20
_CHUNK_BYTES = 1 << 20
_RANGE = re.compile(rb"bytes=(\d+)-(\d*)")
_ECHOED = (b"x-amz-checksum-", b"x-amz-server-side-encryption", b"x-amz-storage-class")


@contextmanager
def sink() -> Iterator[str]:
    """``http://127.0.0.1:PORT`` of a sink that runs for the length of the block."""
    command = [sys.executable, "-I", "-S", str(Path(__file__).resolve()), str(os.getpid())]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        yield f"http://{HOST}:{port}"
    finally:
        process.kill()
        process.wait()


def serve(listening: socket.socket) -> None:
    """Answer every connection, each in a thread of its own, for ever."""
    payload = memoryview(os.urandom(_CHUNK_BYTES))
    while True:
        connection, _ = listening.accept()
        threading.Thread(target=_converse, args=(connection, payload), daemon=True).start()


def _converse(connection: socket.socket, payload: memoryview) -> None:
    buffer = memoryview(bytearray(_CHUNK_BYTES))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection:
        try:
            while head := _read_head(connection, buffer):
                _answer(connection, buffer, payload, *head)
        except OSError:
            return  # the client hung up


def _read_head(connection: socket.socket, buffer: memoryview) -> tuple[bytes, dict[bytes, bytes], int] | None:
    """Method, headers by lower-case name, and how many bytes of the body came with them; None at the end."""
    filled = 0
    while (end := bytes(buffer[:filled]).find(b"\r\n\r\n")) < 0:
        count = connection.recv_into(buffer[filled : filled + 65536])
        if not count:
            return None
        filled += count
    first, *lines = bytes(buffer[:end]).split(b"\r\n")
    pairs = (line.partition(b":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    return first.split(b" ", 1)[0], headers, filled - end - 4


def _answer(
    connection: socket.socket,
    buffer: memoryview,
    payload: memoryview,
    method: bytes,
    headers: dict[bytes, bytes],
    came_bytes: int,
) -> None:
    left = int(headers.get(b"content-length", b"0")) - came_bytes
    if left > 0 and headers.get(b"expect", b"").lower() == b"100-continue":
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    while left > 0:
        count = connection.recv_into(buffer[: min(left, len(buffer))])
        if not count:
            raise OSError("the body broke off")
        left -= count
    if method in (b"GET", b"HEAD"):
        _send_object(connection, payload, method, headers)
        return
    echoed = [name + b": " + value for name, value in headers.items() if name.startswith(_ECHOED)]
    connection.sendall(b"\r\n".join([b"HTTP/1.1 200 OK", b"Content-Length: 0", *echoed, b"", b""]))


def _send_object(
    connection: socket.socket, payload: memoryview, method: bytes, headers: dict[bytes, bytes]
) -> None:
    status, start, end = b"200 OK", 0, OBJECT_BYTES
    extra = b""
    if asked := _RANGE.match(headers.get(b"range", b"")):
        status, start = b"206 Partial Content", int(asked[1])
        end = min(OBJECT_BYTES, int(asked[2] or OBJECT_BYTES) + 1)
        extra = b"Content-Range: bytes %d-%d/%d\r\n" % (start, end - 1, OBJECT_BYTES)
    head = b"HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n" % (status, extra, end - start)
    connection.sendall(head)
    left = end - start if method == b"GET" else 0
    while left > 0:
        connection.sendall(payload[: min(left, len(payload))])
        left -= min(left, len(payload))


def main() -> int:
    """Serve on a free port, which is printed, for as long as the process lives that was named."""
    listening = socket.create_server((HOST, 0), backlog=128)
    print(listening.getsockname()[1], flush=True)
    threading.Thread(target=serve, args=(listening,), daemon=True).start()
    select.select([os.pidfd_open(int(sys.argv[1]))], [], [])
    return 0


if __name__ == "__main__":
    sys.exit(main())
