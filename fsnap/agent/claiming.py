"""Taking the claim: look at the journal, at the holder and at its heartbeat, then judge."""

from __future__ import annotations

from collections.abc import Callable

from loguru import logger

from fsnap.agent.ledger import Ledger
from fsnap.capsule import identity
from fsnap.clock import Clock
from fsnap.core.claim import Sight, Verdict, judge
from fsnap.core.model import TERMINAL, Attempt, Holder, TaskState
from fsnap.errors import NotOurs
from fsnap.journal.heartbeat import Heartbeat
from fsnap.keys import KeyRing
from fsnap.stores.base import Store

LOOK_S = 1.0


def holder_gone(holder: Holder | None, *, instance: str, made_here: bool) -> bool:
    """The recorded init is known to be dead.

    On this very boot and PID namespace: there is no such process (a PID namespace's number is used
    again only once it has ended with every process in it).  On another boot: this is its machine, by
    the cloud's *instance* id, or because it was *made here*, by this ``FSNAP_HOME``.  Anything else
    is not known.
    """
    if holder is None:
        return False
    if holder.boot_id != identity.boot_id():
        return made_here or bool(instance and holder.instance == instance)
    if holder.pid_ns != identity.pid_namespace():
        return False
    return identity.start_ticks(holder.init_pid) != holder.init_start


class Claimant:
    """One node's look at a task that it would like to run."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        store: Store,
        task: str,
        attempt: Attempt | None,
        instance: str,
        made_here: Callable[[Holder | None], bool],
        wait_s: float,
        clock: Clock,
        keys: KeyRing | None = None,
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._task = task
        self._attempt = attempt
        self._instance = instance
        self._made_here = made_here
        self._wait_s = wait_s
        self._clock = clock
        self._keys = keys

    def verdict(self, state: TaskState, still_ms: int = 0) -> Verdict:
        """May it claim, as things are?"""
        sight = Sight(
            attempt=self._attempt,
            holder_gone=holder_gone(
                state.holder, instance=self._instance, made_here=self._made_here(state.holder)
            ),
            heartbeat_still_ms=still_ms,
        )
        return judge(state, sight)

    def wait(self, interrupted: Callable[[], bool]) -> Verdict | None:
        """The verdict that allows the claim, after ``--wait`` seconds at most; else :class:`NotOurs`.

        ``None`` when the task has ended meanwhile: there is nothing to claim.
        """
        began = self._clock.mono_s()
        beat = None
        seen_since = began
        while True:
            state = self._ledger.pull()
            if state.state in TERMINAL:
                return None
            now = self._clock.mono_s()
            latest = Heartbeat.read(self._store, self._task, self._keys)
            if latest != beat:
                beat, seen_since = latest, now
            verdict = self.verdict(state, int((now - seen_since) * 1000))
            if verdict.basis is not None:
                return verdict
            if now - began >= self._wait_s or interrupted():
                raise NotOurs(
                    f"task {self._task} is {verdict.reason}", hint=_hint(verdict, state, self._attempt)
                )
            if now - began < LOOK_S:
                logger.info("waits up to {:.0f} s: {}", self._wait_s, verdict.reason)
            self._clock.sleep(min(LOOK_S, self._wait_s))


def _hint(verdict: Verdict, state: TaskState, attempt: Attempt | None) -> str:
    if attempt is not None and state.attempt is not None and attempt.number <= state.attempt.number:
        return f"This is attempt {attempt.number}, and attempt {state.attempt.number} has it."
    if verdict.wait_ms is not None:
        return f"If that node is dead, say --attempt N, or --wait {verdict.wait_ms // 1000 + 10}."
    return "If that node is dead, say --attempt N with a higher number."
