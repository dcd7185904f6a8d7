"""The stores that the suite runs over: memory, a directory, and servers of each cloud started for it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from fsnap.stores.az import AzClients, AzStore
from fsnap.stores.base import Store
from fsnap.stores.gs import GsClients, GsStore
from fsnap.stores.memory import MemoryStore
from fsnap.stores.retrying import RetryingStore
from fsnap.stores.s3 import S3Store, SdkClients
from fsnap.stores.urls import open_store
from tests.clouds import AzServer, GsServer, azurite, fake_gcs
from tests.conformance.support import OpenStore
from tests.servers import BucketServer, S3Server, ministack, seaweedfs


@pytest.fixture(scope="session")
def seaweedfs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


@pytest.fixture(scope="session")
def ministack_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with ministack(tmp_path_factory.mktemp("ministack")) as server:
        yield server


@pytest.fixture(scope="session")
def fake_gcs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GsServer]:
    with fake_gcs(tmp_path_factory.mktemp("fake-gcs")) as server:
        yield server


@pytest.fixture(scope="session")
def azurite_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzServer]:
    with azurite(tmp_path_factory.mktemp("azurite")) as server:
        yield server


class SdkClientsByServer:
    """The clients by server, made once: it takes longer than most tests."""

    def __init__(self) -> None:
        self.s3: dict[str, SdkClients] = defaultdict(SdkClients)
        self.gs: dict[str, GsClients] = defaultdict(GsClients)
        self.az: dict[str, AzClients] = defaultdict(AzClients)

    def open(self, server: BucketServer, prefix: str) -> Store:
        if isinstance(server, GsServer):
            # fake-gcs-server hangs up after a 416 without having said so: the next request may find that out.
            return RetryingStore(GsStore(server.bucket, prefix, clients=self.gs[server.name]))
        if isinstance(server, AzServer):
            return AzStore(server.bucket, prefix, clients=self.az[server.name])
        return S3Store(server.bucket, prefix, clients=self.s3[server.name])


@pytest.fixture(scope="session")
def sdk_clients() -> SdkClientsByServer:
    return SdkClientsByServer()


@pytest.fixture(
    params=[
        "memory",
        "file",
        pytest.param("seaweedfs", marks=pytest.mark.server),
        pytest.param("ministack", marks=pytest.mark.server),
        pytest.param("fake_gcs", marks=pytest.mark.server),
        pytest.param("azurite", marks=pytest.mark.server),
    ]
)
def open_again(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sdk_clients: SdkClientsByServer,
) -> OpenStore:
    """Opens one empty store, as often as it is called."""
    if request.param == "memory":
        memory = MemoryStore()
        return lambda: memory
    if request.param == "file":
        return lambda: open_store(f"file://{tmp_path}/made/store")
    server: BucketServer = request.getfixturevalue(f"{request.param}_server")
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    prefix = f"a prefix+é/{uuid4()}"
    return lambda: sdk_clients.open(server, prefix)


@pytest.fixture
def store(open_again: OpenStore) -> Store:
    return open_again()
