"""What Azure Blob Storage and its SDK say, as fsnap's errors: a line that names the container and the cause.

Codes: "Blob Storage error codes" and "Common REST API error codes" of the Azure documentation.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    IncompleteReadError,
    ServiceRequestError,
    ServiceResponseError,
)

from fsnap.errors import FsnapError, ObjectExists, ObjectMissing, StoreError, StoreUnavailable, StoreUnfit
from fsnap.stores.base import CorruptTransfer

CREDENTIALS = "Give AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT and an identity."
_ENDPOINT = "Check the account's name or the connection string's endpoint, and the network."
_RIGHTS = "The identity needs the role 'Storage Blob Data Contributor' on the container."
_EXISTS = frozenset({"BlobAlreadyExists", "ConditionNotMet", "TargetConditionNotMet"})
_BUSY = frozenset({"ContainerBeingDeleted", "InternalError", "OperationTimedOut", "ServerBusy"})
_DAMAGED = frozenset({"Crc64Mismatch", "InvalidMd5", "Md5Mismatch"})
_HINTS = {
    "ContainerNotFound": "fsnap makes no containers; create it, or correct the URL.",
    "AuthenticationFailed": CREDENTIALS,
    "AuthorizationFailure": f"{CREDENTIALS} {_RIGHTS}",
    "AuthorizationPermissionMismatch": _RIGHTS,
    "BlobArchived": "The object was moved to the archive tier; keep lifecycle rules off this prefix.",
    "NoAuthenticationInformation": CREDENTIALS,
}


@contextmanager
def reported(container: str, doing: str) -> Iterator[None]:
    """Turn what the SDK raises in the body into a store error.  *doing*: ``"read tasks/x"``."""
    place = f"az container {container}: cannot {doing}"
    try:
        yield
    except IncompleteReadError as error:
        raise StoreUnavailable(f"{place}: {one_line(error)}") from error
    except HttpResponseError as error:
        if isinstance(error, ClientAuthenticationError) and error.response is None:
            raise StoreError(f"{place}: {one_line(error)}", hint=CREDENTIALS) from error
        raise _refusal(error, place) from error
    except (ServiceRequestError, ServiceResponseError) as error:
        said = one_line(error)
        if "CERTIFICATE_VERIFY_FAILED" in said:
            raise StoreError(
                f"{place}: {said}", hint="Check the endpoint's certificate, and REQUESTS_CA_BUNDLE."
            ) from error
        raise StoreUnavailable(f"{place}: {said}", hint=_ENDPOINT) from error
    except AzureError as error:
        raise StoreError(f"{place}: {one_line(error)}") from error
    except ValueError as error:  # a connection string or an account that no URL can be made of
        raise StoreError(f"{place}: {one_line(error)}", hint=CREDENTIALS) from error


def error_code(error: HttpResponseError) -> tuple[str, int]:
    """Azure's code, empty where it sent none, and the HTTP status."""
    headers = getattr(error.response, "headers", None) or {}
    code = getattr(error, "error_code", None) or headers.get("x-ms-error-code") or ""
    return str(getattr(code, "value", code)), int(error.status_code or 0)


def _refusal(error: HttpResponseError, place: str) -> FsnapError:
    """The server's answer was an error."""
    code, status = error_code(error)
    said = one_line(str(error.message).partition("\n")[0])
    line = f"{place}: {code or 'no code'} (HTTP {status}, {said})"
    if code in _EXISTS:
        return ObjectExists(line)
    if code in ("BlobNotFound", "ResourceNotFound") or (status == 404 and not code):
        return ObjectMissing(line)
    if status == 501:
        return StoreUnfit(line)
    if code in _DAMAGED or (status == 400 and "MD5 doesn't match" in said):  # so says Azurite
        return CorruptTransfer(line)
    if code in _BUSY or status in (0, 408, 425, 429) or status >= 500 or status < 300:
        return StoreUnavailable(line)
    return StoreError(line, hint=_HINTS.get(code, _RIGHTS if status == 403 else None))


def one_line(text: object) -> str:
    """*text* as one line of at most 300 characters, without the full stop."""
    return " ".join(str(text).split())[:300].rstrip(".")
