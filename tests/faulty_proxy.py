"""An HTTP proxy before a test's S3 server that does what networks and busy servers do.

Which fault befalls a request is drawn from the seed, the request's method and path, and how often that was
asked before: so it does not depend on how threads take turns, and a seed gives the same faults again.
"""

from __future__ import annotations

import http.client
import random
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

HOST = "127.0.0.1"
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "expect"})


class Fault(Enum):
    """What may befall one request."""

    DELAYED = "carried out and answered, a moment later"
    BUSY = "answered with 503 and not carried out"
    REFUSED = "the connection is cut and the request not carried out"
    LATE = "the connection is cut, and the request carried out a moment later"
    FAILED = "carried out, and answered with 500"
    DEAF = "carried out, and the connection cut before the answer"
    CUT = "carried out, and the connection cut in the middle of the answer's body"
    FLIPPED_IN = "one bit of the request's body is flipped"
    FLIPPED_OUT = "one bit of the answer's body is flipped"


class FaultyProxy:
    """Listens on a free port of 127.0.0.1, hands on to *upstream*, and puts in *shares* of faults."""

    def __init__(
        self,
        upstream: str,
        shares: Mapping[Fault, float],
        *,
        seed: int,
        delay_s: float = 0.03,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        assert sum(shares.values()) <= 1.0
        self.upstream = urlsplit(upstream).netloc
        self.delay_s = delay_s
        self.done: Counter[str] = Counter()
        """How often each fault, and ``clean``, happened."""

        self.put_headers: list[dict[str, str]] = []
        """What the PUTs came with, names in lower case."""

        self._shares = dict(shares)
        self._seed = seed
        self._asked: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer((HOST, 0), _Handler)
        self._server.daemon_threads = True
        self._server.proxy = self  # type: ignore[attr-defined]
        self._late: list[threading.Thread] = []
        self._scheme = "https" if tls else "http"
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)

    @property
    def endpoint(self) -> str:
        return f"{self._scheme}://{HOST}:{self._server.server_address[1]}"

    def draw(self, method: str, path: str) -> Fault | None:
        """The fault of the next such request."""
        question = f"{method} {path}"
        with self._lock:
            self._asked[question] += 1
            drawn = random.Random(f"{self._seed} {question} {self._asked[question]}").random()
            for fault, share in self._shares.items():
                drawn -= share
                if drawn < 0:
                    self.done[fault.name] += 1
                    return fault
            self.done["clean"] += 1
            return None

    def asked(self, method: str, part: str) -> int:
        """Requests so far whose path contains *part*."""
        with self._lock:
            return sum(
                count
                for question, count in self._asked.items()
                if question.startswith(f"{method} ") and part in question
            )

    def delay(self) -> None:
        """Wait for ``delay_s``, which may be changed meanwhile."""
        began_s = time.monotonic()
        while (left_s := began_s + self.delay_s - time.monotonic()) > 0:
            time.sleep(min(left_s, 0.02))

    def later(self, act: Any) -> None:
        """Call *act* in a moment, from another thread."""
        timer = threading.Timer(self.delay_s, act)
        self._late.append(timer)
        timer.start()

    def settle(self) -> None:
        """Wait until every late request has been carried out."""
        for timer in self._late:
            timer.join()

    def serve(self) -> None:
        self._server.serve_forever(poll_interval=0.02)

    def stop(self) -> None:
        self.settle()
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def faulty_proxy(
    upstream: str, shares: Mapping[Fault, float], *, seed: int, tls: ssl.SSLContext | None = None
) -> Iterator[FaultyProxy]:
    """A proxy that serves for the length of the block, over TLS if it is given the server's side of it."""
    proxy = FaultyProxy(upstream, shares, seed=seed, tls=tls)
    thread = threading.Thread(target=proxy.serve, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.stop()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _any(self) -> None:
        proxy: FaultyProxy = self.server.proxy  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = proxy.draw(self.command, self.path)
        if self.command == "PUT":
            proxy.put_headers.append({name.lower(): value for name, value in self.headers.items()})
        if fault is Fault.BUSY:
            self._answer(503, [], _error("SlowDown"))
        elif fault is Fault.REFUSED:
            self._cut()
        elif fault is Fault.LATE:
            self._cut()
            request = (self.command, self.path, list(self.headers.items()), body)
            proxy.later(lambda: _ask(proxy.upstream, *request))
        else:
            if fault is Fault.DELAYED:
                proxy.delay()
            if fault is Fault.FLIPPED_IN:
                body = _flipped(body)
            self._relay(proxy, fault, body)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _any

    def _relay(self, proxy: FaultyProxy, fault: Fault | None, body: bytes) -> None:
        status, headers, answer = _ask(
            proxy.upstream, self.command, self.path, list(self.headers.items()), body
        )
        if fault is Fault.FAILED:
            self._answer(500, [], _error("InternalError"))
        elif fault is Fault.DEAF:
            self._cut()
        elif fault is Fault.CUT and len(answer) > 1 and self.command != "HEAD":
            self._answer(status, headers, answer, send=len(answer) // 2)
            self._cut()
        elif fault is Fault.FLIPPED_OUT and status < 300:
            self._answer(status, headers, _flipped(answer))
        else:
            self._answer(status, headers, answer)

    def _answer(
        self, status: int, headers: list[tuple[str, str]], body: bytes, *, send: int | None = None
    ) -> None:
        self.send_response_only(status)
        length = str(len(body))
        for name, value in headers:
            if name.lower() == "content-length":
                length = value if self.command == "HEAD" else length
            elif name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:send])
            self.wfile.flush()

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:
            pass  # the client hung up: its right

    def log_message(self, format: str, *arguments: object) -> None:
        pass


def _ask(
    upstream: str, method: str, path: str, headers: list[tuple[str, str]], body: bytes
) -> tuple[int, list[tuple[str, str]], bytes]:
    """The server's answer.  The client's ``Host`` is handed on, since it is signed."""
    connection = http.client.HTTPConnection(upstream, timeout=60)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers:
            if name.lower() not in _HOP_BY_HOP:
                connection.putheader(name, value)
        connection.endheaders(body or None)
        answer = connection.getresponse()
        return answer.status, answer.getheaders(), answer.read()
    finally:
        connection.close()


def _flipped(body: bytes) -> bytes:
    if not body:
        return body
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]


def _error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>made by the faulty proxy</Message></Error>".encode()
