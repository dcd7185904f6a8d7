"""The agent's loop: an event comes in, is decided, recorded, and its effects are carried out.

The only loop.  Everything else (notice sources, the capsule's init, captures and restores
in their threads) posts events into ``inbox``.  What a worker reports counts only while its
effect is still wanted: an outcome that a later decision overtook is dropped.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from loguru import logger

from fsnap.agent.ledger import Ledger
from fsnap.clock import Clock
from fsnap.core.effects import Durability, Effect, Exit, Kill, Rollback, durability
from fsnap.core.events import CapsuleLost, DumpFailed, Event, Notice, SnapshotSaved, Tick
from fsnap.core.model import Facts, SnapshotRef, TaskState
from fsnap.core.planner import Decision
from fsnap.crashpoints import CrashPoint, reach
from fsnap.errors import AgentCrash, CapsuleError, Fenced, FsnapError, StoreError
from fsnap.journal.errors import JournalError

TICK_S = 0.25
MIRROR_RETRY_S = 1.0
PATIENCE_S = {"begin": 0.0, "claim": 0.0, "claim_bare": 0.0, "give_up": 5.0, "commit": None, "unhold": None}
"""How long a record's effects wait for a store that does not answer, by trigger; ``None``: without end.

A frozen tree waits for ever, since only the record decides who may go on with it; a claim that
can't be recorded is not taken.
"""

PATIENCE_OTHER_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """One thing in the inbox."""

    event: Event | None = None
    token: int = 0
    """Of the worker that reports it; 0: not a worker."""
    seen_mono_s: float = 0.0
    failure: BaseException | None = None
    """Ends the loop: this node was fenced, or a worker met what nobody foresaw."""


class NotRecorded(StoreError):
    """The local journal does not take the record of a decision."""

    code = "not-recorded"
    hint = "Make room on the disk that holds FSNAP_HOME."


class Hands(Protocol):
    """Whoever carries out effects; what it begins reports later, with the token of that time."""

    exit: Exit | None

    @property
    def token(self) -> int: ...

    def connect(
        self, report: Callable[[int, Event], None], crash: Callable[[BaseException], None]
    ) -> None: ...

    def carry_out(self, effect: Effect, state: TaskState) -> None: ...

    def stand_still(self) -> None: ...

    def learn(self, ref: SnapshotRef) -> None: ...


class Book(Protocol):
    """Whoever gathers facts."""

    deadline_s: float | None
    failed_dumps: int

    def facts(self) -> Facts: ...


class Shipper(Protocol):
    """Whoever puts local records into the store when they need not be there at once."""

    def soon(self) -> None: ...

    def stop(self) -> None: ...


class TaskLoop:
    """Carries one task from its claim to its end on this node."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        book: Book,
        executor: Hands,
        clock: Clock,
        shipper: Callable[[Callable[[Fenced], None]], Shipper],
    ) -> None:
        self._ledger = ledger
        self._book = book
        self._executor = executor
        self._clock = clock
        self.inbox: queue.SimpleQueue[Posted] = queue.SimpleQueue()
        executor.connect(self.post_outcome, self.post_crash)
        self._mirror = shipper(self.post_fenced)

    # -- posting, from any thread and from signal handlers

    def post(self, event: Event, seen_mono_s: float | None = None) -> None:
        """Something happened."""
        now = self._clock.mono_s()
        self.inbox.put(Posted(event=event, seen_mono_s=now if seen_mono_s is None else seen_mono_s))

    def post_outcome(self, token: int, event: Event) -> None:
        """A worker's effect came out."""
        self.inbox.put(Posted(event=event, token=token, seen_mono_s=self._clock.mono_s()))

    def post_fenced(self, fenced: Fenced) -> None:
        """Another node has the task."""
        self.inbox.put(Posted(failure=fenced))

    def post_crash(self, problem: BaseException) -> None:
        """A worker failed in a way that no event tells: only a lost claim, store or capsule ends the task."""
        told = isinstance(problem, (Fenced, StoreError, CapsuleError))
        self.inbox.put(Posted(failure=problem if told else _defect(problem)))

    @property
    def state(self) -> TaskState:
        """The task's state by this node's journal."""
        return self._ledger.state

    # -- the loop

    def run(self) -> int:
        """Serve until an ``Exit``; the exit code.

        :class:`Fenced`, :class:`StoreError` and :class:`AgentCrash` end it too.
        """
        self._mirror.soon()
        while self._executor.exit is None:
            posted = self._next()
            try:
                self._take(posted)
            except FsnapError:
                raise
            except Exception as defect:
                raise _defect(defect) from defect
        self._mirror.stop()
        return self._executor.exit.exit_code

    def stop(self) -> None:
        """Give up the background shipping."""
        self._mirror.stop()

    def _next(self) -> Posted:
        try:
            return self.inbox.get(timeout=TICK_S)
        except queue.Empty:
            return Posted(event=Tick(), seen_mono_s=self._clock.mono_s())

    def _take(self, posted: Posted) -> None:
        if posted.failure is not None:
            raise posted.failure
        event = posted.event
        assert event is not None
        if posted.token and posted.token != self._executor.token:
            logger.debug("dropped an outdated outcome: {}", type(event).__name__)
            return
        try:
            self.handle(event, posted.seen_mono_s)
        except NotRecorded as problem:
            # Nothing was decided, so nothing was done: the task runs on, and what happened is decided later.
            logger.warning("nothing can be recorded: {}", problem)
            self._clock.sleep(MIRROR_RETRY_S)
            if not isinstance(event, Tick):
                self.inbox.put(posted)

    def handle(self, event: Event, seen_mono_s: float) -> None:
        """Decide on *event*, record the decision, do what it says."""
        self._note(event, seen_mono_s)
        facts = self._book.facts()
        if isinstance(event, Notice):
            facts = replace(facts, notice_age_ms=max(0, facts.mono_ms - int(seen_mono_s * 1000)))
        decision = self._ledger.decide(event, facts)
        if decision.trigger is None:
            return
        reach(CrashPoint.DECIDED)
        try:
            record = self._ledger.commit(event, facts, decision)
        except JournalError as problem:
            raise NotRecorded(str(problem)) from problem
        reach(CrashPoint.RECORDED)
        pending = self._ledger.state.pending
        self._book.deadline_s = None if pending is None else pending.deadline_mono_ms / 1000
        if _gives_back(decision):
            self._executor.stand_still()
        self._make_durable(decision)
        _log(decision, event)
        reach(CrashPoint.DURABLE)
        try:
            for effect in record.effects:
                self._executor.carry_out(effect, self._ledger.state)
                reach(CrashPoint.EFFECT_BEGUN)
        except CapsuleError as problem:
            self.handle(CapsuleLost(message=str(problem)), seen_mono_s)
        self._after(event, decision)

    def _note(self, event: Event, seen_mono_s: float) -> None:
        """What the fact book learns from the event itself."""
        if isinstance(event, Notice) and event.notice_id not in self.state.notices:
            self._book.failed_dumps = 0
        elif isinstance(event, DumpFailed):
            self._book.failed_dumps += 1

    def _after(self, event: Event, decision: Decision) -> None:
        if isinstance(event, SnapshotSaved):
            self._executor.learn(event.ref)
        elif isinstance(event, DumpFailed):
            # Most failures have rolled back already; where CRIU died nobody has.
            self._executor.carry_out(Rollback(), self.state)

    def _make_durable(self, decision: Decision) -> None:
        if durability(decision.effects) is Durability.LOCAL:
            self._mirror.soon()
            return
        assert decision.trigger is not None
        patience_s = PATIENCE_S.get(decision.trigger, PATIENCE_OTHER_S)
        try:
            persist(self._ledger.mirror, patience_s, self._clock)
            self._mirror.soon()
        except StoreError as problem:
            if decision.trigger != "give_up":
                raise
            exits = [effect for effect in decision.effects if isinstance(effect, Exit)]
            logger.error("the store does not answer, and the node goes: {} ({})", problem, exits)


