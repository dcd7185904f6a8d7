"""From a ``--store`` URL to a store.

``file:///dir`` takes percent escapes, as file URLs do; bucket URLs are taken as they
are, as the clouds' own tools do.  Endpoints, regions and credentials never stand in a
URL: each SDK reads its own variables.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

from fsnap.errors import UsageError
from fsnap.stores.base import Store
from fsnap.stores.file import FileStore
from fsnap.stores.keys import MAX_KEY_BYTES

STORAGE_CLASS = "FSNAP_STORAGE_CLASS"
"""A storage class of S3 or Google, or an access tier of Azure; else the bucket's default."""

KMS_KEY = "FSNAP_KMS_KEY"
"""A key of AWS or Google, or an encryption scope of Azure; else the bucket's default."""

S3_SSE = "FSNAP_S3_SSE"
"""``AES256``, ``aws:kms`` or ``aws:kms:dsse``; with a key alone it is ``aws:kms``."""

_FORMS = "A store is file:///dir, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix."
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}")
_MAX_PREFIX_BYTES = 1024 - MAX_KEY_BYTES - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreUrl:
    """A store URL taken apart.  For ``file`` the bucket is empty and *path* absolute."""

    scheme: str
    bucket: str
    path: str

    def __str__(self) -> str:
        if self.scheme == "file":
            return "file://" + quote(self.path)
        return f"{self.scheme}://{self.bucket}" + (f"/{self.path}" if self.path else "")


def parse_url(url: str) -> StoreUrl:
    """*url* taken apart; :class:`~fsnap.errors.UsageError` says in one line what is wrong with it."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        if url.startswith("/"):
            raise _bad(url, f"it has no scheme; say file://{url}")
        raise _bad(url, "it has no scheme")
    if any(ord(sign) < 0x20 or ord(sign) == 0x7F for sign in url):
        raise _bad(url, "it holds a control character")
    authority = rest.partition("/")[0]
    if "@" in authority:
        hidden = f"{scheme}://***@{authority.rpartition('@')[2]}"
        raise _bad(hidden, "it holds credentials; they come from the SDK's own variables or the node's role")
    if "?" in rest or "#" in rest:
        raise _bad(url, "a query or a fragment means nothing here (in a file URL write ? as %3F, # as %23)")
    if scheme == "file":
        return _parse_file(url, rest)
    if scheme in ("s3", "gs", "az"):
        return _parse_bucket(url, scheme, rest)
    raise _bad(url, f"unknown scheme {scheme!r}")


def normal_url(url: str) -> str:
    """*url* in the one form that equal stores share; raises as :func:`parse_url` does."""
    return str(parse_url(url))


def open_store(url: str, *, create: bool = True) -> Store:
    """The store at *url*, unprobed and without retries.

    A ``file`` store that is not there is made, with its parents, unless *create* is
    false; buckets must exist.  ``FSNAP_STORAGE_CLASS``, ``FSNAP_KMS_KEY`` and
    ``FSNAP_S3_SSE`` say how a bucket keeps what is put.
    :class:`~fsnap.errors.UsageError` for a bad URL or an SDK that is not installed,
    :class:`~fsnap.errors.StoreError` for a directory that cannot be opened.  No request
    goes to a bucket yet.
    """
    parsed = parse_url(url)
    if parsed.scheme == "file":
        return FileStore(parsed.path, create=create)
    try:
        return _open_bucket(parsed)
    except ImportError as error:
        extra = "fsnap[azure]" if parsed.scheme == "az" else "fsnap"
        raise UsageError(
            f"store URL {str(parsed)!r}: what speaks to {parsed.scheme}:// is not installed ({error})",
            hint=f"Install it: pip install '{extra}'.",
        ) from None


def _open_bucket(parsed: StoreUrl) -> Store:
    """The SDKs are heavy, so each is imported when its scheme is asked for."""
    storage_class = os.environ.get(STORAGE_CLASS) or None
    kms_key = os.environ.get(KMS_KEY) or None
    if parsed.scheme == "s3":
        from fsnap.stores.s3 import S3Options, S3Store

        encryption = os.environ.get(S3_SSE) or None
        s3 = S3Options(server_side_encryption=encryption, kms_key_id=kms_key, storage_class=storage_class)
        return S3Store(parsed.bucket, parsed.path, options=s3)
    if parsed.scheme == "gs":
        from fsnap.stores.gs import GsOptions, GsStore

        gs = GsOptions(kms_key_name=kms_key, storage_class=storage_class)
        return GsStore(parsed.bucket, parsed.path, options=gs)
    from fsnap.stores.az import AzOptions, AzStore

    az = AzOptions(encryption_scope=kms_key, access_tier=storage_class)
    return AzStore(parsed.bucket, parsed.path, options=az)


def _parse_file(url: str, rest: str) -> StoreUrl:
    if not rest.startswith("/"):
        raise _bad(url, "a file URL has three slashes, no host, and an absolute path: file:///dir")
    path = unquote(rest, errors="surrogateescape")
    if "\0" in path:
        raise _bad(url, "it holds a control character")
    if ".." in path.split("/"):
        raise _bad(url, "it holds '..'")
    path = os.path.normpath("/" + path.strip("/"))
    if path == "/":
        raise _bad(url, "the root directory cannot be a store")
    return StoreUrl(scheme="file", bucket="", path=path)


def _parse_bucket(url: str, scheme: str, rest: str) -> StoreUrl:
    bucket, _, prefix = rest.partition("/")
    noun = "container" if scheme == "az" else "bucket"
    if not bucket:
        raise _bad(url, f"it names no {noun}")
    if ":" in bucket:
        raise _bad(url, f"a port cannot follow the {noun}; the endpoint comes from the SDK's own variables")
    if not _BUCKET.fullmatch(bucket):
        raise _bad(url, f"{bucket!r} cannot be the name of a {noun}")
    prefix = prefix.strip("/")
    if prefix and any(part in ("", ".", "..") for part in prefix.split("/")):
        raise _bad(url, "its prefix holds an empty segment, '.' or '..'")
    if len(prefix.encode(errors="surrogateescape")) > _MAX_PREFIX_BYTES:
        raise _bad(url, f"its prefix is longer than {_MAX_PREFIX_BYTES} bytes")
    return StoreUrl(scheme=scheme, bucket=bucket, path=prefix)


def _bad(url: str, why: str) -> UsageError:
    return UsageError(f"store URL {url!r}: {why}", hint=_FORMS)
