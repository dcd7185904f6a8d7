"""What Google's SDK raises, as fsnap's errors."""

from __future__ import annotations

import pytest
import requests
from google.api_core import exceptions as api
from google.auth import exceptions as auth
from google.cloud.storage.exceptions import DataCorruption

from fsnap.errors import FsnapError, ObjectExists, ObjectMissing, StoreError, StoreUnavailable, StoreUnfit
from fsnap.stores._gserrors import reported
from fsnap.stores.base import CorruptTransfer


@pytest.mark.process  # a library that is imported looks whether it may bind to IPv6
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (api.PreconditionFailed("At least one of the pre-conditions did not hold."), ObjectExists),
        (api.PreconditionFailed("crc32c validation failed. Expected = 3 vs Actual = 1."), CorruptTransfer),
        (api.BadRequest('Provided CRC32C "a" doesn\'t match calculated CRC32C "b".'), CorruptTransfer),
        (api.BadRequest("Invalid bucket name"), StoreError),
        (api.NotFound("No such object: bucket/key"), ObjectMissing),
        (api.NotFound("The specified bucket does not exist."), StoreError),
        (api.Unauthorized("Anonymous caller"), StoreError),
        (api.Forbidden("does not have storage.objects.create access"), StoreError),
        (api.TooManyRequests("rate limit"), StoreUnavailable),
        (api.Conflict("busy"), StoreUnavailable),
        (api.InternalServerError("oops"), StoreUnavailable),
        (api.ServiceUnavailable("busy"), StoreUnavailable),
        (api.MethodNotImplemented("no"), StoreUnfit),
        (DataCorruption(None, "Checksum mismatch"), CorruptTransfer),
        (auth.DefaultCredentialsError("none\nfound"), StoreError),
        (auth.RefreshError("refused"), StoreError),
        (auth.RefreshError("no answer", retryable=True), StoreUnavailable),
        (auth.TransportError("no answer"), StoreUnavailable),
        (requests.ConnectionError("refused"), StoreUnavailable),
        (requests.Timeout("silent"), StoreUnavailable),
        (requests.exceptions.ChunkedEncodingError("broke off"), StoreUnavailable),
        (requests.exceptions.SSLError("self-signed"), StoreError),
        (requests.exceptions.InvalidURL("no host"), StoreError),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)[:30]),
)
def test_each_failure_has_its_class(error: Exception, kind: type[FsnapError]) -> None:
    with pytest.raises(StoreError) as failure, reported("bucket", "write key"):
        raise error
    assert type(failure.value) is kind
    assert str(failure.value).startswith("gs bucket bucket: cannot write key: ")
    assert "\n" not in str(failure.value)
    assert failure.value.hint
