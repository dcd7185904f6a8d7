"""Probes of the capsule's init: the real :class:`~fsnap.capsule.init.Init`, with no capsule around it.

Signals to processes are written down and not sent, and its clock is moved by hand.
"""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from _explore.doubles import LEASE_MS, TASK, HandClock, WatchedStore
from fsnap.agent.lease import Lease
from fsnap.capsule.init import Init
from fsnap.core.model import Facts, TaskState

SIGNALS = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Bench:
    """An init with a tree, and the lease of its agent."""

    def __init__(self, init: Init, clock: HandClock) -> None:
        self.init = init
        self.clock = clock
        self.slow_s = 0.0
        """How long a request takes to reach the init."""
        init.root_pid = os.getpid()
        self.lease = Lease(
            store=WatchedStore(),
            task=TASK,
            node="node",
            lease_ms=LEASE_MS,
            check=lambda: None,
            snapshot=lambda: (TaskState(task=TASK), Facts()),
            on_fenced=lambda fenced: None,
            on_beat=lambda beat: None,
            clock=clock,
        )
        self.lease.attach(self)  # type: ignore[arg-type]

    def request(self, op: str, **arguments: Any) -> dict[str, Any]:
        """As the agent's connection has it."""
        self.clock.sleep(self.slow_s)
        return getattr(self.init, "op_" + op)({"op": op, **arguments}) or {}

    @property
    def runs(self) -> bool:
        """The tree runs, after the init has looked at the lease."""
        self.init._check_lease()
        return self.init.stopped is None


@contextmanager
def _bench() -> Iterator[Bench]:
    clock = HandClock()
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="fsnap-init-"))
        for name in ("kill", "killpg"):
            stack.enter_context(patch.object(os, name, lambda pid, number: None))
        stack.enter_context(patch.object(time, "clock_gettime", lambda clock_id: clock.now_s))
        ours, theirs = socket.socketpair()
        stack.callback(theirs.close)
        init = Init(folder, ours.detach(), -1)
        stack.callback(_close, init, handlers)
        yield Bench(init, clock)


def _close(init: Init, handlers: dict[signal.Signals, Any]) -> None:
    signal.set_wakeup_fd(-1)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    init.listener.close()
    for fd in (init.gate_req, init.gate_ans, init.wake_read, init.wake_write):
        os.close(fd)


def init_stops_without_lease(folder: Path) -> bool:
    """The tree runs while there is lease, and not after."""
    with _bench() as bench:
        bench.lease.renew()
        before = bench.runs
        bench.clock.sleep(LEASE_MS / 1000)
        return before and not bench.runs


def nothing_runs_without_lease(folder: Path) -> bool:
    """Neither a start, a thaw nor word of a lease that is over lets a tree run; a renewal does."""
    with _bench() as bench:
        bench.lease.renew()
        bench.clock.sleep(LEASE_MS / 1000)
        stopped = [not bench.runs, bench.init.op_start({}) == {"lease_over": True}]
        bench.request("thaw")
        stopped.append(not bench.runs)
        bench.lease.attach(bench)  # type: ignore[arg-type]
        stopped.append(not bench.runs)
        bench.lease.renew()
        return all(stopped) and bench.runs


def lease_end_is_absolute(folder: Path) -> bool:
    """Word that reaches the init late makes the lease no longer."""
    with _bench() as bench:
        bench.slow_s = LEASE_MS / 2000
        bench.lease.renew()
        left_s = LEASE_MS / 2000
        bench.clock.sleep(left_s)
        return not bench.runs


def gate_loss_outlasts_renewals(folder: Path) -> bool:
    """A tree whose CRIU died at its gate, and one that its agent stopped, are thawed by no renewal."""
    with _bench() as bench:
        bench.lease.renew()
        bench.init.helpers[1] = "criu"
        bench.init.gate = "post-dump"
        bench.init._helper_ended(1, bench.init.helpers.pop(1), 1)
        lost = not bench.runs
        bench.lease.renew()
        lost = lost and not bench.runs
    with _bench() as bench:
        bench.clock.sleep(LEASE_MS / 1000)
        expired = not bench.runs
        bench.request("freeze")
        bench.lease.renew()
        return lost and expired and not bench.runs


INIT_PROBES: dict[str, Callable[[Path], bool]] = {
    probe.__name__: probe
    for probe in (
        init_stops_without_lease,
        nothing_runs_without_lease,
        lease_end_is_absolute,
        gate_loss_outlasts_renewals,
    )
}
"""By the name of the duty."""
