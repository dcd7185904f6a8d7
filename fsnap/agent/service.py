"""``fsnap run``, wired together: from checked settings to an exit code."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from secrets import token_hex

from loguru import logger

from fsnap import signals
from fsnap.agent.adoption import find_unrecorded
from fsnap.agent.home import RunDir, journal_path
from fsnap.agent.ledger import HEAD_PATIENCE, Ledger
from fsnap.agent.loop import MIRROR_RETRY_S
from fsnap.agent.node import this_node
from fsnap.agent.parts import Parts
from fsnap.agent.recovery import end_stray, lives_on, take_over
from fsnap.agent.restart import start_again
from fsnap.agent.settings import RunSettings
from fsnap.capsule.subreaper import become_subreaper
from fsnap.clock import Clock, SystemClock
from fsnap.core.events import CancelAsked, ClaimAsked, Event, Notice, RenewAsked, SnapshotFound
from fsnap.core.model import TERMINAL, State, TaskState
from fsnap.core.retention import over_and_done
from fsnap.durable import write_atomic
from fsnap.errors import (
    EXIT_CHECKPOINTED,
    AgentCrash,
    CorruptData,
    Fenced,
    NoSuchCommand,
    StoreError,
    UsageError,
)
from fsnap.ids import command_digest, task_key
from fsnap.journal.errors import StoreBehind
from fsnap.journal.local import Journal, set_aside
from fsnap.journal.mirror import Mirror
from fsnap.notices.base import NoticeSource
from fsnap.notices.providers import open_source
from fsnap.stores.probe import probe_conditional_create
from fsnap.stores.retrying import Patience, RetryingStore
from fsnap.stores.urls import open_store

START_PATIENCE = Patience(attempts=20, base_s=0.1, cap_s=1.0, total_s=10.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How ``run`` ended."""

    exit_code: int
    outcome: str
    note: str = ""
    resume_from: str | None = None


