"""The stores that the suite runs over: memory, a directory, and two S3 servers that are started for it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from fsnap.stores.base import Store
from fsnap.stores.memory import MemoryStore
from fsnap.stores.s3 import S3Store, SdkClients
from fsnap.stores.urls import open_store
from tests.conformance.support import OpenStore
from tests.servers import S3Server, ministack, seaweedfs


@pytest.fixture(scope="session")
def seaweedfs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


@pytest.fixture(scope="session")
def ministack_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with ministack(tmp_path_factory.mktemp("ministack")) as server:
        yield server


@pytest.fixture(scope="session")
def s3_clients() -> dict[str, SdkClients]:
    """The clients by server, made once: it takes longer than most tests."""
    return defaultdict(SdkClients)


@pytest.fixture(
    params=[
        "memory",
        "file",
        pytest.param("seaweedfs", marks=pytest.mark.server),
        pytest.param("ministack", marks=pytest.mark.server),
    ]
)
def open_again(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    s3_clients: dict[str, SdkClients],
) -> OpenStore:
    """Opens one empty store, as often as it is called."""
    if request.param == "memory":
        memory = MemoryStore()
        return lambda: memory
    if request.param == "file":
        return lambda: open_store(f"file://{tmp_path}/made/store")
    server: S3Server = request.getfixturevalue(f"{request.param}_server")
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    prefix = f"a prefix+é/{uuid4()}"
    return lambda: S3Store(server.bucket, prefix, clients=s3_clients[server.name])


@pytest.fixture
def store(open_again: OpenStore) -> Store:
    return open_again()
