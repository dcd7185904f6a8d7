"""The SDK's client for Azure Blob Storage as this project wants it: no retries, whole answers."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import Any

from azure.core.exceptions import ServiceResponseError
from azure.core.pipeline.transport import HttpRequest, RequestsTransport
from azure.storage.blob import BlobServiceClient, ContainerClient, StandardBlobTier
from urllib3.exceptions import HTTPError as TransportError

from fsnap.errors import StoreError, UsageError
from fsnap.stores._adapter import mount
from fsnap.stores._azerrors import CREDENTIALS
from fsnap.stores._waits import NetworkWaits

CONNECTION = "AZURE_STORAGE_CONNECTION_STRING"
ACCOUNT = "AZURE_STORAGE_ACCOUNT"
KEY = "AZURE_STORAGE_KEY"
SAS = "AZURE_STORAGE_SAS_TOKEN"

TIERS = {str(tier.value): tier for tier in StandardBlobTier if tier is not StandardBlobTier.ARCHIVE}
"""What ``FSNAP_STORAGE_CLASS`` may name."""

_ONE_REQUEST_BYTES = 128 << 20
"""Above every object of a store, so that the SDK never cuts one into blocks or ranges."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AzOptions(NetworkWaits):
    """What a user may set besides the SDK's own variables."""

    encryption_scope: str | None = None
    access_tier: str | None = None

    def __post_init__(self) -> None:
        if self.access_tier and self.access_tier not in TIERS:
            raise UsageError(
                f"access tier {self.access_tier}: what it holds cannot be read at once, or there is none",
                hint=f"It is one of {', '.join(sorted(TIERS))}.",
            )


class AzClients:
    """One SDK client, made at its first use; the variables are read then."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: dict[str, ContainerClient] = {}

    def client(self, container: str, options: AzOptions) -> ContainerClient:
        with self._lock:
            if container not in self._made:
                self._made[container] = _service(options).get_container_client(container)
            return self._made[container]


class _WholeAnswers(RequestsTransport):  # type: ignore[misc]  # untyped where requests is
    """Reads an answer's body before it hands the answer on.

    The SDK reads it later and, when it breaks off, asks three times with a second between:
    here such a failure is one of the request, which is not repeated.
    """

    def send(self, request: HttpRequest, **kwargs: Any) -> Any:
        response = super().send(request, **kwargs | {"stream": True})
        answer: Any = response.internal_response
        try:
            # What requests' own reading ends with, in pieces a thousand times as large.
            answer._content = answer.raw.read(decode_content=True)
        except (TransportError, OSError) as error:
            raise ServiceResponseError(error, error=error) from error
        answer._content_consumed = True
        return response


def _service(options: AzOptions) -> BlobServiceClient:
    transport = _WholeAnswers(connection_data_block_size=1 << 20)
    transport.open()
    mount(transport.session, options.max_connections)
    settings: dict[str, Any] = {
        "transport": transport,
        "retry_total": 0,
        "max_single_put_size": _ONE_REQUEST_BYTES,
        "max_single_get_size": _ONE_REQUEST_BYTES,
        "logging_enable": False,
        "user_agent": "fsnap",
    }
    if connection := os.environ.get(CONNECTION):
        return BlobServiceClient.from_connection_string(connection, **settings)
    if not (account := os.environ.get(ACCOUNT)):
        raise StoreError(f"az: neither {CONNECTION} nor {ACCOUNT} is set", hint=CREDENTIALS)
    url = f"https://{account}.blob.core.windows.net"
    return BlobServiceClient(url, credential=_credential(), **settings)


def _credential() -> Any:
    """A key or a SAS as the az command line takes them, or the node's identity."""
    given = os.environ.get(KEY) or os.environ.get(SAS)
    if given:
        return given
    try:
        from azure.identity import DefaultAzureCredential
    except ImportError:
        raise UsageError(
            "az:// without a connection string needs azure-identity", hint="pip install 'fsnap[azure]'"
        ) from None
    return DefaultAzureCredential()
