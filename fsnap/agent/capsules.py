"""Capsules as the agent keeps them: launched, finished, adopted, ended."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fsnap.agent.home import RunDir
from fsnap.agent.settings import RunSettings
from fsnap.capsule import identity
from fsnap.capsule.control import Control, Launch, scratch_path
from fsnap.capsule.mounts import CapsuleMounts, plan_mounts, read_mounts
from fsnap.core.model import Holder
from fsnap.core.values import from_plain, to_plain
from fsnap.crashpoints import CrashPoint, reach
from fsnap.criu.argv import gate_script
from fsnap.durable import write_private
from fsnap.errors import CapsuleError

LOCK_WAIT_S = 20.0


class Capsules:
    """The one capsule of this task on this node, through its changes.

    A capsule is *launched* (namespaces and empty scratch file systems), then *finished*
    (overlays mounted, init answering).  Restores write into it in between.
    """

    def __init__(self, *, run_dir: RunDir, settings: RunSettings, node: str, instance: str) -> None:
        self._run_dir = run_dir
        self._node = node
        self._instance = instance
        self.mounts: CapsuleMounts = plan_mounts(
            run_dir=str(run_dir.path),
            state_dirs=[str(path) for path in settings.state_dirs],
            scratch=[str(path) for path in settings.scratch],
            mounts=read_mounts(),
        )
        self._launch: Launch | None = None
        self.control: Control | None = None
        self.holder: Holder | None = None
        """The capsule that there is now, as a claim records it."""
        self.events: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        """Gate and helper events, for the job under way."""
        self._on_exit: Callable[[dict[str, Any]], None] = lambda event: None

    def on_exit(self, listener: Callable[[dict[str, Any]], None]) -> None:
        """Who is told of ``exited`` and ``gone``."""
        self._on_exit = listener

    def launch(self) -> Holder:
        """A new capsule, not finished yet; the one before must be ended."""
        lock_fd = self._lock()
        try:
            self._run_dir.sweep()
            write_private(self.gate, gate_script(self._run_dir.path).encode(), mode=0o700)
            self._launch = Launch(run_dir=self._run_dir.path, mounts=self.mounts, lock_fd=lock_fd)
        finally:
            os.close(lock_fd)
        self.holder = self._holder(self._launch.init_pid, self._launch.init_start)
        write_private(self._mark, json.dumps(to_plain(self.holder)).encode())
        reach(CrashPoint.LAUNCHED)
        return self.holder

    @property
    def _mark(self) -> Path:
        return self._run_dir.path / "holder.json"

    def last_here(self) -> Holder | None:
        """The capsule that this ``FSNAP_HOME`` made last for the task."""
        try:
            return from_plain(Holder, json.loads(self._mark.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return None

    def left_alive(self) -> bool:
        """An init of this task, made from this ``FSNAP_HOME``, is alive."""
        fd = self._run_dir.lock_init()
        if fd is None:
            return True
        os.close(fd)
        return False

    def _lock(self) -> int:
        """The lock of the capsule before is free once the kernel has ended it."""
        end = time.monotonic() + LOCK_WAIT_S
        while (fd := self._run_dir.lock_init()) is None:
            if time.monotonic() > end:
                raise CapsuleError("an older capsule of this task does not end")
            time.sleep(0.02)
        return fd

    def _holder(self, init_pid: int, init_start: int) -> Holder:
        return Holder(
            node=self._node,
            instance=self._instance,
            boot_id=identity.boot_id(),
            pid_ns=identity.pid_namespace(),
            init_pid=init_pid,
            init_start=init_start,
        )

    def finish(self) -> Control:
        """Mount the overlays and connect to the init."""
        if self._launch is None:
            raise CapsuleError("the capsule was ended")
        control = self._launch.finish()
        self._launch = None
        self._attach(control)
        return control

    def adopt(self, holder: Holder) -> Control:
        """Connect to a capsule that an earlier agent made."""
        control = Control(run_dir=self._run_dir.path, init_pid=holder.init_pid, init_start=holder.init_start)
        self.holder = holder
        self._attach(control)
        return control

    def pause(self, holder: Holder) -> None:
        """Stop the tree of a capsule that an earlier agent made, without taking it over."""
        with contextlib.suppress(CapsuleError):  # it is gone
            run_dir, pid, start = self._run_dir.path, holder.init_pid, holder.init_start
            control = Control(run_dir=run_dir, init_pid=pid, init_start=start)
            try:
                control.request("freeze")
            finally:
                control.close()

    def _attach(self, control: Control) -> None:
        self.control = control
        events: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.events = events

        def listener(event: dict[str, Any]) -> None:
            events.put(event)
            if event["event"] in ("exited", "gone", "gate-lost") and self.control is control:
                self._on_exit(event)

        control.listen(listener)

    def end(self) -> None:
        """Kill what there is."""
        launch, control = self._launch, self.control
        self._launch = self.control = None
        if control is not None:
            control.end()
            control.close()
        if launch is not None:
            launch.abandon()

    def live(self) -> Control:
        """The connection to the capsule's init; :class:`CapsuleError` once the capsule was ended."""
        if self.control is None:
            raise CapsuleError("the capsule was ended")
        return self.control

    def scratch(self) -> Path:
        """The scratch file systems, as this process reaches them."""
        if self._launch is not None:
            return self._launch.scratch
        return scratch_path(self.live().init_pid, self._run_dir.path)

    @property
    def gate(self) -> Path:
        """CRIU's action script."""
        return self._run_dir.path / "gate.sh"

    def proc(self) -> Path:
        """``/proc`` as the capsule sees it."""
        return Path(f"/proc/{self.live().init_pid}/root/proc")

    def root_pid(self) -> int:
        """The task's root, inside; 0 before its start."""
        return int(self.live().request("hello")["root_pid"])

    def helpers(self) -> frozenset[int]:
        """PIDs, inside, of CRIU's processes."""
        return frozenset(self.live().request("hello")["helpers"].values())
