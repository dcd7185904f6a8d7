"""Listings of buckets: byte order, also with servers that list as a tree is walked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from fsnap.errors import StoreUnfit
from fsnap.stores.base import ObjectInfo

_BEFORE_SLASH = re.compile(r"(?<=[^/])[-.]")
"""A sign within a segment that comes before ``/``: the two of a key's alphabet that do."""


def in_order(rows: Iterable[ObjectInfo], prefix: str, after: str, where: str) -> Iterator[ObjectInfo]:
    """*rows* greater than *after*, in byte order (:func:`_groups`).  *where* names the store in an error."""
    last = after
    for group in _groups(rows, prefix):
        for row in sorted(group, key=lambda row: row.key):
            if row.key <= after:
                continue
            if row.key <= last:
                raise StoreUnfit(
                    f"{where}: the store lists {row.key} after {last}, out of order",
                    hint="Use a store that lists keys in byte order.",
                )
            last = row.key
            yield row


def _groups(rows: Iterable[ObjectInfo], prefix: str) -> Iterator[list[ObjectInfo]]:
    """*rows* cut where sorting each piece sorts the whole.

    Some servers list as a tree is walked: all of ``a/`` before ``a-b`` and ``a.b``,
    though ``-`` and ``.`` come before ``/``.  (SeaweedFS 4.48 does.)  So what begins
    with ``a``, ``a-`` or ``a.`` below the prefix's directory is held until something
    else comes: of a listing of all tasks, the objects of one task at a time.
    """
    depth = prefix.count("/")
    group: list[ObjectInfo] = []
    first = ""
    for row in rows:
        segment = row.key.split("/")[depth]
        if group and segment != first and not segment.startswith((first + "-", first + ".")):
            yield group
            group = []
        if not group:
            first = segment
        group.append(row)
    yield group


def start_after(prefix: str, after: str) -> str:
    """*after*, put back so that a server which lists as a tree is walked skips nothing that is greater.

    There ``b/x`` comes before ``b-c``, and would be skipped; on ``b`` some skip it too.  So
    for both this gives ``a~``, which is less than ``b`` and all that begins with it, and
    greater than every key that is less.
    """
    if after.endswith("/"):
        return after
    sign = _BEFORE_SLASH.search(after, len(prefix) if after.startswith(prefix) else 0)
    name = after[: sign.start()] if sign else after
    return name[:-1] + chr(ord(name[-1]) - 1) + "~"
