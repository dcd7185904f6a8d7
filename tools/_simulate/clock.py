"""A node's clocks.

Fault model: every node's monotonic and boot clocks begin at a value of their own; the
monotonic one stands still while the node is paused, the boot clock does not; the wall
clock is off by anything and jumps.  Every node's clocks run at a rate of their own, off by
up to :data:`DRIFT`: that is a hundred times what real ones are, so that it matters in lives
as short as these.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from _simulate.fibers import Scheduler

DRIFT = 0.01
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class SimClock:
    """What :class:`fsnap.clock.Clock` asks for, on one node."""

    def __init__(
        self, scheduler: Scheduler, *, mono_offset_s: float, wall_offset_s: float, rate: float = 1.0
    ) -> None:
        self._scheduler = scheduler
        self.rate = rate
        """Its seconds in one true second."""
        self._mono_offset_s = mono_offset_s
        self._boot_offset_s = mono_offset_s
        self.wall_offset_s = wall_offset_s

    def mono_s(self) -> float:
        return self._scheduler.now * self.rate + self._mono_offset_s

    def boot_s(self) -> float:
        return self._scheduler.now * self.rate + self._boot_offset_s

    def wall(self) -> datetime:
        return EPOCH + timedelta(seconds=self._scheduler.now + self.wall_offset_s)

    def sleep(self, seconds: float) -> None:
        self._scheduler.sleep(seconds)

    def paused(self, seconds: float) -> None:
        """The node stood still for so long; to be called when that begins."""
        self._mono_offset_s -= seconds * self.rate


class ModuleTime:
    """Stands in for the module ``time``."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def monotonic(self) -> float:
        return self._scheduler.current.process.node.clock.mono_s()

    def sleep(self, seconds: float) -> None:
        self._scheduler.sleep(seconds)
