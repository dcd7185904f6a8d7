"""The store port: what fsnap asks of a bucket, and what it may rely on.

Keys are relative, ``/``-separated, made of ``[A-Za-z0-9._=-]`` segments, never
empty, never ``.`` or ``..`` (:mod:`fsnap.stores.keys`; anything else raises
:class:`~fsnap.stores.keys.BadKey`).  No key is another one's directory: where ``a``
is an object, ``a/b`` is none.  Objects are at most 64 MiB, so that one request
carries a whole one.  All methods are safe to call from several threads.

Rules that every adapter keeps, and the conformance suite checks:

*put* is atomic (a reader sees the old bytes or the new ones) and returns only
after the store has confirmed the bytes by a checksum of its own or, where it has
none, after they are durable and their length was read back.  Repeating it is
harmless, but a put that was given up may still arrive: the key can then show those
bytes even after a later put of others.

*create* is *put* that fails with :class:`~fsnap.errors.ObjectExists` when the key
is there already.  Of any number of concurrent creators exactly one succeeds.  A
create that raised anything but ObjectExists may have succeeded, now or later: the
caller reads back and compares.  An object that ObjectExists speaks of is durable.

*get* returns exactly the bytes asked for or raises; a short object raises
:class:`~fsnap.errors.CorruptData`.  *list* is strongly consistent and ordered by
key (which is byte order); names that are no keys are passed over.

*delete* of a missing key is not an error.

Adapters never retry.  What may be tried again raises an error with
``retryable = True`` (:class:`~fsnap.errors.StoreUnavailable`, or
:class:`CorruptTransfer`); :class:`~fsnap.stores.retrying.RetryingStore` is the one
place that does so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from fsnap.errors import CorruptData, StoreUnavailable

Buffer = bytes | bytearray | memoryview


class CorruptTransfer(StoreUnavailable, CorruptData):
    """Bytes differ from the checksum that went with them, on the way in or out; the next try may be clean."""

    code = "corrupt-transfer"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """One row of a listing."""

    key: str
    size_bytes: int
    modified_s: float
    """Seconds since the epoch by the store's clock; for people and ``gc``, never for the protocol."""


class Store(Protocol):
    """A bucket, or a directory, under one prefix."""

    @property
    def url(self) -> str:
        """The URL that the user gave, in its normal form, without credentials."""
        ...

    def put(self, key: str, data: Buffer) -> None:
        """Store *data* under *key*, replacing what is there."""
        ...

    def create(self, key: str, data: Buffer) -> None:
        """Store *data* under *key* only if nothing is there; else :class:`~fsnap.errors.ObjectExists`."""
        ...

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """The object's bytes from *start*; *length* of them, or all.

        :class:`~fsnap.errors.ObjectMissing` where there is none;
        :class:`~fsnap.errors.CorruptData` where the object ends before ``start + length`` or before *start*;
        ``ValueError`` when either is negative.
        """
        ...

    def list(self, prefix: str = "", *, after: str = "") -> Iterator[ObjectInfo]:
        """Every object whose key starts with *prefix* and is greater than *after*, by key."""
        ...

    def delete(self, key: str) -> None:
        """Remove *key*; nothing happens when it is not there."""
        ...


@runtime_checkable
class Hurriable(Protocol):
    """What a store has besides when it can bound how long one of its calls may wait."""

    def hurried(self, wait_s: float) -> Store:
        """The same store, with no wait for the network in a single call longer than *wait_s* seconds."""
        ...
