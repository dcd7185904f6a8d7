"""What the loop holds of a live task: run time, deadline, and the facts that a decision may use."""

from __future__ import annotations

import threading
from collections.abc import Callable

from loguru import logger

from fsnap.agent.capsules import Capsules
from fsnap.clock import Clock, rfc3339
from fsnap.core.model import Facts
from fsnap.criu.preflight import look
from fsnap.errors import CapsuleError

LOOK_S = 5.0


class RunClock:
    """The task's own run time, over all attempts that count."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._base_ms = 0
        self._since_s: float | None = None

    def start(self, base_ms: int) -> None:
        """The tree runs, having *base_ms* behind it."""
        self._base_ms = base_ms
        self._since_s = self._clock.mono_s()

    def stop(self) -> None:
        """The tree has ended."""
        self._base_ms = self.run_ms()
        self._since_s = None

    def run_ms(self) -> int:
        """Milliseconds so far."""
        if self._since_s is None:
            return self._base_ms
        return self._base_ms + int((self._clock.mono_s() - self._since_s) * 1000)


class Watch:
    """Looks at the tree every few seconds: its size, and what forbids a checkpoint."""

    def __init__(self, capsules: Capsules, prepare: Callable[[], None] = lambda: None) -> None:
        """*prepare* is called once, at the first look: what a dump needs is found out before it is needed."""
        self._capsules = capsules
        self._prepare = prepare
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.tree_bytes = 0
        self.unsupported = ""

    def start(self) -> None:
        """Look now and again; nothing changes where it does already."""
        if self._thread is not None:
            return
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()

    def _run(self) -> None:
        self._prepare()
        wait_s = 0.3
        while not self._stop.wait(wait_s):
            wait_s = LOOK_S
            if self._capsules.control is None:
                continue
            try:
                self._look()
            except (CapsuleError, OSError):
                continue

    def _look(self) -> None:
        if self._capsules.helpers():
            return  # CRIU holds the tree: it is traced, and that is no finding
        sight = look(self._capsules.proc(), self._capsules.root_pid())
        if sight.problems and self._capsules.helpers():
            return  # it came during the look
        self.tree_bytes = sight.rss_bytes
        problem = str(sight.problems[0]) if sight.problems else ""
        if problem and problem != self.unsupported:
            logger.warning("this task can't be checkpointed now: {}", problem)
        self.unsupported = problem


class FactBook:
    """Gathers :class:`Facts`."""

    def __init__(self, *, clock: Clock, run_clock: RunClock, watch: Watch) -> None:
        self._clock = clock
        self._run_clock = run_clock
        self._watch = watch
        self._began_s = clock.mono_s()
        self.deadline_s: float | None = None
        """Of the pending notice, on the monotonic clock."""
        self.last_capture_s = self._began_s
        self.failed_dumps = 0
        self.started = False
        self.last_freeze_ms = 0
        self.files_bytes = 0
        self.rates_bps: list[int] = []
        self.warm_bytes = 0
        self.warm_bps: int | None = None

    def measured(self, moved_bytes: int, took_ms: int, freeze_ms: int) -> None:
        """A capture of *moved_bytes* took *took_ms* from freeze to commit.

        The rate leaves out the fixed costs, which a plan adds: a small capture is all round trips, and by it
        no dump of a tree that has grown since would fit.
        """
        moving_ms = max(1, took_ms // 10, took_ms - Facts().fixed_ms)
        self.rates_bps.append(moved_bytes * 1000 // moving_ms)
        self.last_freeze_ms = freeze_ms

    def warmed(self, read_bytes: int, same_bytes: int, busy_s: float) -> None:
        """A warm pass met *read_bytes*, *same_bytes* of them as the pass before had left them."""
        self.warm_bytes = same_bytes
        self.warm_bps = int(read_bytes / max(0.001, busy_s))

    def facts(self) -> Facts:
        """As things are now."""
        now = self._clock.mono_s()
        return Facts(
            mono_ms=int(now * 1000),
            at=rfc3339(self._clock.wall()),
            left_ms=None if self.deadline_s is None else int((self.deadline_s - now) * 1000),
            run_ms=self._run_clock.run_ms(),
            since_snapshot_ms=int((now - self.last_capture_s) * 1000),
            tree_bytes=self._watch.tree_bytes,
            files_bytes=self.files_bytes,
            commit_bps=min(self.rates_bps[-20:], default=None),
            warm_bytes=self.warm_bytes,
            warm_bps=self.warm_bps,
            last_freeze_ms=self.last_freeze_ms,
            failed_dumps=self.failed_dumps,
            started=self.started,
            unsupported=self._watch.unsupported,
        )
