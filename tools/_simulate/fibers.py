"""Simulated time, and threads and processes in it: one at a time, in an order that the seed alone decides.

A thread of the agent is a greenlet here.  It runs until it waits for something (a clock,
a store, an event, a lock); then the event queue's next entry is due and time jumps there.
Nothing ever really waits.

Fault model: a process can be killed (no handler of its own runs, its open requests may
still arrive), stopped and continued (its timers fire when it goes on), and all of a node
can be paused: its monotonic clock stands still, ``CLOCK_BOOTTIME`` and the world go on.
Threads change places only where they wait.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import greenlet  # type: ignore[import-untyped,unused-ignore]

if TYPE_CHECKING:
    from _simulate.node import SimNode


class Killed(BaseException):
    """Raised in a fiber of a process that is dead: nothing it does from here on counts."""


class Endless(Exception):
    """The simulation takes more steps than any right one does."""


class Timer:
    """One entry of the event queue."""

    __slots__ = ("call", "node", "when")

    def __init__(self, when: float, call: Callable[[], None] | None, node: SimNode | None) -> None:
        self.when = when
        self.call = call
        self.node = node

    def cancel(self) -> None:
        """It will not fire."""
        self.call = None


class Fiber:
    """A thread."""

    __slots__ = ("done", "glet", "joiners", "name", "process", "wakeups")

    def __init__(self, process: Process, name: str, body: Callable[[], Any]) -> None:
        self.process = process
        self.name = name
        self.wakeups = 0
        """Grows with each wait, so that a late wake-up of an earlier one is known as such."""
        self.done = False
        self.joiners: list[Callable[[], None]] = []
        self.glet = greenlet.greenlet(body, parent=process.hub)


class Process:
    """An agent: its threads live and die together."""

    def __init__(self, scheduler: Scheduler, node: SimNode, name: str) -> None:
        self._scheduler = scheduler
        self.hub = scheduler.hub
        self.node = node
        self.name = name
        self.alive = True
        self.stopped = False
        self._deferred: list[Callable[[], None]] = []
        self.fibers: list[Fiber] = []
        self.on_end: list[Callable[[], None]] = []
        """What the kernel does when the process is gone: its pipes close."""

    def spawn(self, name: str, body: Callable[[], Any]) -> Fiber:
        """A new thread; it begins at once, after whoever runs now waits."""
        fiber = Fiber(self, name, body)
        self.fibers.append(fiber)
        self._scheduler.after(0.0, lambda: self._scheduler.resume(fiber), self.node)
        return fiber

    def when_running(self, call: Callable[[], None]) -> None:
        """Do it now, or when the process goes on; never if it is dead."""
        if not self.alive:
            return
        if self.stopped:
            self._deferred.append(call)
        elif (ready := self.node.ready_at) > self._scheduler.now:
            self._scheduler.at(ready, lambda: self.when_running(call))
        else:
            call()

    def kill(self) -> None:
        """SIGKILL, or its own end."""
        self.alive = False
        self._deferred.clear()
        ends, self.on_end = self.on_end, []
        for end in ends:
            end()

    def stop(self) -> None:
        """SIGSTOP."""
        self.stopped = True

    def go_on(self) -> None:
        """SIGCONT."""
        self.stopped = False
        waiting, self._deferred = self._deferred, []
        for call in waiting:
            self.when_running(call)


class Scheduler:
    """The event queue."""

    def __init__(self, max_events: int) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = 0
        self._left = max_events
        self.hub = greenlet.getcurrent()
        self._current: Fiber | None = None
        self._processes: list[Process] = []
        self.on_uncaught: Callable[[Fiber, Exception], None] = lambda fiber, problem: None

    def process(self, node: SimNode, name: str) -> Process:
        """A new process without threads."""
        process = Process(self, node, name)
        self._processes.append(process)
        return process

    @property
    def current(self) -> Fiber:
        """Who runs."""
        assert self._current is not None
        return self._current

    @property
    def in_fiber(self) -> bool:
        """A fiber runs, not the queue itself."""
        return self._current is not None

    def at(self, when: float, call: Callable[[], None], node: SimNode | None = None) -> Timer:
        """Do *call* then; with *node* on that node's monotonic clock."""
        timer = Timer(when, call, node)
        self._order += 1
        heapq.heappush(self._heap, (when, self._order, timer))
        return timer

    def after(self, seconds: float, call: Callable[[], None], node: SimNode | None = None) -> Timer:
        """Do *call* so many seconds from now."""
        return self.at(self.now + seconds, call, node)

    def shift(self, node: SimNode, seconds: float) -> None:
        """The node is paused for so long: what was due on its clock comes later."""
        for when, order, timer in sorted(self._heap):
            if timer.node is node and timer.call is not None and timer.when == when:
                timer.when += seconds
                heapq.heappush(self._heap, (timer.when, order, timer))

    def run(self, until: Callable[[], bool], end: float) -> bool:
        """Serve the queue; true when *until* came true, false at *end* or when nothing is left to do."""
        while self._heap:
            if until():
                return True
            when, _, timer = self._heap[0]
            if when > end:
                self.now = end
                return until()
            heapq.heappop(self._heap)
            if timer.call is None or timer.when != when:
                continue
            self._left -= 1
            if self._left < 0:
                raise Endless(f"no end in sight at {self.now:.1f} s")
            self.now = when
            timer.call()
        return until()

    def resume(self, fiber: Fiber) -> None:
        """Let *fiber* run until it waits again."""
        if not fiber.process.alive or fiber.done:
            return
        if fiber.process.stopped or fiber.process.node.ready_at > self.now:
            fiber.process.when_running(lambda: self.resume(fiber))
            return
        assert self._current is None
        self._current = fiber
        with _Last(self, fiber):
            fiber.glet.switch()
        self._current = None
        if fiber.glet.dead:
            fiber.done = True
            for joiner in fiber.joiners:
                joiner()

    def alive(self) -> None:
        """To be called by all that a thread does to the world."""
        if self._current is not None and not self._current.process.alive:
            raise Killed

    def park(self, timeout: float | None) -> Fiber:
        """Wait until :meth:`unpark`, or so many seconds."""
        fiber = self.current
        self.alive()
        fiber.wakeups += 1
        if timeout is not None:
            self.after(max(0.0, timeout), self._waker(fiber), fiber.process.node)
        self.hub.switch()
        if not fiber.process.alive:
            raise Killed
        return fiber

    def _waker(self, fiber: Fiber) -> Callable[[], None]:
        ticket = fiber.wakeups

        def wake() -> None:
            if fiber.wakeups == ticket:
                self.resume(fiber)

        return wake

    def waker(self) -> Callable[[], None]:
        """What somebody else calls to end the wait that the current fiber is about to begin."""
        fiber = self.current
        ticket = fiber.wakeups + 1

        def wake() -> None:
            if fiber.wakeups == ticket:
                self.after(0.0, self._waker(fiber))

        return wake

    def sleep(self, seconds: float) -> None:
        """Wait."""
        self.park(seconds)

    def close(self) -> None:
        """End all fibers; nothing that they do on the way out counts."""
        for process in self._processes:
            process.alive = False
        for process in self._processes:
            for fiber in process.fibers:
                self._current = fiber
                if fiber.glet and not fiber.glet.dead:
                    with _Last(self, fiber):
                        fiber.glet.throw(Killed)
        self._current = None


class _Last:
    """What a thread did not catch ends it, and nothing else."""

    def __init__(self, scheduler: Scheduler, fiber: Fiber) -> None:
        self._scheduler = scheduler
        self._fiber = fiber

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, _: object) -> bool:
        if isinstance(problem, Exception) and self._fiber.process.alive:
            self._scheduler.on_uncaught(self._fiber, problem)
        return isinstance(problem, Exception | Killed)
