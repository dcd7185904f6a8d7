"""How the nodes of a rig reach a bucket of this machine: straight, or through a proxy."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest

from tests.faulty_proxy import FaultyProxy
from tests.rig_e2e.cloud import Cloud
from tests.servers import S3Server
from tools.rig import Rig

PORT = 9000
"""Where the nodes find the S3 server, at the rig's address."""


@contextmanager
def serving(proxy: FaultyProxy) -> Iterator[int]:
    """Let *proxy* serve; the port."""
    thread = threading.Thread(target=proxy.serve, daemon=True)
    thread.start()
    try:
        yield int(proxy.endpoint.rpartition(":")[2])
    finally:
        proxy.stop()
        thread.join()


def s3_cloud(
    rig: Rig, server: S3Server, monkeypatch: pytest.MonkeyPatch, *, port: int | None = None
) -> Cloud:
    """A cloud whose nodes reach *server* at the rig's address, or what listens on *port* before it."""
    to_port = port or int(server.endpoint.rpartition(":")[2])
    endpoint = f"http://{rig.forward(PORT, to_port=to_port)}"
    outside = server.environment()
    for name, value in outside.items():
        monkeypatch.setenv(name, value)
    return Cloud(rig, server.url(f"rig/{uuid4().hex}"), server.environment(endpoint=endpoint), outside)
