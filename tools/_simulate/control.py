"""The agent's side of a capsule: its connection to init, and the making of capsules.

Fault model: making a capsule takes long.  One that was not finished ends with its agent.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _simulate.capsule import SimInit
from _simulate.fibers import Process
from fsnap.core.model import Holder
from fsnap.errors import CapsuleError

if TYPE_CHECKING:
    from _simulate.node import SimNode


class SimControl:
    """The agent's connection to an init; stands in for :class:`fsnap.capsule.control.Control`."""

    def __init__(self, init: SimInit, process: Process) -> None:
        self._init = init
        self._process = process
        self._past: list[dict[str, Any]] = []
        self._listener: Callable[[dict[str, Any]], None] | None = None
        self._closed = False
        self.init_pid = init.pid
        self.init_start = init.start
        init.peers.append(self)

    def listen(self, listener: Callable[[dict[str, Any]], None]) -> None:
        self._listener = listener
        past, self._past = self._past, []
        for event in past:
            self.hear(event)

    def hear(self, event: dict[str, Any]) -> None:
        """An event comes over the socket."""
        if self._closed and event["event"] != "gone":
            return
        if self._listener is None:
            self._past.append(event)
            return
        listener = self._listener
        scheduler = self._init.world.scheduler
        scheduler.after(0.001, lambda: self._process.when_running(lambda: listener(event)), self._init.node)

    def request(self, op: str, **arguments: Any) -> dict[str, Any]:
        scheduler = self._init.world.scheduler
        scheduler.sleep(0.001)
        if not self._init.alive or self._closed:
            raise CapsuleError(f"the capsule is gone ({op})")
        try:
            answer = getattr(self._init, "op_" + op.replace("-", "_"))(**arguments)
        except ValueError as problem:
            raise CapsuleError(f"the capsule's init refused {op!r}: {problem}") from problem
        scheduler.sleep(0.001)
        return {"ok": True, **(answer or {})}

    def end(self) -> None:
        """Kill the capsule, tree and all."""
        scheduler = self._init.world.scheduler
        scheduler.alive()
        if self._init.alive:
            if self._init.tree is not None:
                self._init.world.checks.killed(self._init.tree, "its agent ends the capsule")
            self._init.die("its agent ends it")
            scheduler.sleep(0.005)

    def close(self) -> None:
        self._closed = True
        if self in self._init.peers:
            self._init.peers.remove(self)


class SimCapsules:
    """Stands in for :class:`fsnap.agent.capsules.Capsules`."""

    def __init__(self, *, run_dir: Any, settings: Any, node: str, instance: str) -> None:
        self._node: SimNode = run_dir.node
        self._world = self._node.world
        self._process = self._world.scheduler.current.process
        self._queues = self._world.queues
        self._node.wired = self._process
        self._launched: SimInit | None = None
        self.mounts = None
        self.control: SimControl | None = None
        self.holder: Holder | None = None
        self.events = self._queues.SimpleQueue()
        self._on_exit: Callable[[dict[str, Any]], None] = lambda event: None

    def on_exit(self, listener: Callable[[dict[str, Any]], None]) -> None:
        self._on_exit = listener

    def launch(self) -> Holder:
        end = self._node.clock.mono_s() + 20.0
        while self.left_alive():
            if self._node.clock.mono_s() > end:
                raise CapsuleError("an older capsule of this task does not end")
            self._world.scheduler.sleep(0.5)
        self._world.scheduler.sleep(
            8.0 * self._world.rng.random() if self._world.odds("capsule made slowly") else 0.05
        )
        init = SimInit(self._world, self._node)
        self._node.init = init
        self._launched = init
        self.holder = Holder(
            node=self._node.name,
            instance=self._node.instance,
            boot_id=self._node.boot_id,
            pid_ns=f"pid:[{self._node.name}]",
            init_pid=init.pid,
            init_start=init.start,
        )
        self._node.mark = self.holder
        self._process.on_end.append(lambda: None if init.finished else init.die("nobody finishes it"))
        return self.holder

    def last_here(self) -> Holder | None:
        return self._node.mark

    def left_alive(self) -> bool:
        self._world.scheduler.alive()
        init = self._node.init
        return init is not None and init.alive

    def finish(self) -> SimControl:
        self._world.scheduler.sleep(0.02)
        init, self._launched = self._launched, None
        if init is None:
            raise CapsuleError("the capsule was ended")
        init.finished = True
        control = SimControl(init, self._process)
        self._attach(control)
        return control

    def adopt(self, holder: Holder) -> SimControl:
        self._world.scheduler.sleep(0.005)
        init = self._node.init
        if init is None or not init.alive or (init.pid, init.start) != (holder.init_pid, holder.init_start):
            raise CapsuleError("the capsule's init does not answer")
        control = SimControl(init, self._process)
        self.holder = holder
        self._attach(control)
        return control

    def pause(self, holder: Holder) -> None:
        init = self._node.init
        if init is not None and init.alive and (init.pid, init.start) == (holder.init_pid, holder.init_start):
            init.op_freeze()

    def _attach(self, control: SimControl) -> None:
        self.control = control
        events = self._queues.SimpleQueue()
        self.events = events

        def listener(event: dict[str, Any]) -> None:
            events.put(event)
            if event["event"] in ("exited", "gone", "gate-lost") and self.control is control:
                self._on_exit(event)

        control.listen(listener)

    def end(self) -> None:
        launched, control = self._launched, self.control
        self._launched = self.control = None
        if control is not None:
            control.end()
            control.close()
        if launched is not None:
            self._world.scheduler.alive()
            launched.die("it was not finished")

    def live(self) -> SimControl:
        if self.control is None:
            raise CapsuleError("the capsule was ended")
        return self.control

    def scratch(self) -> Path:
        return Path("/simulated/scratch")

    @property
    def gate(self) -> Path:
        return Path("/simulated/gate.sh")

    def proc(self) -> Path:
        return Path("/simulated/proc")

    def root_pid(self) -> int:
        return int(self.live().request("hello")["root_pid"])

    def helpers(self) -> frozenset[int]:
        return frozenset(self.live().request("hello")["helpers"].values())