class Service:
    """One ``fsnap run``."""

    def __init__(self, settings: RunSettings, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock or SystemClock()
        self._pending: queue.SimpleQueue[tuple[Event, float]] = queue.SimpleQueue()
        self._post: Callable[[Event, float], None] = lambda event, seen: self._pending.put((event, seen))
        self._terms = 0
        self._run_id = token_hex(4)

    # -- signals

    @contextmanager
    def _signals(self) -> Iterator[None]:
        before = {number: signal.getsignal(number) for number in signals.ANSWERED}
        for number in signals.ANSWERED:
            signal.signal(number, self._on_signal)
        for held in signals.release():
            self._on_signal(held, None)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: object) -> None:
        """SIGTERM is a notice; SIGINT, and a second SIGTERM, are for the task."""
        event: Event = CancelAsked(signal=number)
        if number == signal.SIGTERM:
            self._terms += 1
            if self._terms == 1:
                event = Notice(
                    notice_id=f"sigterm-{self._run_id}",
                    provider="sigterm",
                    window_ms=int(self._settings.term_window_s * 1000),
                )
        self._post(event, self._clock.mono_s())

    # -- the run

    def run(self) -> Outcome:
        """Carry the task as far as this node can; errors that the user must see are raised."""
        settings = self._settings
        program = settings.command[0]
        # A path that is there but can't be executed is started all the same, for its own reason and 126.
        if shutil.which(program, path=os.environ.get("PATH")) is None and not (
            "/" in program and os.path.exists(program)
        ):
            raise NoSuchCommand(f"{program}: no such command")
        with self._signals():
            source = open_source(settings.provider, clock=self._clock, env=os.environ)
            settings = self._settings = _with_provider(settings, source)
            run_dir = RunDir(settings.home, settings.task)
            agent_lock = run_dir.lock_agent()
            journal = _open_journal(settings.home)
            journal.keys = settings.keys
            try:
                store = self._open_store(lives_on(run_dir, journal, settings))
                source.start(lambda event, seen: self._post(event, seen))
                return self._with_journal(journal, store, run_dir, source)
            finally:
                source.stop()
                journal.close()
                os.close(agent_lock)

    def _open_store(self, orphaned: bool) -> RetryingStore:
        """The store, probed; as long as it takes, and unprobed, where a copy is *orphaned* here."""
        url = self._settings.store_url
        while True:
            try:
                raw = open_store(url, create=not orphaned)
                break
            except StoreError as problem:
                if not orphaned:
                    raise
                logger.warning("the task lives here, and its store does not answer: {}", problem)
                self._clock.sleep(MIRROR_RETRY_S)
        store = RetryingStore(raw, patience=START_PATIENCE, clock=self._clock)
        if not orphaned:
            probe_conditional_create(store)
        return store

    def _with_journal(
        self, journal: Journal, store: RetryingStore, run_dir: RunDir, source: NoticeSource
    ) -> Outcome:
        settings = self._settings
        node = this_node(source.name, os.environ)
        mirror = Mirror(journal=journal, store=store, task=settings.task, nonce=lambda: token_hex(16))
        ledger = Ledger(
            journal=journal,
            mirror=mirror,
            task=settings.task,
            node=node.name,
            clock=self._clock,
            head_store=store.with_patience(HEAD_PATIENCE),
        )
        try:
            state = ledger.pull()
        except StoreBehind:
            if not settings.fresh:
                raise
            journal.forget(settings.task, "the store lacks it, and --fresh was said")
            state = ledger.pull()
        except StoreError as problem:
            if not lives_on(run_dir, journal, settings):
                raise
            logger.warning("the task lives here, and its store does not answer: {}", problem)
            state = ledger.recall()
        self._check_identity(state)
        become_subreaper()  # of inits whose agent died: they can be reaped then
        parts = Parts(settings, run_dir, store, ledger, node, self._clock)
        try:
            return self._settle(parts, state)
        finally:
            parts.close()

    def _check_identity(self, state: TaskState) -> None:
        if not state.command_digest or self._settings.fresh:
            return
        ours = tuple(str(path) for path in self._settings.state_dirs)
        if state.usable and state.state is not State.FAILED and state.config.state_dirs != ours:
            raise UsageError(
                f"task {state.task} has other state dirs: {', '.join(state.config.state_dirs)}",
                hint="They must be the same on every node; or say --fresh to begin anew.",
            )
        if state.command_digest != command_digest(self._settings.command):
            raise UsageError(
                f"task {state.task} belongs to another command: {' '.join(state.command)[:200]}",
                hint="Use another --task, or --fresh to begin anew under this one.",
            )

    def _settle(self, parts: Parts, state: TaskState) -> Outcome:
        """Answer at once, take over a living capsule, or claim."""
        if over_and_done(state) and not self._settings.fresh:
            return self._already_completed(parts, state)
        loop = parts.loop
        adopted = parts.capsules.left_alive() and take_over(parts, loop)
        if not adopted:
            early = self._claim_until_won(parts)
            if early is not None:
                return early
        if parts.executor.exit is None:
            parts.lease.start()
            if self._settings.warm:
                parts.warm.start()
        self._connect(parts)
        try:
            code = loop.run()
        except Fenced as fenced:
            parts.capsules.end()
            raise fenced
        except StoreError:
            parts.capsules.end()
            raise
        except AgentCrash as crash:
            parts.abandon()
            start_again(crash)
            raise
        finally:
            loop.stop()
        return self._outcome(parts, code)

    def _already_completed(self, parts: Parts, state: TaskState) -> Outcome:
        parts.ledger.mirror()  # an agent may have died between this record and its put
        if parts.capsules.left_alive():
            end_stray(parts, parts.capsules.last_here())  # else it could write into the files that come back
        files = [ref for ref in state.snapshots if ref.kind == "files"]
        if files and not self._settings.config.shared_state:
            parts.restorer.restore_completed(files[-1])
        logger.info("task {} ended with {} before; its files are here again", state.task, state.exit_code)
        return Outcome(exit_code=state.exit_code or 0, outcome="exited")

    def _claim_until_won(self, parts: Parts) -> Outcome | None:
        """Claim; what is there is looked at again when another record comes first.

        That may be one which the holder had under way when it died, and which changes nothing.
        """
        while True:
            try:
                return self._claim(parts)
            except Fenced as lost:
                logger.info("{}: looks again", lost)
                parts.capsules.end()
            state = parts.ledger.pull()
            if over_and_done(state) and not self._settings.fresh:
                return self._already_completed(parts, state)

    def _claim(self, parts: Parts) -> Outcome | None:
        """Take the claim, or say why ``run`` ends before anything was started."""
        ledger, settings = parts.ledger, self._settings
        basis = None
        if ledger.state.state not in TERMINAL:
            verdict = parts.claimant.wait(lambda: not self._pending.empty())
            basis = None if verdict is None else verdict.basis
            if over_and_done(ledger.state) and not settings.fresh:
                return self._already_completed(parts, ledger.state)
        reclaimed = self._reclaimed_before_start(parts)
        if reclaimed is not None:
            return reclaimed
        facts = parts.book.facts()
        self._adopt_unrecorded(parts)
        if settings.fresh or ledger.state.state in TERMINAL:
            if ledger.state.state is not State.NEW:
                ended = "it had failed" if ledger.state.state is State.FAILED else "its files were deleted"
                renewal = RenewAsked(reason="fresh" if settings.fresh else ended)
                ledger.commit(renewal, facts, ledger.decide(renewal, facts))
            basis = parts.claimant.verdict(ledger.state).basis
        assert basis is not None
        holder = parts.capsules.launch()
        claim = ClaimAsked(
            basis=basis,
            holder=holder,
            attempt=settings.attempt,
            config=settings.config,
            command=settings.command,
            command_digest=command_digest(settings.command),
            cwd=str(settings.cwd),
        )
        parts.loop.handle(claim, self._clock.mono_s())
        return None

    def _adopt_unrecorded(self, parts: Parts) -> None:
        """Journal a snapshot that was whole when its node died, so that the claim can use it."""
        ledger = parts.ledger
        if self._settings.fresh:
            return
        ref = find_unrecorded(
            parts.store, f"tasks/{task_key(self._settings.task)}", ledger.state, self._settings.keys
        )
        if ref is None:
            return
        found = SnapshotFound(ref=ref)
        facts = parts.book.facts()
        decision = ledger.decide(found, facts)
        if decision.trigger is not None:
            # It goes with the claim, in one object: alone it would fence a holder whom nobody follows.
            ledger.commit(found, facts, decision)
            logger.info("{}", decision.note)

    def _reclaimed_before_start(self, parts: Parts) -> Outcome | None:
        """A notice that came first: it is recorded, so that the next start does not count it again."""
        waiting: list[tuple[Event, float]] = []
        while not self._pending.empty():
            waiting.append(self._pending.get())
        for event, seen in waiting:
            if isinstance(event, CancelAsked):
                return Outcome(exit_code=128 + event.signal, outcome="cancelled", note="it was not started")
            if isinstance(event, Notice) and self._is_news(parts, event):
                usable = parts.ledger.state.usable
                return Outcome(
                    exit_code=EXIT_CHECKPOINTED,
                    outcome="checkpointed",
                    note="reclaimed before anything was started",
                    resume_from=usable[0].id if usable else None,
                )
            self._pending.put((event, seen))
        return None

    def _is_news(self, parts: Parts, notice: Notice) -> bool:
        ledger = parts.ledger
        if notice.notice_id in ledger.state.notices or notice.action == "rebalance":
            return False
        if ledger.state.state in TERMINAL:
            return True
        if ledger.state.held:
            # A record would fence the holder, who may only be cut off, and nobody would go on in its place.
            return ledger.is_first(notice)
        facts = parts.book.facts()
        decision = ledger.decide(notice, facts)
        if decision.trigger is not None:
            ledger.commit(notice, facts, decision)
            ledger.mirror()
        return True

    def _connect(self, parts: Parts) -> None:
        """From here on everything that happens goes to the loop."""
        loop = parts.loop
        self._post = loop.post
        while not self._pending.empty():
            loop.post(*self._pending.get())

    def _outcome(self, parts: Parts, code: int) -> Outcome:
        done = parts.executor.exit
        assert done is not None
        state = parts.ledger.state
        return Outcome(
            exit_code=code,
            outcome=done.outcome,
            note=state.note,
            resume_from=state.usable[0].id if state.usable and done.outcome != "exited" else None,
        )


def _with_provider(settings: RunSettings, source: NoticeSource) -> RunSettings:
    """What ``auto`` was resolved to is what the claim records: the window to expect follows from it."""
    if settings.provider != "auto":
        return settings
    return replace(settings, config=replace(settings.config, provider=source.name))


def _open_journal(home: Path) -> Journal:
    """The node's journal; a damaged one is set aside, and each task's is read from its store again."""
    path = journal_path(home)
    try:
        return Journal.open(path)
    except CorruptData as damage:
        logger.error("{}; it is set aside as {}", damage, set_aside(path))
        return Journal.open(path)


def write_result(path: Path, outcome: Outcome) -> None:
    """``--result-file``: the reason for machines."""
    document = {
        "schema": 1,
        "outcome": outcome.outcome,
        "exit_code": outcome.exit_code,
        "resume_from": outcome.resume_from,
    }
    write_atomic(path, json.dumps(document).encode() + b"\n")
