"""A node: its clocks, its disk, the agent and the capsule on it, and what the cloud does to it.

Fault model: a node dies at any time, with or without a notice, and its disk with it; it is
started again under another boot id, with its disk; it is paused; it is cut off from the
bucket.  A notice names a window, comes twice, is taken back, or is false.  Its poller may
see it seconds late.  After a pause in which the lease ended, until its init is scheduled, the node's
copy may run for :data:`WAKING_S` at most: that is known, and the one exception from "one live copy".
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from _simulate.clock import DRIFT, SimClock
from _simulate.fibers import Process
from _simulate.tree import Tree
from fsnap.core.events import Event, Notice, NoticeCancelled
from fsnap.core.model import Holder

if TYPE_CHECKING:
    from _simulate.capsule import SimInit
    from _simulate.world import World

POLL_S = 2.0
WAKING_S = 0.05
"""Until init is scheduled after a pause: its timer fires at once, and so do the task's."""


class SimNode:
    """One machine."""

    def __init__(self, world: World, name: str) -> None:
        rng = world.rng
        self.world = world
        self.name = name
        self.instance = f"i-{name}"
        self.boots = 1
        self.ready_at = 0.0
        """True time before which nothing on it runs: it is paused."""
        self.alive = True
        self.clock = SimClock(
            world.scheduler,
            mono_offset_s=float(rng.randrange(10, 100_000)),
            wall_offset_s=rng.uniform(-30, 30),
            rate=1.0 + rng.uniform(-DRIFT, DRIFT),
        )
        self.journal = world.new_journal()
        self.own_folder: list[int] = []
        self.images = 0
        self.images_of = ""
        self.init: SimInit | None = None
        self.mark: Holder | None = None
        self.trees: list[tuple[Tree, SimInit]] = []
        self.agent: Process | None = None
        self.wired: Process | None = None
        """The last agent that came as far as its parts."""
        self.partitioned = False
        self.metadata = Metadata(self)
        self._pids = rng.randrange(300, 9000)

    @property
    def boot_id(self) -> str:
        return f"{self.name}-boot-{self.boots}"

    @property
    def node(self) -> SimNode:
        """So that a node can be passed where the real code passes one of its paths."""
        return self

    @property
    def folder(self) -> list[int]:
        """The state dir's one file."""
        shared = self.world.shared_folder
        return self.own_folder if shared is None else shared

    def new_pid(self) -> tuple[int, int]:
        """Of a process that starts now, with its start time in ticks."""
        self._pids += 7
        return self._pids, int(self.clock.boot_s() * 100)

    def new_tree(self, init: SimInit, done: int, *, source: str) -> Tree:
        tree = Tree(self.world, self, done, source=source)
        self.trees.append((tree, init))
        return tree

    def init_of(self, tree: Tree) -> SimInit:
        return next(init for one, init in self.trees if one is tree)

    @property
    def waking(self) -> bool:
        """It is paused, or was until so recently that its init need not have looked at the lease yet."""
        return self.ready_at > 0 and self.world.scheduler.now <= self.ready_at + WAKING_S

    def reached_parts(self, process: Process) -> bool:
        """*process* had read the journal, and could touch a capsule."""
        return self.wired is process

    def die(self, why: str) -> None:
        """For good."""
        if not self.alive:
            return
        self.world.trace(f"node {self.name} dies: {why}")
        self.alive = False
        self._lose_all()

    def reboot(self) -> None:
        """Everything in memory is lost; the disk is not."""
        self.world.trace(f"node {self.name} restarts")
        self._lose_all()
        self.boots += 1
        self.metadata.forget()

    def _lose_all(self) -> None:
        if self.agent is not None:
            self.agent.kill()
            self.agent = None
        if self.init is not None:
            self.init.die("its node died")

    def pause(self, seconds: float) -> None:
        """As a machine that is suspended, or moved."""
        self.world.trace(f"node {self.name} is paused for {seconds:.1f} s")
        if self.ready_at > self.world.scheduler.now:
            return
        self.world.scheduler.shift(self, seconds)
        if self.init is not None and self.init.alive:
            for tree, _ in self.trees:
                tree.paused(seconds)
            self.init.paused(seconds)
        self.clock.paused(seconds)
        self.ready_at = self.world.scheduler.now + seconds


class Metadata:
    """The cloud's metadata service on one node, and the agent's poller of it."""

    name = "simulated"

    def __init__(self, node: SimNode) -> None:
        self._node = node
        self._standing: dict[str, tuple[float, float]] = {}
        """Notice id to window and the true time at which it came."""
        self._post: Callable[[Event, float], None] | None = None
        self._process: Process | None = None

    @property
    def standing(self) -> bool:
        """A notice was given and not taken back."""
        return bool(self._standing)

    def forget(self) -> None:
        """After a restart."""
        self._standing.clear()
        self._post = None

    def give(self, notice_id: str, window_s: float, *, delay_s: float) -> None:
        """The cloud's word; the poller sees it *delay_s* later."""
        scheduler = self._node.world.scheduler
        self._standing[notice_id] = (window_s, scheduler.now)
        scheduler.after(delay_s, lambda: self._tell(notice_id), self._node)

    def take_back(self) -> None:
        """The notice was withdrawn."""
        for notice_id in list(self._standing):
            del self._standing[notice_id]
            self._deliver(functools.partial(NoticeCancelled, notice_id=notice_id))

    def repeat(self, notice_id: str) -> None:
        """The poller sees the same notice again."""
        self._tell(notice_id)

    def _tell(self, notice_id: str) -> None:
        self._deliver(lambda: self._notice(notice_id))

    def _notice(self, notice_id: str) -> Event | None:
        if notice_id not in self._standing:
            return None
        window_s, since = self._standing[notice_id]
        left_s = max(0.0, window_s - (self._node.world.scheduler.now - since))
        return Notice(notice_id=notice_id, provider=self.name, window_ms=int(left_s * 1000))

    def _deliver(self, make: Callable[[], Event | None]) -> None:
        process, post = self._process, self._post

        def deliver() -> None:
            event = make()
            if event is not None and post is not None and self._process is process:
                post(event, self._node.clock.mono_s())

        if process is not None and process.alive:
            process.when_running(deliver)

    # -- as a NoticeSource

    def start(self, post: Callable[[Any, float], None]) -> None:
        self._post = post
        self._process = self._node.world.scheduler.current.process
        for notice_id in self._standing:
            delay_s = self._node.world.rng.random() * POLL_S
            self._node.world.scheduler.after(delay_s, functools.partial(self._tell, notice_id), self._node)

    def stop(self) -> None:
        self._post = None
