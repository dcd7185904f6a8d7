"""Which keys there are: checked by every adapter before it touches anything.

The alphabet is what S3, GCS, Azure and POSIX all take unquoted; it leaves ``~`` free
for names that an adapter needs for itself.
"""

from __future__ import annotations

import re

from fsnap.errors import StoreError

MAX_KEY_BYTES = 768
"""S3 takes 1024 bytes (S3 user guide, "Naming Amazon S3 objects"), the store's prefix included."""

MAX_SEGMENT_BYTES = 255
"""``NAME_MAX`` of the usual Linux file systems."""

_SEGMENT = re.compile(r"[A-Za-z0-9._=-]+")
_PARTIAL = re.compile(r"[A-Za-z0-9._=-]*")


class BadKey(StoreError, ValueError):
    """A key that no store may hold: a defect of the caller, or a name out of a damaged manifest."""

    code = "bad-key"
    hint = "Keys are segments of A-Z a-z 0-9 . _ = - joined by '/', none of them '.' or '..'."


def is_key(text: str) -> bool:
    """Whether *text* may be a key."""
    return 0 < len(text) <= MAX_KEY_BYTES and all(_is_segment(part) for part in text.split("/"))


def check_key(key: str) -> tuple[str, ...]:
    """The segments of *key*; :class:`BadKey` when it is none."""
    if not is_key(key):
        raise BadKey(f"{key[:100]!r} is not a key")
    return tuple(key.split("/"))


def check_prefix(prefix: str) -> tuple[str, ...]:
    """The whole segments that *prefix* begins with; :class:`BadKey` when no key can start with it."""
    *whole, partial = prefix.split("/")
    if (
        len(prefix) > MAX_KEY_BYTES
        or not all(_is_segment(part) for part in whole)
        or not _PARTIAL.fullmatch(partial)
    ):
        raise BadKey(f"{prefix[:100]!r} is not the beginning of a key")
    return tuple(whole)


def check_range(start: int, length: int | None) -> None:
    """``ValueError`` when *start* or *length* is negative."""
    if start < 0 or (length is not None and length < 0):
        raise ValueError(f"no such range: start {start}, length {length}")


def _is_segment(text: str) -> bool:
    return _SEGMENT.fullmatch(text) is not None and text not in (".", "..") and len(text) <= MAX_SEGMENT_BYTES
