"""What Google Cloud Storage and its SDK say, as fsnap's errors: one line that names the bucket and the cause.

Codes: "HTTP status and error codes for JSON" of the Cloud Storage documentation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from google.api_core.exceptions import GoogleAPIError
from google.auth import exceptions as auth
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
from requests.exceptions import RequestException, SSLError
from urllib3.exceptions import HTTPError as TransportError

from fsnap.errors import FsnapError, ObjectExists, ObjectMissing, StoreError, StoreUnavailable, StoreUnfit
from fsnap.stores.base import CorruptTransfer

_CREDENTIALS = (
    "Give credentials in the SDK's own way (the node's service account, GOOGLE_APPLICATION_CREDENTIALS, …)."
)
_ENDPOINT = "Check STORAGE_EMULATOR_HOST, GOOGLE_CLOUD_UNIVERSE_DOMAIN and the network."
_RIGHTS = "It takes storage.objects.get, .create, .delete and .list: roles/storage.objectUser."
_DAMAGED = re.compile(r"\b(crc32c|md5)\b.*(match|validation failed)", re.IGNORECASE)
_NO_BUCKET = "fsnap makes no buckets; create it, or correct the URL."


@contextmanager
def reported(bucket: str, doing: str) -> Iterator[None]:
    """Turn what the SDK raises in the body into a store error.  *doing*: ``"read tasks/x"``."""
    place = f"gs bucket {bucket}: cannot {doing}"
    try:
        yield
    except GoogleAPIError as error:
        raise _refusal(int(getattr(error, "code", 0) or 0), error, place) from error
    except InvalidResponse as error:
        raise _refusal(int(error.response.status_code), error, place) from error
    except DataCorruption as error:
        raise CorruptTransfer(f"{place}: it differs from its checksum") from error
    except auth.TransportError as error:
        raise StoreUnavailable(f"{place}: {one_line(error)}", hint=_ENDPOINT) from error
    except auth.GoogleAuthError as error:
        kind = StoreUnavailable if error.retryable else StoreError
        raise kind(f"{place}: {one_line(error)}", hint=_CREDENTIALS) from error
    except SSLError as error:
        raise StoreError(
            f"{place}: {one_line(error)}", hint="Check the endpoint's certificate, and REQUESTS_CA_BUNDLE."
        ) from error
    except ValueError as error:  # an endpoint that no URL can be made of
        raise StoreError(f"{place}: {one_line(error)}", hint=_ENDPOINT) from error
    except (RequestException, TransportError, ConnectionError) as error:
        raise StoreUnavailable(f"{place}: {one_line(error)}", hint=_ENDPOINT) from error


def _refusal(status: int, error: Exception, place: str) -> FsnapError:
    """The server's answer was an error."""
    said = one_line(getattr(error, "message", None) or error)
    line = f"{place}: HTTP {status}, {said}"
    if status in (400, 412) and _DAMAGED.search(said):  # no condition, though some servers answer as if
        return CorruptTransfer(line)
    if status == 412:
        return ObjectExists(line)
    if status == 404:
        missing = "bucket does not exist" in said or "bucket not found" in said.lower()
        return StoreError(line, hint=_NO_BUCKET) if missing else ObjectMissing(line)
    if status == 501:
        return StoreUnfit(line)
    if status in (0, 408, 409, 425, 429) or status >= 500:
        return StoreUnavailable(line)
    return StoreError(line, hint={401: _CREDENTIALS, 403: _RIGHTS}.get(status))


def no_bucket(bucket: str, doing: str) -> StoreError:
    """There is no such bucket, which not every server says in its answer for an object."""
    return StoreError(f"gs bucket {bucket}: cannot {doing}: the bucket does not exist", hint=_NO_BUCKET)


def one_line(text: object) -> str:
    """*text* as one line of at most 300 characters, without the full stop."""
    return " ".join(str(text).split())[:300].rstrip(".")
