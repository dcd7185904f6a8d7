"""Ranges from stores that cut one down to the object and say nothing of it.

Each answer is compared with the question.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from fsnap.errors import CorruptData, StoreError, StoreUnavailable, StoreUnfit
from fsnap.stores.keys import check_key, check_range


class CheckedRanges(ABC):
    """The ``get`` of a store.

    *place* names it in messages (``"gs bucket b"``); *base* is put before each key.
    """

    def __init__(self, place: str, base: str) -> None:
        self._place = place
        self._base = base

    @abstractmethod
    def _read(self, key: str, start: int, length: int | None, doing: str) -> bytes | None:
        """What the server gives for this range, or None when it says that there is no such range.

        Without *length* it is the whole object; *doing* goes into errors.
        """

    @abstractmethod
    def _size_bytes(self, key: str, doing: str) -> int:
        """The object's size, asked anew."""

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        check_key(key)
        check_range(start, length)
        doing = f"read {self._base}{key}"
        if length == 0 or (start and length is None):  # a range can ask for nothing, nor be open and checked
            size_bytes = self._size_bytes(key, doing)
            if start > size_bytes:
                raise self._short(key, size_bytes, start)
            length = size_bytes - start if length is None else 0
            if length == 0:
                return b""
        data = self._read(key, start, length, doing)
        if data is None or (length is not None and len(data) != length):
            raise self._not_the_range(key, start, length or 0, data, doing)
        return data

    def _not_the_range(
        self, key: str, start: int, length: int, data: bytes | None, doing: str
    ) -> CorruptData | StoreError:
        """Why the answer is not the range that was asked for."""
        size_bytes = self._size_bytes(key, doing)
        object_ = f"{self._place}: {self._base}{key}"
        if start + length > size_bytes:
            return self._short(key, size_bytes, start + length)
        if data is not None and len(data) > length:
            return StoreUnfit(
                f"{object_}: asked for {length} bytes from byte {start}, the store answered with {len(data)}",
                hint="Use a store that honours range requests.",
            )
        return StoreUnavailable(f"{object_} was replaced while it was read, or its answer broke off")

    def _short(self, key: str, size_bytes: int, end: int) -> CorruptData:
        return CorruptData(
            f"{self._place}: {self._base}{key} has {size_bytes} bytes, not the {end} asked for"
        )
