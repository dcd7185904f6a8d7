"""The holder's renewal: heartbeat, a look for newer records, then the init's timer.

All in that order and timed from the beginning, so that init's timer, which ends a margin early
(``core/claim.py``), never outlives what another node may assume.  A store that does not answer
renews nothing: a task with a lease is then paused by its own init, and goes on with the next renewal.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from loguru import logger

from fsnap.capsule.control import Control
from fsnap.clock import Clock, rfc3339
from fsnap.core.budget import plan_evacuation
from fsnap.core.claim import run_ms
from fsnap.core.model import Facts, TaskState
from fsnap.errors import CapsuleError, Fenced, FsnapError, StoreError
from fsnap.journal.heartbeat import Beat, Heartbeat
from fsnap.keys import KeyRing
from fsnap.stores.base import Store

LONGEST_BEAT_S = 20.0
RETRY_S = 2.0
FIRST_BEAT_S = 2.0
"""The second beat comes soon: by then the tree was measured, and its margin can be told."""


class Lease:
    """The thread that renews, while a capsule of ours is live."""

    def __init__(
        self,
        *,
        store: Store,
        task: str,
        node: str,
        lease_ms: int,
        check: Callable[[], None],
        snapshot: Callable[[], tuple[TaskState, Facts]],
        on_fenced: Callable[[Fenced], None],
        on_beat: Callable[[Beat], None],
        clock: Clock,
        keys: KeyRing | None = None,
    ) -> None:
        self._store = store
        self._task = task
        self._node = node
        self._lease_ms = lease_ms
        self._check = check
        self._snapshot = snapshot
        self._on_fenced = on_fenced
        self._on_beat = on_beat
        self._clock = clock
        self._keys = keys
        self._control: Control | None = None
        self._count = 0
        self._wake = threading.Event()
        self._stopped = False
        self._good_until_s = 0.0
        self._ahead_s = 0.0
        """Of init's boot clock to this one."""
        self._thread: threading.Thread | None = None

    @property
    def beat_s(self) -> float:
        """Seconds between renewals: four fit in a lease."""
        return min(LONGEST_BEAT_S, self._lease_ms / 4000) if self._lease_ms else LONGEST_BEAT_S

    @property
    def left(self) -> bool:
        """There is lease left, or none is needed."""
        return not self._lease_ms or self._clock.boot_s() < self._good_until_s

    def attach(self, control: Control) -> None:
        """The capsule whose timer is to be extended; it gets at once what is left.

        Init may live in a time namespace of another offset, so the two clocks are compared first; however
        long its answer took, the end that init is told is never too late.
        """
        self._meet(control)
        self._arm(control)

    def take_over(self, control: Control, lease_ms: int) -> None:
        """A live capsule and the lease that its claim recorded; what an agent before renewed stands."""
        self._lease_ms = lease_ms
        self._meet(control)

    def _meet(self, control: Control) -> None:
        inits_s = float(control.request("hello")["boot_s"])
        self._ahead_s = inits_s - self._clock.boot_s()
        self._control = control

    def _arm(self, control: Control) -> None:
        if self._lease_ms:
            control.request("lease", until=self._good_until_s + self._ahead_s)

    def start(self) -> None:
        """Renew once, then again in a thread; :class:`Fenced` from the first.

        Without the store the task is live all the same, paused if it has a lease.
        """
        try:
            self.renew()
        except StoreError as problem:
            logger.warning("the lease was not renewed: {}", problem)
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopped = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=5.0)

    def renew(self) -> None:
        """One renewal."""
        began_s = self._clock.boot_s()
        state, facts = self._snapshot()
        self._count += 1
        plan = plan_evacuation(facts, 0)
        beat = Beat(
            node=self._node,
            epoch=state.epoch,
            count=self._count,
            at=rfc3339(self._clock.wall()),
            sample={
                "commit_ms": plan.commit_ms,
                "tree_bytes": facts.tree_bytes,
                "files_bytes": facts.files_bytes,
                "run_ms": facts.run_ms,
                "unsupported": int(bool(facts.unsupported)),
            },
        )
        Heartbeat.put(self._store, self._task, beat, self._keys)
        self._check()
        self._good_until_s = began_s + run_ms(self._lease_ms) / 1000
        if self._control is not None:
            self._arm(self._control)
        self._on_beat(beat)

    def _run(self) -> None:
        wait_s = min(FIRST_BEAT_S, self.beat_s)
        while not self._wake.wait(wait_s):
            wait_s = self.beat_s
            try:
                self.renew()
            except Fenced as fenced:
                self._on_fenced(fenced)
                return
            except CapsuleError:
                continue
            except FsnapError as problem:
                wait_s = min(RETRY_S, self.beat_s)
                logger.warning("the lease was not renewed: {}", problem)
