"""The capsule's init.

``SimInit`` answers what ``fsnap/capsule/init.py`` answers, with the same rules for the gate,
the lease and the end of the root.

Fault model: it dies, and the tree with it.  It outlives its agent, and not its node.  It is
scheduled late: by up to :data:`LATE_S` when its lease ends, and by up to ``WAKING_S`` when
its node goes on after a pause in which the lease ended.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from _simulate.criu import SimCriu
from _simulate.fibers import Timer
from _simulate.node import WAKING_S
from _simulate.tree import Tree

if TYPE_CHECKING:
    from _simulate.control import SimControl
    from _simulate.node import SimNode
    from _simulate.world import World


LATE_S = 0.3


class SimInit:
    """PID 1 of one capsule."""

    def __init__(self, world: World, node: SimNode) -> None:
        self.world = world
        self.node = node
        self.pid, self.start = node.new_pid()
        self.alive = True
        self.finished = False
        self.tree: Tree | None = None
        self.exit_code: int | None = None
        self.root_code: int | None = None
        self.gate: str | None = None
        self.lease_end: float | None = None
        self.restoring = False
        self.stopped = False
        self.expired = False
        self.helpers: dict[str, SimCriu] = {}
        self.peers: list[SimControl] = []
        self._lease_timer: Timer | None = None

    # -- what happens to it

    def tell(self, **event: Any) -> None:
        for peer in list(self.peers):
            peer.hear(event)

    def die(self, why: str) -> None:
        """And with it all in its PID namespace."""
        if not self.alive:
            return
        self.world.trace(f"init {self.pid} on {self.node.name} dies: {why}")
        self.alive = False
        if self.tree is not None:
            self.tree.block("dead")
        for helper in self.helpers.values():
            helper.dead = True
        for peer in list(self.peers):
            peer.hear({"event": "gone"})

    def root_ended(self, code: int) -> None:
        self.root_code = code
        if not self.helpers:
            self._sweep()

    def _sweep(self) -> None:
        self.exit_code, self.root_code = self.root_code, None
        self.tell(event="exited", code=self.exit_code, stdout=0, stderr=0)

    def helper_ended(self, tag: str, code: int) -> None:
        self.helpers.pop(tag, None)
        if self.restoring:
            self.restoring, self.tree, self.root_code = False, None, None
        if self.gate is not None:
            self.gate = None
            self.op_freeze()
            self.tell(event="gate-lost", tag=tag, code=code)
        self.tell(event="helper-exited", tag=tag, code=code)
        if self.root_code is not None and not self.helpers:
            self._sweep()
        self._check_lease()

    def at_gate(self, action: str) -> None:
        self.gate = action
        self.tell(event="gate", action=action, stdout=0, stderr=0)

    # -- the lease

    def _check_lease(self) -> None:
        if self._lease_timer is not None:
            self._lease_timer.cancel()
            self._lease_timer = None
        may = self.tree is not None and self.exit_code is None and not self.stopped and not self.helpers
        if not self.alive or self.lease_end is None or not may:
            return
        left_s = self.lease_end - self.node.clock.boot_s()
        if left_s > 1e-6:
            late_s = LATE_S * self.world.rng.random()
            self._lease_timer = self.world.scheduler.after(
                left_s / self.node.clock.rate + late_s, self._check_lease, self.node
            )
            return
        self._expire()

    @property
    def _over(self) -> bool:
        return self.lease_end is not None and self.node.clock.boot_s() >= self.lease_end

    def _expire(self) -> None:
        self.op_freeze()
        self.expired = True
        if self.tree is not None and self.tree.done:
            self.world.count("lease ran out")
        self.world.trace(f"init {self.pid} on {self.node.name} stops the tree: its lease ran out")
        self.tell(event="lease-expired")

    def paused(self, seconds: float) -> None:
        """Its timer is on the boot clock; when the node goes on, init runs as soon as it is scheduled."""
        if self._lease_timer is None or self.lease_end is None:
            return
        now = self.world.scheduler.now
        left_s = (self.lease_end - self.node.clock.boot_s()) / self.node.clock.rate
        wakes_s = seconds + self.world.rng.random() * WAKING_S
        self._lease_timer.cancel()
        self._lease_timer = self.world.scheduler.at(now + max(left_s, wakes_s), self._check_lease)

    # -- requests

    def op_hello(self) -> dict[str, Any]:
        return {
            "root_pid": 1001 if self.tree is not None else 0,
            "exit_code": self.exit_code,
            "gate": self.gate,
            "frozen": self.stopped,
            "helpers": dict.fromkeys(self.helpers, 2),
            "helper_status": {},
            "pipes": {"stdout": 1, "stderr": 2},
            "boot_s": self.node.clock.boot_s(),
            "stdout": 0,
            "stderr": 0,
        }

    def op_start(self, **_: Any) -> dict[str, Any]:
        if self._over:
            return {"lease_over": True}
        if self.world.odds("no such command"):
            return {"failed": errno.ENOENT, "text": "No such file or directory"}
        self.tree = self.node.new_tree(self, 0, source="")
        self.world.trace(f"{self.tree} starts")
        self.tree.begin()
        self._check_lease()
        return {"pid": 1001, "pipes": {}}

    def op_spawn(self, tag: str, argv: list[str], **_: Any) -> dict[str, Any]:
        if self.stopped:
            raise ValueError("the tree is stopped")
        criu = SimCriu(self, tag, argv)
        self.helpers[tag] = criu
        if argv[0] == "restore":
            self.restoring = True
            self.exit_code = None
        criu.begin()
        return {"pid": 2}

    def op_gate(self, verdict: str, runs_on: bool = False) -> dict[str, Any]:
        if self.gate is None:
            raise ValueError("no gate is closed")
        if self._over and self.restoring and verdict == "go":
            return {"lease_over": True}
        if self._over and not self.restoring and not self.stopped:
            self._expire()
        self.gate = None
        self.restoring = self.restoring and verdict != "go"
        for helper in self.helpers.values():
            helper.answered(verdict)
        return {}

    def op_signal(self, signal: int) -> dict[str, Any]:
        tree = self.tree
        there = tree is not None and self.exit_code is None and "dead" not in tree.blocked
        if tree is not None and there:
            self.world.after_some(0.01, lambda: self._killed(tree, signal), self.node)
        return {"sent": there}

    def _killed(self, tree: Tree, number: int) -> None:
        if self.alive and "criu" in tree.blocked:
            self.world.after_some(0.5, lambda: self._killed(tree, number), self.node)
        elif self.alive and "dead" not in tree.blocked:
            tree.block("dead")
            self.root_ended(128 + number)

    def op_lease(self, until: float | None) -> None:
        self.lease_end = until
        if self.expired and not self._over:
            self.expired = False
            self.op_thaw()
        self._check_lease()

    def op_freeze(self) -> None:
        self.expired = False
        self.stopped = True
        if self.tree is not None:
            self.tree.block("signal")

    def op_thaw(self) -> None:
        if self.expired:
            return
        self.stopped = False
        if self.tree is not None:
            self.tree.unblock("signal")
        self._check_lease()

    def op_kill_helper(self, tag: str, signal: int) -> None:
        if tag in self.helpers:
            self.helpers[tag].die()

    def op_drain(self) -> dict[str, Any]:
        return {"stdout": 0, "stderr": 0}

    def op_quit(self) -> None:
        self.die("quit")
