"""CRIU in a capsule: it freezes the tree, comes to its gate, and does what it is told there.

Fault model: a dump or a restore fails before the gate, or takes seconds; CRIU dies at its
gate.  After the gate is answered it takes some milliseconds to let go, and to end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _simulate.capsule import SimInit


class SimCriu:
    """One run of CRIU: ``dump``, ``dump --leave-running``, ``restore``."""

    def __init__(self, init: SimInit, tag: str, argv: list[str]) -> None:
        self.init = init
        self.world = init.world
        self.tag = tag
        self.restores = argv[0] == "restore"
        self.leave_running = "--leave-running" in argv
        self.dead = False
        self.at_gate = False

    def begin(self) -> None:
        if self.restores:
            self._later(0.05, 0.8, self._restore)
        else:
            self._later(0.01, 0.2, self._freeze)

    def _later(self, least_s: float, most_s: float, step: Callable[[], None]) -> None:
        seconds = least_s + self.world.rng.random() * (most_s - least_s)
        self.world.scheduler.after(seconds, lambda: None if self.dead else step(), self.init.node)

    def _end(self, code: int) -> None:
        if not self.dead:
            self.dead = True
            self.init.helper_ended(self.tag, code)

    def _freeze(self) -> None:
        tree = self.init.tree
        if tree is None or "dead" in tree.blocked or self.world.odds("dump fails"):
            self._end(1)
            return
        tree.block("criu")
        self._later(0.05, 1.0, self._dumped)

    def _dumped(self) -> None:
        tree = self.init.tree
        assert tree is not None
        if self.world.odds("dump fails late"):
            tree.unblock("criu")
            self._end(1)
            return
        self.init.node.images = tree.done
        self._close_gate()

    def _restore(self) -> None:
        if self.world.odds("restore fails"):
            self._end(1)
            return
        node = self.init.node
        tree = node.new_tree(self.init, node.images, source=node.images_of)
        self.init.tree = tree
        tree.block("criu")
        tree.unblock("new")
        self.world.trace(f"{tree} is restored from {tree.source} with {tree.done} units")
        self._close_gate()

    def _close_gate(self) -> None:
        self.at_gate = True
        self.init.at_gate("post-restore" if self.restores else "post-dump")
        if self.world.odds("CRIU dies at the gate"):
            self.world.after_some(3.0, self._die_at_gate, self.init.node)

    def _die_at_gate(self) -> None:
        if self.at_gate:
            self.die()

    def die(self) -> None:
        """Its hold on the tree goes with it, and a restored tree that is not whole is killed."""
        tree = self.init.tree
        if self.dead or tree is None:
            return
        self.world.trace(f"CRIU on {self.init.node.name} dies")
        if self.restores:
            tree.block("dead")
        self.init.op_freeze()
        tree.unblock("criu")
        self._end(137)

    def answered(self, verdict: str) -> None:
        self.at_gate = False
        self._later(0.001, 0.02, lambda: self._let_go(verdict == "go"))

    def _let_go(self, go: bool) -> None:
        tree = self.init.tree
        assert tree is not None
        kills = not go if self.restores else go and not self.leave_running
        if kills:
            self.world.checks.killed(tree, "CRIU ends it at the gate")
            tree.block("dead")
            if not self.restores:
                self.init.root_code = 137
        else:
            tree.unblock("criu")
        self._later(0.001, 0.02, lambda: self._end(0 if go else 1))
