"""The SDK's S3 client as this project wants it: no retries, one checksum, no copy of what is sent."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import Any, Protocol, cast

import boto3
import botocore.session
from botocore.config import Config

from fsnap.errors import UsageError
from fsnap.stores._body import SLICE_BYTES, SlicedBody
from fsnap.stores._waits import NetworkWaits
from fsnap.stores.base import Buffer

ATTEMPTS_VARIABLE = "metadata_service_num_attempts"
METADATA_ATTEMPTS = 4
"""How often an instance's role is asked for at least: the SDK, which tries once by default, takes one failed
answer for a machine without credentials."""

_ARCHIVES = frozenset({"GLACIER", "DEEP_ARCHIVE"})


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Options(NetworkWaits):
    """What a user may set besides the SDK's own variables."""

    server_side_encryption: str | None = None
    """``AES256``, ``aws:kms`` or ``aws:kms:dsse``; the bucket's default otherwise."""

    kms_key_id: str | None = None
    storage_class: str | None = None

    def __post_init__(self) -> None:
        if self.storage_class in _ARCHIVES:
            raise UsageError(
                f"storage class {self.storage_class}: what it holds cannot be read at once",
                hint="Choose one with immediate access.",
            )

    def put_arguments(self) -> dict[str, str]:
        """The part of a PUT that these decide."""
        encryption = self.server_side_encryption or ("aws:kms" if self.kms_key_id else None)
        given = {
            "ServerSideEncryption": encryption,
            "SSEKMSKeyId": self.kms_key_id,
            "StorageClass": self.storage_class,
        }
        return {name: value for name, value in given.items() if value is not None}


class S3Api(Protocol):
    """The part of boto3's untyped client that is used."""

    def put_object(self, **arguments: Any) -> dict[str, Any]: ...
    def get_object(self, **arguments: Any) -> dict[str, Any]: ...
    def head_object(self, **arguments: Any) -> dict[str, Any]: ...
    def list_objects_v2(self, **arguments: Any) -> dict[str, Any]: ...
    def delete_object(self, **arguments: Any) -> dict[str, Any]: ...


class SdkClients:
    """One SDK session, and a client for each set of options; clients are thread-safe, making them is not.

    The SDK's variables are read when the first client is made, which takes a tenth of a second.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._core: Any = None
        self._session: Any = None
        self._made: dict[S3Options, S3Api] = {}

    def client(self, options: S3Options) -> S3Api:
        with self._lock:
            if options not in self._made:
                self._made[options] = self._make(options)
            return self._made[options]

    def _make(self, options: S3Options) -> S3Api:
        if self._session is None:
            # Of the two names for the region that AWS uses, this SDK reads AWS_DEFAULT_REGION alone.
            self._core = botocore.session.get_session()
            attempts = max(METADATA_ATTEMPTS, int(self._core.get_config_variable(ATTEMPTS_VARIABLE)))
            self._core.set_config_variable(ATTEMPTS_VARIABLE, attempts)
            self._session = boto3.session.Session(
                botocore_session=self._core, region_name=os.environ.get("AWS_REGION") or None
            )
        # A user's own setting of it stands.
        unsigned = {"payload_signing_enabled": False} | (self._core.get_config_variable("s3") or {})
        client = self._session.client("s3", config=_config(options, unsigned))
        client.meta.events.register("before-call.s3.PutObject", _unwrap)
        client.meta.events.register("request-created.s3.PutObject", _do_not_ask)
        return cast(S3Api, client)


def _config(options: S3Options, s3: dict[str, Any]) -> Any:
    return Config(
        connect_timeout=options.connect_timeout_s,
        read_timeout=options.read_timeout_s,
        max_pool_connections=options.max_connections,
        tcp_keepalive=True,
        retries={"total_max_attempts": 1, "mode": "standard"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3=s3,
        user_agent_extra="fsnap",
    )


class Body(SlicedBody):
    """A buffer that the SDK's validation takes for a file; small ones go on as bytes.

    Of bytes it would make a file itself, and then ask the server whether it may send them
    (``Expect: 100-continue``): a round trip for each record of a journal.
    """

    def __init__(self, data: Buffer) -> None:
        self.view = memoryview(data).cast("B")
        super().__init__(self.view)


def _unwrap(params: dict[str, Any], **_: Any) -> None:
    if len(params["body"]) <= SLICE_BYTES:
        params["body"] = bytes(params["body"].view)


def _do_not_ask(request: Any, **_: Any) -> None:
    del request.headers["Expect"]
