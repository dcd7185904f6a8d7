"""The bucket.

Fault model: it is strongly consistent and loses nothing that it confirmed.  Any request
may be slow, or be refused (503) and not done.  The answer to any write may be lost, with
the write done, not done, or done seconds later, whatever else was written since.  The
bucket may be away for all nodes (an outage) or for one (a partition).  A request under way
is carried out even if its sender dies.  A pack that was stored may rot.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from _simulate.clock import SimClock
from _simulate.fibers import Scheduler
from fsnap.errors import FsnapError, StoreUnavailable
from fsnap.stores.base import Buffer, ObjectInfo
from fsnap.stores.memory import MemoryStore

if TYPE_CHECKING:
    from _simulate.node import SimNode

URL = "memory://bucket"
LATENCY_S = 0.02
CALL_TIMEOUT_S = 2.0
LATE_S = 12.0


@dataclass(slots=True)
class StoreFaults:
    """How likely each request is to go wrong."""

    busy: float = 0.0
    lost: float = 0.0
    slow: float = 0.0


class Bucket:
    """What all nodes share."""

    def __init__(self, scheduler: Scheduler, rng: Random, count: Callable[[str], None]) -> None:
        self.scheduler = scheduler
        self.rng = rng
        self.count = count
        self.faults = StoreFaults()
        self.away = False
        self.objects = MemoryStore(url=URL, clock=SimClock(scheduler, mono_offset_s=0.0, wall_offset_s=0.0))
        self.on_write: Callable[[str, bytes], None] = lambda key, data: None

    def write(self, key: str, data: bytes, *, create: bool) -> FsnapError | None:
        """Carry it out now."""
        try:
            if create:
                self.objects.create(key, data)
            else:
                self.objects.put(key, data)
        except FsnapError as problem:
            return problem
        self.on_write(key, data)
        return None

    def deliver(self, key: str, data: bytes, *, create: bool) -> None:
        """A request whose sender hears nothing arrives."""
        self.write(key, data, create=create)

    def rot(self) -> bool:
        """Damage a pack; false when there is none."""
        packs = [row.key for row in self.objects.list() if "/packs/" in row.key]
        if not packs:
            return False
        self.objects.put(self.rng.choice(packs), b"rotten")
        return True


class NodeStore:
    """The bucket as one node reaches it: a :class:`fsnap.stores.base.Store`."""

    url = URL

    def __init__(self, bucket: Bucket, node: SimNode) -> None:
        self._bucket = bucket
        self._node = node

    def put(self, key: str, data: Buffer) -> None:
        self._write(key, bytes(data), create=False)

    def create(self, key: str, data: Buffer) -> None:
        self._write(key, bytes(data), create=True)

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        self._travel()
        return self._bucket.objects.get(key, start=start, length=length)

    def list(self, prefix: str = "", *, after: str = "") -> Iterator[ObjectInfo]:
        self._travel()
        yield from self._bucket.objects.list(prefix, after=after)

    def delete(self, key: str) -> None:
        self._travel()
        self._bucket.objects.delete(key)

    def _latency_s(self) -> float:
        bucket = self._bucket
        seconds = LATENCY_S * (0.5 + bucket.rng.random())
        if bucket.faults.slow and bucket.rng.random() < bucket.faults.slow:
            bucket.count("slow request")
            seconds += bucket.rng.random() * CALL_TIMEOUT_S
        return seconds

    def _reachable(self) -> bool:
        return not (self._bucket.away or self._node.partitioned)

    def _travel(self) -> None:
        """A request and its answer, or why not."""
        bucket = self._bucket
        bucket.scheduler.sleep(self._latency_s())
        if not self._reachable():
            bucket.scheduler.sleep(CALL_TIMEOUT_S)
            raise StoreUnavailable(f"{URL}: no answer")
        if bucket.faults.busy and bucket.rng.random() < bucket.faults.busy:
            bucket.count("503")
            raise StoreUnavailable(f"{URL}: 503")

    def _write(self, key: str, data: bytes, *, create: bool) -> None:
        bucket = self._bucket
        if not self._reachable():
            bucket.scheduler.sleep(CALL_TIMEOUT_S)
            raise StoreUnavailable(f"{URL}: no answer")
        if bucket.faults.busy and bucket.rng.random() < bucket.faults.busy:
            bucket.scheduler.sleep(self._latency_s())
            bucket.count("503")
            raise StoreUnavailable(f"{URL}: 503")
        if bucket.faults.lost and bucket.rng.random() < bucket.faults.lost:
            self._lose(key, data, create)
        latency_s = self._latency_s()
        answers: list[FsnapError | None] = []
        bucket.scheduler.after(latency_s / 2, lambda: answers.append(bucket.write(key, data, create=create)))
        bucket.scheduler.sleep(latency_s)
        if not answers or (not self._reachable() and bucket.rng.random() < 0.5):
            bucket.scheduler.sleep(CALL_TIMEOUT_S)
            raise StoreUnavailable(f"{URL}: no answer")
        if answers[0] is not None:
            raise answers[0]

    def _lose(self, key: str, data: bytes, create: bool) -> None:
        """No answer comes, whatever becomes of the request."""
        bucket = self._bucket
        fate = bucket.rng.choice(("done", "not done", "late"))
        bucket.count(f"lost answer, {fate}")
        if fate != "not done":
            delay_s = LATENCY_S if fate == "done" else bucket.rng.random() * LATE_S
            bucket.scheduler.after(delay_s, functools.partial(bucket.deliver, key, data, create=create))
        bucket.scheduler.sleep(CALL_TIMEOUT_S * bucket.rng.random())
        raise StoreUnavailable(f"{URL}: the answer was lost")
