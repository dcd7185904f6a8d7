"""The task's tree: units of work, one after the other, each of which appends its number to a file.

It is what the checks look at: which copies run, on what they run on, and what they wrote.

Fault model: the work takes the same time everywhere; a unit is whole or not done.  A restored one may die
soon after its release.  What
the tree wrote is in the node's directory at once and stays there when the tree dies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from _simulate.fibers import Timer

if TYPE_CHECKING:
    from _simulate.node import SimNode
    from _simulate.world import World


SOON_S = 4.0
"""After its release a restored tree may die; about where that ceases to speak against its snapshot."""


@dataclass(frozen=True, slots=True)
class Job:
    """What the task does."""

    units: int
    unit_s: float


class Tree:
    """One copy of the task, on one node."""

    def __init__(self, world: World, node: SimNode, done: int, *, source: str) -> None:
        self._world = world
        self.node = node
        self.done = done
        """Units behind it: its memory, which a snapshot has."""
        self.source = source
        """The snapshot it was restored from; empty: started."""
        world.copies += 1
        self.number = world.copies
        self.blocked: set[str] = {"new"}
        """Who keeps it from running: ``criu``, ``signal``, ``dead``."""
        self.ran = False
        self._timer: Timer | None = None
        self._left_s = world.job.unit_s
        self._due = 0.0

    def __str__(self) -> str:
        return f"copy {self.number} on {self.node.name}"

    @property
    def running(self) -> bool:
        """It makes progress now."""
        return not self.blocked

    def block(self, why: str) -> None:
        """It stops."""
        if self.running and self._timer is not None:
            self._timer.cancel()
            self._left_s = max(0.0, self._due - self._world.scheduler.now)
        self.blocked.add(why)

    def unblock(self, why: str) -> None:
        """It goes on, unless something else keeps it."""
        if why not in self.blocked:
            return
        self.blocked.discard(why)
        if self.running:
            first, self.ran = not self.ran, True
            self._world.checks.runs(self)
            self._arm()
            if first and self.source and self._world.odds("restored tree dies"):
                self._world.after_some(SOON_S, self._die, self.node)

    def begin(self) -> None:
        """From nothing: as programs do, it empties its output first."""
        self.node.folder.clear()
        self.unblock("new")

    def paused(self, seconds: float) -> None:
        """The node stands still for so long."""
        self._due += seconds

    def _arm(self) -> None:
        self._due = self._world.scheduler.now + self._left_s
        self._timer = self._world.scheduler.at(self._due, self._step, self.node)

    def _die(self) -> None:
        """Of SIGSEGV, if it runs just now."""
        if self.running:
            self.block("dead")
            self._world.trace(f"{self} dies of SIGSEGV")
            self.node.init_of(self).root_ended(139)

    def _step(self) -> None:
        self._world.checks.steps(self)
        self.node.folder.append(self.done)
        self.done += 1
        self._left_s = self._world.job.unit_s
        if self.done >= self._world.job.units:
            self.blocked.add("dead")
            code = self._world.exit_code()
            self._world.trace(f"{self} ends with {code}")
            self.node.init_of(self).root_ended(code)
        else:
            self._arm()
