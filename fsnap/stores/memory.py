"""A store in this process's memory, for tests; it keeps every rule of the port."""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator
from itertools import takewhile

from fsnap.clock import Clock, SystemClock
from fsnap.errors import CorruptData, ObjectExists, ObjectMissing, StoreError
from fsnap.stores.base import Buffer, ObjectInfo
from fsnap.stores.keys import check_key, check_prefix, check_range


class MemoryStore:
    """Objects in a dictionary under one lock.  A listing is a copy made at the call."""

    def __init__(self, *, url: str = "memory://", clock: Clock | None = None) -> None:
        self._url = url
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._objects: dict[str, tuple[bytes, float]] = {}
        self._keys: list[str] = []

    @property
    def url(self) -> str:
        return self._url

    def put(self, key: str, data: Buffer) -> None:
        self._store(key, bytes(data), lambda: None)

    def create(self, key: str, data: Buffer) -> None:
        def refuse() -> None:
            raise ObjectExists(f"{self._url}: {key} exists already")

        self._store(key, bytes(data), refuse)

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        check_key(key)
        check_range(start, length)
        with self._lock:
            if key not in self._objects:
                raise ObjectMissing(f"{self._url}: no object {key}")
            data, _ = self._objects[key]
        end = len(data) if length is None else start + length
        if start > len(data) or end > len(data):
            raise CorruptData(
                f"{self._url}: {key} has {len(data)} bytes, not the {max(start, end)} asked for"
            )
        return data[start:end]

    def list(self, prefix: str = "", *, after: str = "") -> Iterator[ObjectInfo]:
        check_prefix(prefix)
        check_prefix(after)
        with self._lock:
            first = max(bisect_left(self._keys, prefix), bisect_right(self._keys, after) if after else 0)
            found = takewhile(lambda key: key.startswith(prefix), self._keys[first:])
            rows = [(key, *self._objects[key]) for key in found]
        return (ObjectInfo(key=key, size_bytes=len(data), modified_s=when) for key, data, when in rows)

    def delete(self, key: str) -> None:
        check_key(key)
        with self._lock:
            if self._objects.pop(key, None) is not None:
                del self._keys[bisect_left(self._keys, key)]

    def _store(self, key: str, data: bytes, if_there: Callable[[], None]) -> None:
        parts = check_key(key)
        modified_s = self._clock.wall().timestamp()
        with self._lock:
            if key in self._objects:
                if_there()
            else:
                self._refuse_nesting(key, parts)
                insort(self._keys, key)
            self._objects[key] = (data, modified_s)

    def _refuse_nesting(self, key: str, parts: tuple[str, ...]) -> None:
        """A directory cannot do it either, so that tests on memory find it too."""
        below = bisect_left(self._keys, key + "/")
        if below < len(self._keys) and self._keys[below].startswith(key + "/"):
            raise StoreError(f"{self._url}: {key} is the directory of {self._keys[below]}")
        for depth in range(1, len(parts)):
            above = "/".join(parts[:depth])
            if above in self._objects:
                raise StoreError(f"{self._url}: {above} is an object, so {key} cannot be")
