"""Decide, record, then act: the journal as the agent uses it.

``decide`` is pure; ``commit`` makes the record durable here; ``mirror`` makes it the
world's.  The state is the fold of all local records: what is not mirrored yet is this
node's own doing and is dropped if another node turns out to have the claim.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable

from loguru import logger

from fsnap.charts import task_chart
from fsnap.clock import Clock, rfc3339
from fsnap.core.drafting import draft
from fsnap.core.events import Event, Notice
from fsnap.core.fold import fold
from fsnap.core.model import Facts, TaskState
from fsnap.core.planner import Decision, decide
from fsnap.core.records import Record, seal
from fsnap.core.status import BEAT_META
from fsnap.core.values import to_plain
from fsnap.crashpoints import CrashPoint, reach
from fsnap.errors import Fenced, FsnapError, StoreError
from fsnap.journal import heads
from fsnap.journal.errors import JournalError
from fsnap.journal.heartbeat import Beat
from fsnap.journal.local import Journal
from fsnap.journal.mirror import Mirror
from fsnap.stores.base import Store
from fsnap.stores.retrying import Patience

HEAD_PATIENCE = Patience(attempts=3, base_s=0.1, cap_s=0.5, total_s=2.0)
"""A head is for lookers-on: nothing waits long for it."""

STOP_S = 5.0

NOTICE_META = "notice-before-claim"
"""The last notice that ended a start while another node held the task."""


class Ledger:
    """One task's journal on this node.  *head_store* is where its head is published, if anywhere."""

    def __init__(
        self,
        *,
        journal: Journal,
        mirror: Mirror,
        task: str,
        node: str,
        clock: Clock,
        head_store: Store | None = None,
    ) -> None:
        self.journal = journal
        self._mirror = mirror
        self._head_store = head_store
        self._published_seq = 0
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

    def recall(self) -> TaskState:
        """What this node knows, where the store can't be asked: as an agent knew that has not ended since."""
        self.state = self.journal.state(self._task)
        return self.state

    def decide(self, event: Event, facts: Facts) -> Decision:
        """What follows from *event* now."""
        return decide(self._chart, self.state, event, facts)

    def commit(self, event: Event, facts: Facts, decision: Decision) -> Record:
        """Record *decision* durably on this node; :class:`Fenced` when another node's record came first."""
        record = seal(
            draft(
                self._chart,
                self.state,
                event,
                facts,
                decision,
                node=self._node,
                at=rfc3339(self._clock.wall()),
                mono_ms=int(self._clock.mono_s() * 1000),
            )
        )
        try:
            self.journal.append(record)
        except ValueError:
            self.check()  # a renewal or the background mirror has met the fence: the loop has not heard yet
            raise
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

    def has_mirrored(self, state: TaskState) -> bool:
        """The store has the record that *state* ends with, and not another node's with its number."""
        if self.journal.mirrored_seq(self._task) < state.seq:
            return False
        return self.journal.digest_at(self._task, state.seq) == state.digest

    def publish(self) -> None:
        """Write the head of the state, if that is the world's and not written yet.

        :class:`~fsnap.errors.StoreError` when the store fails.
        """
        state = self.state
        if self._head_store is None or state.seq in (0, self._published_seq):
            return
        if not self.has_mirrored(state):
            return
        heads.publish(self._head_store, state, sealed=self.journal.keys is not None)
        self._published_seq = state.seq
        reach(CrashPoint.HEAD_PUBLISHED)

    def is_first(self, notice: Notice) -> bool:
        """No start of the task on this node has met *notice* before; it is remembered here alone."""
        seen = self.journal.get_meta(self._task, NOTICE_META) or ""
        self.journal.put_meta(self._task, NOTICE_META, notice.notice_id)
        return seen != notice.notice_id

    def keep_beat(self, beat: Beat) -> None:
        """Keep *beat* for ``fsnap status`` on this node; a journal that can't take it is only logged."""
        try:
            self.journal.put_meta(self._task, BEAT_META, json.dumps(to_plain(beat)))
        except JournalError as problem:
            logger.warning("the heartbeat was not kept here: {}", problem)


class BackgroundMirror:
    """Ships the tail soon after each local record, and the head after that, in a thread.

    A failure is left to the next try.
    """

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
        """End the thread, after a last head if the store takes it soon.

        What is not shipped stays in the local journal.
        """
        if self._stopped:
            return
        self._stopped = True
        self._wake.set()
        self._thread.join(timeout=STOP_S)

    def _run(self) -> None:
        timeout: float | None = None
        while True:
            self._wake.wait(timeout)
            self._wake.clear()
            stopped = self._stopped
            timeout = None
            try:
                if not stopped:
                    self._ledger.mirror()
                self._publish()
            except Fenced as fenced:
                self._on_fenced(fenced)
                return
            except FsnapError:
                timeout = self._retry_s
            if stopped:
                return

    def _publish(self) -> None:
        try:
            self._ledger.publish()
        except StoreError as problem:
            logger.warning("the task's head was not published: {}", problem)
            raise
