"""Decide, record, then act: the journal as the agent uses it.

``decide`` is pure; ``commit`` makes the record durable here; ``mirror`` makes it the
world's.  The state is the fold of all local records: what is not mirrored yet is this
node's own doing and is dropped if another node turns out to have the claim.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from fsnap.charts import task_chart
from fsnap.clock import Clock, rfc3339
from fsnap.core.events import ClaimAsked, Event
from fsnap.core.fold import fold
from fsnap.core.model import Facts, TaskState
from fsnap.core.planner import Decision, decide
from fsnap.core.records import Record, seal
from fsnap.core.values import to_plain
from fsnap.errors import Fenced, StoreError
from fsnap.journal.local import Journal
from fsnap.journal.mirror import Mirror


class Ledger:
    """One task's journal on this node."""

    def __init__(self, *, journal: Journal, mirror: Mirror, task: str, node: str, clock: Clock) -> None:
        self.journal = journal
        self._mirror = mirror
        self._task = task
        self._node = node
        self._clock = clock
        self._chart = task_chart()
        self.state = TaskState(task=task)

    def pull(self) -> TaskState:
        """Take over what the store has; local records that it lacks stay ours to mirror."""
        self._mirror.pull()
        self.state = self.journal.state(self._task)
        return self.state

    def decide(self, event: Event, facts: Facts) -> Decision:
        """What follows from *event* now."""
        return decide(self._chart, self.state, event, facts)

    def commit(
        self, event: Event, facts: Facts, decision: Decision, config: dict[str, Any] | None = None
    ) -> Record:
        """Record *decision* durably on this node."""
        assert decision.trigger is not None
        claim = isinstance(event, ClaimAsked)
        record = seal(
            Record(
                task=self._task,
                seq=self.state.seq + 1,
                epoch=self.state.epoch + 1 if claim else self.state.epoch,
                node=self._node,
                at=rfc3339(self._clock.wall()),
                mono_ms=int(self._clock.mono_s() * 1000),
                trigger=decision.trigger,
                source=self.state.state,
                dest=decision.next_state,
                event=event,
                facts=facts,
                effects=decision.effects,
                config=to_plain(event.config) if isinstance(event, ClaimAsked) else {},
                note=decision.note,
                chart=self._chart.version,
                folded=self.state if claim else None,
                prev=self.state.digest,
            )
        )
        self.journal.append(record)
        self.state = fold(self.state, record)
        return record

    def mirror(self) -> None:
        """Put the local tail into the store; :class:`Fenced` when another node was first."""
        self._mirror.flush()

    def check(self) -> None:
        """:class:`Fenced` when the store has a record that is not ours."""
        self._mirror.check()

    @property
    def mirrored(self) -> bool:
        """Nothing here that the store lacks."""
        return self.journal.mirrored_seq(self._task) == self.state.seq


class BackgroundMirror:
    """Ships the tail soon after each local record, in a thread; a failure is left to the next try."""

    def __init__(self, ledger: Ledger, on_fenced: Callable[[Fenced], None], *, retry_s: float = 2.0) -> None:
        self._ledger = ledger
        self._on_fenced = on_fenced
        self._retry_s = retry_s
        self._wake = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="mirror", daemon=True)
        self._thread.start()

    def soon(self) -> None:
        """There is something to ship."""
        self._wake.set()

    def stop(self) -> None:
        """End the thread; what is not shipped stays in the local journal."""
        self._stopped = True
        self._wake.set()
        self._thread.join(timeout=5.0)

    def _run(self) -> None:
        timeout: float | None = None
        while True:
            self._wake.wait(timeout)
            self._wake.clear()
            if self._stopped:
                return
            try:
                self._ledger.mirror()
                timeout = None
            except Fenced as fenced:
                self._on_fenced(fenced)
                return
            except StoreError:
                timeout = self._retry_s
