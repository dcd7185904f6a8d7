"""Stand-ins for the modules ``threading`` and ``queue``, on fibers."""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable
from typing import Any

from _simulate.fibers import Fiber, Scheduler


class Threads:
    """Stands in for the module ``threading`` in the modules that run simulated."""

    def __init__(self, scheduler: Callable[[], Scheduler]) -> None:
        self._scheduler = scheduler

    def Thread(
        self,
        target: Callable[..., Any],
        args: tuple[Any, ...] = (),
        name: str = "",
        daemon: bool = True,
    ) -> SimThread:
        return SimThread(self._scheduler(), lambda: target(*args), name)

    def Event(self) -> SimEvent:
        return SimEvent(self._scheduler())

    def Lock(self) -> SimLock:
        return SimLock(self._scheduler())

    RLock = Lock


class SimThread:
    def __init__(self, scheduler: Scheduler, body: Callable[[], Any], name: str) -> None:
        self._scheduler = scheduler
        self._body = body
        self._name = name
        self._fiber: Fiber | None = None

    def start(self) -> None:
        process = self._scheduler.current.process
        self._fiber = process.spawn(self._name, self._body)

    def join(self, timeout: float | None = None) -> None:
        if self._fiber is None or self._fiber.done:
            return
        self._fiber.joiners.append(self._scheduler.waker())
        self._scheduler.park(timeout)

    def is_alive(self) -> bool:
        return self._fiber is not None and not self._fiber.done


class SimEvent:
    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._set = False
        self._waiters: list[Callable[[], None]] = []

    def set(self) -> None:
        self._set = True
        waiters, self._waiters = self._waiters, []
        for wake in waiters:
            wake()

    def clear(self) -> None:
        self._set = False

    def is_set(self) -> bool:
        return self._set

    def wait(self, timeout: float | None = None) -> bool:
        if not self._set:
            self._waiters.append(self._scheduler.waker())
            self._scheduler.park(timeout)
        return self._set


class SimLock:
    """A lock, and a re-entrant one."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._owner: Fiber | None = None
        self._depth = 0
        self._waiters: deque[Callable[[], None]] = deque()

    def __enter__(self) -> None:
        me = self._scheduler.current
        while self._owner is not None and self._owner is not me:
            self._waiters.append(self._scheduler.waker())
            self._scheduler.park(None)
        self._owner = me
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._owner = None
            if self._waiters:
                self._waiters.popleft()()


class Queues:
    """Stands in for the module ``queue``."""

    Empty = queue.Empty

    def __init__(self, scheduler: Callable[[], Scheduler]) -> None:
        self._scheduler = scheduler

    @property
    def SimpleQueue(self) -> Any:
        return self._make

    def _make(self) -> SimQueue:
        return SimQueue(self._scheduler())


class SimQueue:
    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._items: deque[Any] = deque()
        self._waiters: list[Callable[[], None]] = []

    def put(self, item: Any) -> None:
        self._items.append(item)
        waiters, self._waiters = self._waiters, []
        for wake in waiters:
            wake()

    def get(self, timeout: float | None = None) -> Any:
        if not self._items:
            self._waiters.append(self._scheduler.waker())
            self._scheduler.park(timeout)
        if not self._items:
            raise queue.Empty
        return self._items.popleft()

    def empty(self) -> bool:
        return not self._items
