"""Google Cloud Storage, through google-cloud-storage.

Credentials are found by the SDK itself (the node's service account, workload identity,
``GOOGLE_APPLICATION_CREDENTIALS``); with ``STORAGE_EMULATOR_HOST`` it asks that server
without any.  The SDK's own retries are off: a retry inside it would turn a create that
won into "exists already".

An object is at most 64 MiB, so each is one upload: generation 0 as its condition, and
the CRC-32C of its bytes in the object's metadata, which the server compares before the
object is there.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from google.api_core.exceptions import RequestRangeNotSatisfiable
from google.cloud import storage

from fsnap.errors import ObjectMissing, UsageError
from fsnap.stores._adapter import mount
from fsnap.stores._checksum import crc32c_base64
from fsnap.stores._gserrors import no_bucket, reported
from fsnap.stores._listing import in_order, start_after
from fsnap.stores._ranges import CheckedRanges
from fsnap.stores._waits import NetworkWaits
from fsnap.stores.base import Buffer, CorruptTransfer, ObjectInfo
from fsnap.stores.keys import check_key, check_prefix, is_key

_LISTED = "items(name,size,updated),nextPageToken"
_PAGE_KEYS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class GsOptions(NetworkWaits):
    """What a user may set besides the SDK's own variables."""

    kms_key_name: str | None = None
    """``projects/…/cryptoKeys/…``; the bucket's default otherwise."""

    storage_class: str | None = None

    def __post_init__(self) -> None:
        if self.storage_class == "ARCHIVE":
            raise UsageError(
                "storage class ARCHIVE: each object is billed for a year",
                hint="Choose a class for daily use.",
            )


class GsClients:
    """One SDK client, made at its first use: it reads variables and may ask the metadata server."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: Any = None

    def client(self, options: GsOptions) -> Any:
        with self._lock:
            if self._made is None:
                client = storage.Client()
                mount(client._http, options.max_connections)  # as the SDK's own documentation does
                # It would ask for the bucket's metadata beside the first request, to name it in traces.
                if hasattr(client, "_bucket_metadata_cache"):
                    client._bucket_metadata_cache = None
                self._made = client
            return self._made


class GsStore(CheckedRanges):
    """The objects of *bucket* under *prefix* (``""`` or ``a/b``, no slash at either end)."""

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        options: GsOptions | None = None,
        clients: GsClients | None = None,
    ) -> None:
        super().__init__(f"gs bucket {bucket}", prefix + "/" if prefix else "")
        self._bucket = bucket
        self._prefix = prefix
        self._options = options or GsOptions()
        self._clients = clients or GsClients()

    @property
    def url(self) -> str:
        return f"gs://{self._bucket}" + (f"/{self._prefix}" if self._prefix else "")

    def hurried(self, wait_s: float) -> GsStore:
        """The same store, with no wait for the network in a single call longer than *wait_s* seconds."""
        return GsStore(
            self._bucket, self._prefix, options=self._options.within(wait_s), clients=self._clients
        )

    def put(self, key: str, data: Buffer) -> None:
        self._put(key, data, None)

    def create(self, key: str, data: Buffer) -> None:
        self._put(key, data, 0)

    def list(self, prefix: str = "", *, after: str = "") -> Iterator[ObjectInfo]:
        check_prefix(prefix)
        check_prefix(after)
        return in_order(self._rows(prefix, after), prefix, after, self._place)

    def delete(self, key: str) -> None:
        check_key(key)
        doing = f"delete {self._base}{key}"
        with suppress(ObjectMissing), self._missing_told_apart(doing), reported(self._bucket, doing):
            self._blob(key).delete(retry=None, timeout=self._wait_s)

    @property
    def _wait_s(self) -> tuple[float, float]:
        return self._options.connect_timeout_s, self._options.read_timeout_s

    @property
    def _client(self) -> Any:
        return self._clients.client(self._options)

    def _blob(self, key: str) -> Any:
        bucket = self._client.bucket(self._bucket)
        return bucket.blob(self._base + key, kms_key_name=self._options.kms_key_name)

    def _put(self, key: str, data: Buffer, generation: int | None) -> None:
        check_key(key)
        checksum = crc32c_base64(data)
        doing = f"write {self._base}{key}"
        try:
            with reported(self._bucket, doing):
                blob = self._blob(key)
                if self._options.storage_class:
                    blob.storage_class = self._options.storage_class
                blob.upload_from_string(
                    bytes(data),
                    content_type="application/octet-stream",
                    if_generation_match=generation,
                    checksum="crc32c",
                    crc32c_checksum_value=checksum,
                    retry=None,
                    timeout=self._wait_s,
                )
                confirmed = blob.crc32c
        except ObjectMissing:
            raise no_bucket(self._bucket, doing) from None
        if confirmed != checksum:
            raise CorruptTransfer(
                f"{self._place}: wrote {self._base}{key}, but the store confirms other bytes"
            )

    def _read(self, key: str, start: int, length: int | None, doing: str) -> bytes | None:
        end = None if length is None else start + length - 1
        with self._missing_told_apart(doing), reported(self._bucket, doing):
            try:
                return bytes(
                    self._blob(key).download_as_bytes(
                        start=None if end is None else start,
                        end=end,
                        raw_download=True,
                        checksum="crc32c",  # compared where the server tells it: for whole objects
                        single_shot_download=True,
                        retry=None,
                        timeout=self._wait_s,
                    )
                )
            except RequestRangeNotSatisfiable:
                return None

    def _size_bytes(self, key: str, doing: str) -> int:
        with self._missing_told_apart(doing), reported(self._bucket, doing):
            blob = self._blob(key)
            blob.reload(retry=None, timeout=self._wait_s)
            return int(blob.size or 0)

    @contextmanager
    def _missing_told_apart(self, doing: str) -> Iterator[None]:
        """Where a 404 may mean object or bucket a listing tells, with no more rights."""
        try:
            yield
        except ObjectMissing as error:
            if "No such object" not in str(error):
                next(self._pages("", "", 1), None)
            raise

    def _rows(self, prefix: str, after: str) -> Iterator[ObjectInfo]:
        since = self._base + start_after(prefix, after) if after else ""
        for page in self._pages(prefix, since, _PAGE_KEYS):
            for blob in page:
                key = str(blob.name)[len(self._base) :]
                if is_key(key):
                    modified_s = blob.updated.timestamp()
                    yield ObjectInfo(key=key, size_bytes=int(blob.size or 0), modified_s=modified_s)

    def _pages(self, prefix: str, since: str, page_keys: int) -> Iterator[Sequence[Any]]:
        doing = f"list {self._base}{prefix}"
        try:
            with reported(self._bucket, doing):
                found = self._client.list_blobs(
                    self._bucket,
                    prefix=self._base + prefix,
                    start_offset=since or None,
                    page_size=page_keys,
                    fields=_LISTED,
                    retry=None,
                    timeout=self._wait_s,
                )
                pages = found.pages
            while True:
                with reported(self._bucket, doing):
                    page = next(pages, None)
                if page is None:
                    return
                yield tuple(page)
        except ObjectMissing:
            raise no_bucket(self._bucket, doing) from None
