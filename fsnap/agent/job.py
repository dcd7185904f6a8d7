"""One long effect in a thread of its own: a capture or a restore, one at a time."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fsnap.agent.capsules import Capsules
from fsnap.agent.loop import guarded
from fsnap.clock import Clock
from fsnap.errors import CapsuleError, CheckpointFailed

CRIU_TIMEOUT_S = 600
ROLLBACK_TIMEOUT_S = 60.0
POLL_S = 0.05


class Cancelled(CheckpointFailed):
    """The job was told to stop; its caller decides what that means."""

    code = "cancelled"


class LeaseOver(CapsuleError):
    """Only a renewal lets the tree go on."""

    code = "lease-over"


class Job:
    """A worker with a cancel flag."""

    def __init__(self, name: str, work: Callable[[Job], None]) -> None:
        self._cancel = threading.Event()
        self._thread = threading.Thread(target=work, args=(self,), name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def cancel(self) -> None:
        """Ask the job to stop at its next step."""
        self._cancel.set()

    def join(self, timeout_s: float | None = None) -> None:
        """Wait for its end."""
        self._thread.join(timeout_s)

    @property
    def alive(self) -> bool:
        """It has not ended."""
        return self._thread.is_alive()

    @property
    def cancelled(self) -> bool:
        """It was asked to stop."""
        return self._cancel.is_set()

    def checkpoint(self) -> None:
        """Raise :class:`Cancelled` when it was asked to stop."""
        if self._cancel.is_set():
            raise Cancelled("it was called off")

    def pause(self, clock: Clock, seconds: float = 0.2) -> None:
        """Let time go by, unless it was asked to stop."""
        self.checkpoint()
        clock.sleep(seconds)


class JobSlot:
    """Room for one job: a newer one calls the older off, waits for it, and makes its outcome void.

    *crash* gets what a job did not foresee.
    """

    def __init__(self, crash: Callable[[BaseException], None]) -> None:
        self._crash = crash
        self._job: Job | None = None
        self.token = 0
        """The present job's; an outcome that comes with another is outdated."""

    @property
    def alive(self) -> bool:
        """A job is under way."""
        return self._job is not None and self._job.alive

    def run(self, name: str, work: Callable[[Job, int], None]) -> None:
        """Begin *work*, which gets its job and its token."""
        before = self._job
        self.cancel()
        token = self.token

        def run(job: Job) -> None:
            if before is not None:
                before.join()
            guarded(lambda: work(job, token), self._crash)

        self._job = Job(name, run)
        self._job.start()

    def cancel(self) -> None:
        """Call the present job off; its outcome is void."""
        self.token += 1
        if self._job is not None:
            self._job.cancel()

    def join(self, timeout_s: float | None = None) -> None:
        """Wait for the present job's end."""
        if self._job is not None:
            self._job.join(timeout_s)


class CriuRun:
    """One run of CRIU inside the capsule, up to its gate and beyond."""

    TAG = "criu"

    def __init__(self, capsules: Capsules, job: Job) -> None:
        self._capsules = capsules
        self._job = job
        self.at_gate = False

    def spawn(
        self, argv: list[str], *, root_pid: int | None = None, cwd: Path | None = None, strays: bool = False
    ) -> None:
        """Start it, in *cwd*; with *root_pid* it is a restore, of a tree that may have *strays*, and gets
        the new output pipes."""
        control = self._capsules.live()
        while not self._capsules.events.empty():
            self._capsules.events.get()
        log = str(self._capsules.gate.with_name("criu.out"))
        extra: dict[str, Any] = {}
        if root_pid is not None:
            extra = {"pipes": True, "root_pid": root_pid, "strays": strays}
        if cwd is not None:
            extra["cwd"] = str(cwd)
        control.request("spawn", tag=self.TAG, argv=argv, log=log, **extra)

    def wait_gate(self, timeout_s: float = CRIU_TIMEOUT_S) -> dict[str, Any] | None:
        """The gate's event; ``None`` when CRIU ended without reaching it."""
        event = self._wait({"gate", "helper-exited"}, timeout_s)
        if event["event"] == "helper-exited":
            return None
        self.at_gate = True
        return event

    def open_gate(self, verdict: str, timeout_s: float = CRIU_TIMEOUT_S, *, runs_on: bool = False) -> int:
        """Answer the gate and wait for CRIU's exit code; *runs_on* if it dumped a tree that is to run on.

        :class:`LeaseOver` when that would let a restored tree run past its lease: the gate is closed still.
        """
        control = self._capsules.live()
        if control.request("gate", verdict=verdict, runs_on=runs_on).get("lease_over"):
            raise LeaseOver("the lease ran out before the restored tree was let go")
        self.at_gate = False
        return int(self._wait({"helper-exited"}, timeout_s, cancellable=False)["code"])

    def abandon(self) -> None:
        """Roll back whatever stage it is in; the tree runs on."""
        control = self._capsules.control
        if control is None:
            return
        if not self.at_gate and not control.request("hello")["helpers"]:
            return
        if not self.at_gate:
            # CRIU must not be killed while it holds the tree: it is let come to the gate and refused.
            event = self._wait({"gate", "helper-exited"}, ROLLBACK_TIMEOUT_S, cancellable=False)
            if event["event"] == "helper-exited":
                return
        self.open_gate("no", ROLLBACK_TIMEOUT_S)

    def _wait(self, wanted: set[str], timeout_s: float, *, cancellable: bool = True) -> dict[str, Any]:
        end = time.monotonic() + timeout_s
        while True:
            if cancellable:
                self._job.checkpoint()
            try:
                event = self._capsules.events.get(timeout=POLL_S)
            except queue.Empty:
                if time.monotonic() > end:
                    raise CheckpointFailed("CRIU takes too long") from None
                continue
            if event["event"] in wanted:
                return event
            if event["event"] == "gone":
                raise CapsuleError("the capsule is gone")
            if event["event"] == "gate-lost":
                raise CheckpointFailed("CRIU died while it held the tree")
