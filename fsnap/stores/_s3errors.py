"""What S3 and its SDK say, as fsnap's errors: one line that names the bucket and the cause.

Codes: "List of error codes" and "Conditional requests" of the Amazon S3 documentation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from botocore import exceptions as sdk
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError as TransportError

from fsnap.errors import FsnapError, ObjectExists, ObjectMissing, StoreError, StoreUnavailable, StoreUnfit
from fsnap.stores.base import CorruptTransfer

_BUSY = frozenset(
    {
        "ConditionalRequestConflict",
        "InternalError",
        "OperationAborted",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
        "TooManyRequestsException",
    }
)
_DAMAGED = frozenset(
    {
        "BadDigest",
        "IncompleteBody",
        "InvalidDigest",
        "XAmzContentChecksumMismatch",
        "XAmzContentSHA256Mismatch",
    }
)
_CREDENTIALS = "Give credentials in the SDK's own way (instance role, AWS_PROFILE, AWS_ACCESS_KEY_ID, …)."
_ENDPOINT = "Check AWS_ENDPOINT_URL, AWS_REGION and the network."
_REGION = "Set AWS_REGION to the bucket's region."
_HINTS = {
    "NoSuchBucket": "fsnap makes no buckets; create it, or correct the URL or AWS_ENDPOINT_URL.",
    "AccessDenied": "It takes s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket.",
    "AllAccessDisabled": "The bucket's owner has disabled it.",
    "InvalidAccessKeyId": _CREDENTIALS,
    "SignatureDoesNotMatch": "The secret key is wrong. " + _CREDENTIALS,
    "ExpiredToken": "Renew the session. " + _CREDENTIALS,
    "InvalidToken": _CREDENTIALS,
    "RequestTimeTooSkewed": "Set this machine's clock.",
    "PermanentRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "InvalidObjectState": "The object was moved to an archive class; keep lifecycle rules off this prefix.",
}
_MAY_PASS = (
    sdk.EndpointConnectionError,
    sdk.ConnectionClosedError,
    sdk.ConnectTimeoutError,
    sdk.ReadTimeoutError,
    sdk.ProxyConnectionError,
    sdk.ResponseStreamingError,
    sdk.IncompleteReadError,
    sdk.HTTPClientError,
    sdk.CredentialRetrievalError,
    sdk.MetadataRetrievalError,
)
_NO_CREDENTIALS = (
    sdk.NoCredentialsError,
    sdk.PartialCredentialsError,
    sdk.ProfileNotFound,
    sdk.NoAuthTokenError,
    sdk.SSOError,
)


@contextmanager
def reported(bucket: str, doing: str) -> Iterator[None]:
    """Turn what the SDK raises in the body into a store error.  *doing*: ``"read tasks/x"``."""
    try:
        yield
    except sdk.ClientError as error:
        raise _refusal(error.response, bucket, doing) from error
    except sdk.FlexibleChecksumError as error:
        raise CorruptTransfer(f"s3 bucket {bucket}: cannot {doing}: {_line(error)}") from error
    except sdk.BotoCoreError as error:
        raise _failure(error, bucket, doing) from error
    except (ResponseParserError, TransportError) as error:
        # An answer that is no XML (a proxy's own page), or an error's answer that broke off, which the SDK
        # lets through as it is.
        raise StoreUnavailable(f"s3 bucket {bucket}: cannot {doing}: {_line(error)}") from error
    except ValueError as error:  # an endpoint or a region that no URL can be made of
        raise StoreError(f"s3 bucket {bucket}: cannot {doing}: {_line(error)}", hint=_ENDPOINT) from error


def error_code(error: sdk.ClientError) -> tuple[str, int]:
    """S3's code and the HTTP status of *error*; the code of an answer without body is its status."""
    return _code(error.response)


def _code(response: Mapping[str, Any]) -> tuple[str, int]:
    code = str(response.get("Error", {}).get("Code", ""))
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    return code, status


def _refusal(response: Mapping[str, Any], bucket: str, doing: str) -> FsnapError:
    """The server's answer was an error."""
    code, status = _code(response)
    said = _line(response.get("Error", {}).get("Message", ""))
    answer = f"HTTP {status}, {said}" if said else f"HTTP {status}"
    line = f"s3 bucket {bucket}: cannot {doing}: {code or 'no code'} ({answer})"
    if status == 412:
        return ObjectExists(line)
    if code == "NoSuchKey" or (status == 404 and code in ("404", "NotFound", "")):
        return ObjectMissing(line)
    if code == "NotImplemented" or status == 501:
        return StoreUnfit(line)
    if code in _DAMAGED:
        return CorruptTransfer(line)
    if code in _BUSY or status in (408, 409, 425, 429) or status >= 500 or status < 300:
        return StoreUnavailable(line)
    if code in ("403", "Forbidden"):
        code = "AccessDenied"
    return StoreError(line, hint=_HINTS.get(code))


def _failure(error: sdk.BotoCoreError, bucket: str, doing: str) -> StoreError:
    """There was no answer, or the SDK did not even ask."""
    line = f"s3 bucket {bucket}: cannot {doing}: {_line(error)}"
    if isinstance(error, sdk.SSLError):
        return StoreError(line, hint="Check the endpoint's certificate, and AWS_CA_BUNDLE.")
    if isinstance(error, _MAY_PASS):
        return StoreUnavailable(line, hint=_ENDPOINT)
    if isinstance(error, _NO_CREDENTIALS):
        return StoreError(line, hint=_CREDENTIALS)
    return StoreError(line)


def _line(text: object) -> str:
    """*text* as one line of at most 300 characters, without the full stop."""
    return " ".join(str(text).split())[:300].rstrip(".")
