"""HTTP around the service: faults, the control side below ``/_control/``, and vanishing for a while."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

from .faults import BadFault, Fate, Faults, parse_rules
from .imds import BadRequest, Imds, Reply

CONTROL = "/_control/"
MAX_CONTROL_BYTES = 64 * 1024
MAX_VANISH_S = 3600.0


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    service: MetadataServer

    def server_bind(self) -> None:
        """Without HTTPServer's reverse look-up of the address: seconds, where no name server is."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is its own affair."""


class MetadataServer:
    """Serves one :class:`Imds` on one address until ``close``."""

    def __init__(self, imds: Imds, faults: Faults, *, bind: str = "127.0.0.1", port: int = 0) -> None:
        self.imds = imds
        self.faults = faults
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._listener = self._listen((bind, port))
        self.address, self.port = bind, int(self._listener.server_address[1])

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self.port}"

    def _listen(self, address: tuple[str, int]) -> _Listener:
        listener = _Listener(address, _Handler)
        listener.service = self
        threading.Thread(target=listener.serve_forever, args=(0.05,), name="metadata", daemon=True).start()
        return listener

    def vanish(self, seconds: float) -> None:
        """Stop listening at once, and come back by itself after *seconds*."""
        if not 0 < seconds <= MAX_VANISH_S:
            raise BadRequest(
                f"it vanishes for more than 0 and at most {MAX_VANISH_S:.0f} seconds, not {seconds:g}"
            )
        self._stop_listening()
        threading.Thread(target=self._return, args=(seconds,), name="metadata-away", daemon=True).start()

    def _stop_listening(self) -> None:
        with self._lock:
            self._listener.shutdown()
            self._listener.server_close()

    def _return(self, seconds: float) -> None:
        until_s = time.monotonic() + seconds
        while not self._closed.wait(max(0.0, until_s - time.monotonic())):
            with self._lock, contextlib.suppress(OSError):  # until the port is free, if somebody else took it
                if not self._closed.is_set():
                    self._listener = self._listen((self.address, self.port))
                return
            until_s = time.monotonic() + 0.1

    def close(self) -> None:
        self._closed.set()
        self._stop_listening()

    def control(self, name: str, fields: dict[str, Any]) -> dict[str, Any]:
        """One control request; raises :class:`BadRequest` or :class:`BadFault`."""
        if name == "status":
            return self.imds.status() | {"faults": self.faults.describe()}
        if name == "notice":
            return self.imds.announce(**fields)
        if name == "cancel":
            return {"cancelled": self.imds.cancel()}
        if name != "fault":
            raise BadRequest(f"no control request {name!r}")
        vanish_s, clear = fields.pop("vanish", None), fields.pop("clear", False)
        rules = parse_rules(**fields)
        if clear:
            self.faults.clear()
        self.faults.add(rules)
        if vanish_s is not None:
            self.vanish(vanish_s)
        return {"faults": self.faults.describe(), "vanish_s": vanish_s}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    server: _Listener

    def do_GET(self) -> None:
        self._answer("GET")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def do_POST(self) -> None:
        if self.path.startswith(CONTROL):
            self._control()
        else:
            self._answer("POST")

    def do_DELETE(self) -> None:
        self._answer("DELETE")

    def _answer(self, method: str) -> None:
        service = self.server.service
        path = self.path.partition("?")[0]
        service.imds.count(method, path)
        fate = service.faults.draw(path)
        if fate.slow_s:
            time.sleep(fate.slow_s)
        if fate.answer:
            reply = service.imds.refuse(fate.answer)
        else:
            reply = service.imds.reply(method, path, self.headers)
        self._send(reply, fate)

    def _control(self) -> None:
        length = self.headers.get("Content-Length", "")
        size = int(length) if length.isdecimal() else 0
        try:
            fields = json.loads(self.rfile.read(min(size, MAX_CONTROL_BYTES)) or b"{}")
            answer = self.server.service.control(self.path.removeprefix(CONTROL), fields)
        except (BadRequest, BadFault, TypeError, ValueError) as error:
            self._send(Reply(status=400, body=json.dumps({"error": str(error)}).encode()), Fate())
            return
        body = json.dumps(answer).encode()
        self._send(Reply(status=200, body=body, content_type="application/json"), Fate())

    def _send(self, reply: Reply, fate: Fate) -> None:
        """Write a whole answer, or half of one: the second half of the body, or of the head, is missing."""
        self.close_connection = True
        lines = [
            f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}",
            f"Content-Type: {reply.content_type}",
            f"Content-Length: {len(reply.body)}",
            f"Date: {formatdate(self.server.service.imds.now_s(), usegmt=True)}",
            "Server: EC2ws",
            "Connection: close",
            *(f"{name}: {value}" for name, value in reply.headers),
        ]
        head = "\r\n".join([*lines, "", ""]).encode()
        whole = head + reply.body
        end = len(whole)
        if fate.cut:
            end = len(head) + len(reply.body) // 2 if reply.body else len(head) // 2
        self.wfile.write(whole[:end])

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: what it was asked is in ``status``."""
