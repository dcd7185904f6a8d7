"""What Azure's SDK raises, as fsnap's errors; which credentials it is given."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ServiceRequestError,
    ServiceResponseError,
)

from fsnap.errors import FsnapError, ObjectExists, ObjectMissing, StoreError, StoreUnavailable, StoreUnfit
from fsnap.stores._azclient import AzClients, AzOptions
from fsnap.stores._azerrors import reported
from fsnap.stores.base import CorruptTransfer


def refusal(code: str, status: int) -> HttpResponseError:
    error = HttpResponseError("Some words.\nRequestId: 1")
    error.status_code = status
    error.response = SimpleNamespace(headers={"x-ms-error-code": code} if code else {})  # type: ignore[assignment]
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (refusal("BlobAlreadyExists", 409), ObjectExists),
        (refusal("ConditionNotMet", 412), ObjectExists),
        (refusal("LeaseIdMissing", 412), StoreError),
        (refusal("ContainerBeingDeleted", 409), StoreUnavailable),
        (refusal("BlobNotFound", 404), ObjectMissing),
        (refusal("", 404), ObjectMissing),
        (refusal("ContainerNotFound", 404), StoreError),
        (refusal("AuthenticationFailed", 403), StoreError),
        (refusal("AuthorizationPermissionMismatch", 403), StoreError),
        (refusal("ServerBusy", 503), StoreUnavailable),
        (refusal("OperationTimedOut", 500), StoreUnavailable),
        (refusal("", 502), StoreUnavailable),
        (refusal("TooManyRequests", 429), StoreUnavailable),
        (refusal("Md5Mismatch", 400), CorruptTransfer),
        (refusal("NotImplemented", 501), StoreUnfit),
        (refusal("BlobArchived", 409), StoreError),
        (ClientAuthenticationError("DefaultAzureCredential failed\nto get a token"), StoreError),
        (ServiceRequestError("Connection refused"), StoreUnavailable),
        (ServiceRequestError("CERTIFICATE_VERIFY_FAILED: self-signed"), StoreError),
        (ServiceResponseError("Read timed out"), StoreUnavailable),
        (ValueError("Connection string is either blank or malformed."), StoreError),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)[:30]),
)
def test_each_failure_has_its_class(error: Exception, kind: type[FsnapError]) -> None:
    with pytest.raises(StoreError) as failure, reported("container", "write key"):
        raise error
    assert type(failure.value) is kind
    assert str(failure.value).startswith("az container container: cannot write key: ")
    assert "\n" not in str(failure.value)
    assert failure.value.hint


@pytest.mark.process  # the SDK asks the machine for its name, to tell it to the server
@pytest.mark.parametrize(
    ("variable", "value", "kind"),
    [
        ("AZURE_STORAGE_KEY", "a2V5", "SharedKeyCredentialPolicy"),
        ("AZURE_STORAGE_SAS_TOKEN", "sv=1&sig=2", "AzureSasCredential"),
        ("", "", "DefaultAzureCredential"),
    ],
)
def test_an_account_by_key_sas_or_identity(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, kind: str
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT", "account")
    if variable:
        monkeypatch.setenv(variable, value)
    client = AzClients().client("container", AzOptions())
    url = client.url
    assert url.startswith("https://account.blob.core.windows.net/container")
    if variable == "AZURE_STORAGE_SAS_TOKEN":
        assert url.endswith("?sv=1&sig=2")
    else:
        assert type(client.credential).__name__ == kind
