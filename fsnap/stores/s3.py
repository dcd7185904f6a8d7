"""S3 and what speaks its protocol, through boto3.

Endpoint, region and credentials are found by the SDK itself (``AWS_ENDPOINT_URL``,
``AWS_REGION``, profile, instance role, …).  Its own retries are off: a retry inside
the SDK would turn a create that won into "exists already" without anybody knowing.

An object is at most 64 MiB, so each is one PUT: the create-only condition, the
checksum and the atomicity of a single PUT are then one and the same request.  Each
PUT carries the CRC-32C of its bytes in a header that is signed; the server refuses
others, and the checksum in its answer is compared.  That header stands for the
payload, which is signed itself only if the SDK's configuration says so
(``payload_signing_enabled``): the signature's SHA-256 would be a second pass over
the bytes, and takes longer than sending them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from hashlib import md5
from typing import Any

from botocore.exceptions import ClientError, IncompleteReadError

from fsnap.errors import CorruptData, StoreUnavailable, StoreUnfit
from fsnap.stores._checksum import crc32c_base64
from fsnap.stores._listing import in_order, start_after
from fsnap.stores._s3client import Body, S3Api, S3Options, SdkClients
from fsnap.stores._s3errors import error_code, reported
from fsnap.stores.base import Buffer, CorruptTransfer, ObjectInfo
from fsnap.stores.keys import check_key, check_prefix, check_range, is_key

__all__ = ["S3Options", "S3Store", "SdkClients"]


class S3Store:
    """The objects of *bucket* under *prefix* (``""`` or ``a/b``, no slash at either end)."""

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        options: S3Options | None = None,
        clients: SdkClients | None = None,
    ) -> None:
        self._bucket = bucket
        self._prefix = prefix
        self._base = prefix + "/" if prefix else ""
        self.options = options or S3Options()
        self._clients = clients or SdkClients()

    @property
    def url(self) -> str:
        return f"s3://{self._bucket}" + (f"/{self._prefix}" if self._prefix else "")

    def hurried(self, wait_s: float) -> S3Store:
        """The same store, with no wait for the network in a single call longer than *wait_s* seconds."""
        return S3Store(self._bucket, self._prefix, options=self.options.within(wait_s), clients=self._clients)

    def put(self, key: str, data: Buffer) -> None:
        self._put(key, data, {})

    def create(self, key: str, data: Buffer) -> None:
        self._put(key, data, {"IfNoneMatch": "*"})

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        check_key(key)
        check_range(start, length)
        if length == 0:
            self._expect_size(key, start)
            return b""
        if start == 0 and length is None:
            return self._whole(key)
        with reported(self._bucket, f"read {self._name(key)}"):
            end = "" if length is None else str(start + length - 1)
            try:
                answer = self._api.get_object(**self._object(key), Range=f"bytes={start}-{end}")
            except ClientError as error:
                if error_code(error)[1] != 416:
                    raise
                return self._beyond(key, start, length)
            data = _body(answer)
        return self._checked_part(key, start, length, str(answer.get("ContentRange", "")), data)

    def list(self, prefix: str = "", *, after: str = "") -> Iterator[ObjectInfo]:
        check_prefix(prefix)
        check_prefix(after)
        return in_order(self._rows(prefix, after), prefix, after, f"s3 bucket {self._bucket}")

    def delete(self, key: str) -> None:
        check_key(key)
        with reported(self._bucket, f"delete {self._name(key)}"):
            self._api.delete_object(**self._object(key))

    @property
    def _api(self) -> S3Api:
        return self._clients.client(self.options)

    def _name(self, key: str) -> str:
        return self._base + key

    def _object(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._name(key)}

    def _put(self, key: str, data: Buffer, condition: dict[str, str]) -> None:
        check_key(key)
        checksum = crc32c_base64(data)
        with reported(self._bucket, f"write {self._name(key)}"):
            answer = self._api.put_object(
                **self._object(key),
                Body=Body(data),
                ChecksumCRC32C=checksum,
                **self.options.put_arguments(),
                **condition,
            )
            self._confirm(key, data, checksum, answer)

    def _confirm(self, key: str, data: Buffer, checksum: str, answer: dict[str, Any]) -> None:
        """That the server has these bytes, by the best that it offers: its checksum, its ETag, the length."""
        confirmed = answer.get("ChecksumCRC32C")
        if confirmed == checksum:
            return
        if confirmed is None:
            if str(answer.get("ETag", "")).strip('"') == md5(data, usedforsecurity=False).hexdigest():
                return
            if self._size_bytes(key) == memoryview(data).nbytes:
                return
        raise CorruptTransfer(
            f"s3 bucket {self._bucket}: wrote {self._name(key)}, but the store confirms other bytes"
        )

    def _size_bytes(self, key: str) -> int:
        return int(self._api.head_object(**self._object(key))["ContentLength"])

    def _beyond(self, key: str, start: int, length: int | None) -> bytes:
        """What 416 means: the end of the object if *start* is just there, else that it is too short."""
        size_bytes = self._expect_size(key, start + (length or 0))
        if length is None and start == size_bytes:
            return b""
        raise StoreUnavailable(f"s3 bucket {self._bucket}: {self._name(key)} was replaced while it was read")

    def _expect_size(self, key: str, end: int) -> int:
        """The object's size, which reaches *end*; a range request cannot ask for nothing."""
        with reported(self._bucket, f"read {self._name(key)}"):
            size_bytes = self._size_bytes(key)
        if end > size_bytes:
            raise self._short(key, size_bytes, end)
        return size_bytes

    def _whole(self, key: str) -> bytes:
        with reported(self._bucket, f"read {self._name(key)}"):
            # A server that sends a checksum does so for whole objects alone.
            # Without its C runtime the SDK compares every kind but this one.
            answer = self._api.get_object(**self._object(key), ChecksumMode="ENABLED")
            data = _body(answer)
        if answer.get("ChecksumCRC32C", checksum := crc32c_base64(data)) != checksum:
            raise CorruptTransfer(
                f"s3 bucket {self._bucket}: cannot read {self._name(key)}: it differs from its checksum"
            )
        return data

    def _checked_part(self, key: str, start: int, length: int | None, range_said: str, data: bytes) -> bytes:
        unit, _, rest = range_said.partition(" ")
        span, _, size = rest.partition("/")
        if unit != "bytes" or span != f"{start}-{start + len(data) - 1}" or not size.isdigit():
            raise StoreUnfit(
                f"s3 bucket {self._bucket}: asked for {self._name(key)} from byte {start},"
                f" the store answered with {len(data)} bytes and the range {range_said!r}",
                hint="Use a store that honours range requests.",
            )
        end = int(size) if length is None else start + length
        if start + len(data) != end:
            raise self._short(key, int(size), end)
        return data

    def _short(self, key: str, size_bytes: int, end: int) -> CorruptData:
        return CorruptData(
            f"s3 bucket {self._bucket}: {self._name(key)} has {size_bytes} bytes, not the {end} asked for"
        )

    def _rows(self, prefix: str, after: str) -> Iterator[ObjectInfo]:
        arguments: dict[str, Any] = {"Bucket": self._bucket, "Prefix": self._base + prefix, "MaxKeys": 1000}
        if after:
            arguments["StartAfter"] = self._base + start_after(prefix, after)
        while True:
            with reported(self._bucket, f"list {self._base}{prefix}"):
                page = self._api.list_objects_v2(**arguments)
            for row in page.get("Contents", ()):
                key = str(row["Key"])[len(self._base) :]
                if is_key(key):
                    modified_s = row["LastModified"].timestamp()
                    yield ObjectInfo(key=key, size_bytes=int(row["Size"]), modified_s=modified_s)
            if not page.get("IsTruncated"):
                return
            if not page.get("NextContinuationToken"):
                raise StoreUnavailable(f"s3 bucket {self._bucket}: a listing broke off")
            arguments["ContinuationToken"] = page["NextContinuationToken"]


def _body(answer: dict[str, Any]) -> bytes:
    """The whole body, as long as the answer's header says."""
    with closing(answer["Body"]) as stream:
        data: bytes = stream.read()
    if len(data) != int(answer["ContentLength"]):
        raise IncompleteReadError(actual_bytes=len(data), expected_bytes=answer["ContentLength"])
    return data