def _gives_back(decision: Decision) -> bool:
    """The claim is free as soon as the record is the world's, so nothing may run here from before that on.

    A committed tree stands still already: it is at its gate.
    """
    return decision.trigger != "commit" and any(isinstance(effect, Kill) for effect in decision.effects)


def _defect(problem: BaseException) -> AgentCrash:
    logger.opt(exception=problem).debug("the defect:")
    return AgentCrash(f"internal error: {type(problem).__name__}: {problem}")


def guarded(work: Callable[[], None], crash: Callable[[BaseException], None]) -> None:
    """Do *work* in a thread of its own; what nobody foresaw goes to *crash*, where it is answered for."""
    try:
        work()
    except Exception as defect:
        crash(defect)


def persist(ship: Callable[[], None], patience_s: float | None, clock: Clock) -> None:
    """Call *ship* until the store takes it, *patience_s* seconds at most; ``None``: without end."""
    end = None if patience_s is None else clock.mono_s() + patience_s
    while True:
        try:
            ship()
            return
        except StoreError as problem:
            if end is not None and clock.mono_s() >= end:
                raise
            logger.warning("waits for the store: {}", problem)
            clock.sleep(MIRROR_RETRY_S)


def _log(decision: Decision, event: Event) -> None:
    level = "WARNING" if isinstance(event, DumpFailed) else "INFO" if decision.note else "DEBUG"
    details: dict[str, Any] = {
        "state": decision.next_state.value,
        "why": decision.note or type(event).__name__,
    }
    logger.log(level, "{state}: {why}", **details)
