"""Azure Blob Storage, through azure-storage-blob (the extra ``azure``).

``AZURE_STORAGE_CONNECTION_STRING``, or ``AZURE_STORAGE_ACCOUNT`` with a key, a
SAS or the identity of the node.  The SDK's own retries are off: a retry inside it would
turn a create that won into "exists already".

An object is at most 64 MiB, so each is one Put Blob: ``If-None-Match: *`` as its
condition, and the MD5 of its bytes, which the server compares and keeps.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import md5
from typing import Any

from azure.core.exceptions import HttpResponseError
from azure.storage.blob import ContainerClient, ContentSettings

from fsnap.errors import ObjectMissing
from fsnap.stores._azclient import TIERS, AzClients, AzOptions
from fsnap.stores._azerrors import error_code, reported
from fsnap.stores._listing import in_order
from fsnap.stores._ranges import CheckedRanges
from fsnap.stores.base import Buffer, CorruptTransfer, ObjectInfo
from fsnap.stores.keys import check_key, check_prefix, is_key

__all__ = ["AzClients", "AzOptions", "AzStore"]

_PAGE_KEYS = 1000


class AzStore(CheckedRanges):
    """The blobs of *container* under *prefix* (``""`` or ``a/b``, no slash at either end)."""

    def __init__(
        self,
        container: str,
        prefix: str = "",
        *,
        options: AzOptions | None = None,
        clients: AzClients | None = None,
    ) -> None:
        super().__init__(f"az container {container}", prefix + "/" if prefix else "")
        self._container = container
        self._prefix = prefix
        self._options = options or AzOptions()
        self._clients = clients or AzClients()

    @property
    def url(self) -> str:
        return f"az://{self._container}" + (f"/{self._prefix}" if self._prefix else "")

    def hurried(self, wait_s: float) -> AzStore:
        """The same store, with no wait for the network in a single call longer than *wait_s* seconds."""
        return AzStore(
            self._container, self._prefix, options=self._options.within(wait_s), clients=self._clients
        )

    def put(self, key: str, data: Buffer) -> None:
        self._put(key, data, overwrite=True)

    def create(self, key: str, data: Buffer) -> None:
        self._put(key, data, overwrite=False)

    def list(self, prefix: str = "", *, after: str = "") -> Iterator[ObjectInfo]:
        check_prefix(prefix)
        check_prefix(after)
        return in_order(self._rows(prefix), prefix, after, self._place)

    def delete(self, key: str) -> None:
        check_key(key)
        try:
            with reported(self._container, f"delete {self._base}{key}"):
                self._client.delete_blob(self._base + key, **self._wait)
        except ObjectMissing:
            pass

    @property
    def _wait(self) -> dict[str, Any]:
        return {
            "connection_timeout": self._options.connect_timeout_s,
            "read_timeout": self._options.read_timeout_s,
        }

    @property
    def _client(self) -> ContainerClient:
        return self._clients.client(self._container, self._options)

    def _put(self, key: str, data: Buffer, *, overwrite: bool) -> None:
        check_key(key)
        body = bytes(data)
        checksum = bytearray(md5(body, usedforsecurity=False).digest())
        chosen: dict[str, Any] = {
            "encryption_scope": self._options.encryption_scope,
            "standard_blob_tier": TIERS.get(self._options.access_tier or ""),
        }
        with reported(self._container, f"write {self._base}{key}"):
            answer = self._client.get_blob_client(self._base + key).upload_blob(
                body,
                length=len(body),
                overwrite=overwrite,
                content_settings=ContentSettings(
                    content_type="application/octet-stream", content_md5=checksum
                ),
                validate_content=True,
                **{name: value for name, value in chosen.items() if value is not None},
                **self._wait,
            )
        if (confirmed := answer.get("content_md5")) is not None and bytes(confirmed) != checksum:
            raise CorruptTransfer(
                f"{self._place}: wrote {self._base}{key}, but the store confirms other bytes"
            )

    def _read(self, key: str, start: int, length: int | None, doing: str) -> bytes | None:
        part: dict[str, Any] = {} if length is None else {"offset": start, "length": length}
        with reported(self._container, doing):
            try:
                download = self._client.download_blob(
                    self._base + key, max_concurrency=1, **part, **self._wait
                )
                data = bytes(download.readall())
            except HttpResponseError as error:
                if error_code(error)[1] != 416:
                    raise
                return None
        told = download.properties.content_settings.content_md5
        if length is None and told and md5(data, usedforsecurity=False).digest() != bytes(told):
            place = f"{self._place}: cannot {doing}"
            raise CorruptTransfer(f"{place}: it differs from its checksum")
        return data

    def _size_bytes(self, key: str, doing: str) -> int:
        with reported(self._container, doing):
            blob = self._client.get_blob_client(self._base + key)
            return int(blob.get_blob_properties(**self._wait).size)

    def _rows(self, prefix: str) -> Iterator[ObjectInfo]:
        doing = f"list {self._base}{prefix}"
        with reported(self._container, doing):
            pages = self._client.list_blobs(
                name_starts_with=self._base + prefix, results_per_page=_PAGE_KEYS, **self._wait
            ).by_page()
        while True:
            with reported(self._container, doing):
                page = next(pages, None)
                rows = [] if page is None else list(page)
            if page is None:
                return
            for blob in rows:
                key = str(blob.name)[len(self._base) :]
                if is_key(key):
                    modified_s = blob.last_modified.timestamp()
                    yield ObjectInfo(key=key, size_bytes=int(blob.size), modified_s=modified_s)
