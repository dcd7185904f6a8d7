"""What the probes give the real code in place of a machine: a clock, a store, hands, a capsule.

Fault model: the store can be away; the control's answers can be slow.  Nothing here starts a process.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fsnap.agent.ledger import Ledger
from fsnap.core.effects import Effect, Exit
from fsnap.core.events import ClaimAsked, Event, Notice
from fsnap.core.model import Attempt, Basis, Config, Facts, Holder, TaskState
from fsnap.core.records import Record
from fsnap.errors import StoreError
from fsnap.journal.local import Journal
from fsnap.journal.mirror import Mirror, journal_prefix
from fsnap.stores.base import Buffer
from fsnap.stores.memory import MemoryStore

TASK = "probe"
LEASE_MS = 10_000


class HandClock:
    """All clocks of one machine; *on_sleep* is told of every second that passes in a sleep."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.on_sleep: Callable[[], None] = lambda: None

    def mono_s(self) -> float:
        return self.now_s

    def boot_s(self) -> float:
        return self.now_s

    def wall(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.now_s)

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self.on_sleep()


class WatchedStore(MemoryStore):
    """A store that writes down what was put, in order, and can be away for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[str] = []
        self.away = 0
        """So many of the next writes fail."""
        self.forgets = False
        """What is put is acknowledged and not kept."""

    def put(self, key: str, data: Buffer) -> None:
        self._write(key)
        if not self.forgets:
            super().put(key, data)

    def create(self, key: str, data: Buffer) -> None:
        self._write(key)
        if not self.forgets:
            super().create(key, data)

    def _write(self, key: str) -> None:
        if self.away:
            self.away -= 1
            raise StoreError("it is away")
        self.written.append(key)

    def records(self) -> int:
        """Journal objects that are there."""
        return len(list(self.list(journal_prefix(TASK))))


def holder(name: str = "node") -> Holder:
    """A capsule that is not on this machine."""
    return Holder(node=name, instance=name, boot_id="another", pid_ns="", init_pid=2, init_start=1)


def claim(basis: Basis = Basis.NEW, name: str = "node", attempt: Attempt | None = None) -> ClaimAsked:
    """A claim with a lease."""
    config = Config(lease_ms=LEASE_MS)
    return ClaimAsked(basis=basis, holder=holder(name), attempt=attempt, config=config, command=("true",))


NOTICE = Notice(notice_id="n", provider="probe", window_ms=60_000)


class Stage:
    """One node's journal over a store."""

    _names = itertools.count()

    def __init__(self, folder: Path, store: WatchedStore | None = None) -> None:
        self.clock = HandClock()
        self.store = store or WatchedStore()
        number = next(self._names)
        nonces = (f"{number}-{count}" for count in itertools.count())
        self.journal = Journal.open(folder / f"{number}.db")
        mirror = Mirror(journal=self.journal, store=self.store, task=TASK, nonce=lambda: next(nonces))
        self.ledger = Ledger(
            journal=self.journal, mirror=mirror, task=TASK, node=f"node{number}", clock=self.clock
        )
        self.ledger.pull()

    def take(self, event: Event, facts: Facts | None = None) -> Record:
        """Decide on *event* and record it here."""
        facts = facts or Facts()
        return self.ledger.commit(event, facts, self.ledger.decide(event, facts))

    def live(self, name: str = "node") -> None:
        """The task is live, held by *name*, and the world knows it."""
        self.take(claim(name=name))
        self.ledger.mirror()


class Hands:
    """Carries nothing out; writes down what was wanted, and how many records the store had then."""

    def __init__(self, store: WatchedStore) -> None:
        self._store = store
        self.done: list[tuple[str, int]] = []
        self.token = 0
        self.exit: Exit | None = None

    def connect(self, report: Any, crash: Any) -> None:
        pass

    def carry_out(self, effect: Effect, state: TaskState) -> None:
        self.done.append((type(effect).__name__, self._store.records()))

    def stand_still(self) -> None:
        self.done.append(("stand still", self._store.records()))

    def learn(self, ref: object) -> None:
        pass

    def take_gate(self, run: object, state: TaskState) -> None:
        self.done.append(("take gate", self._store.records()))

    def resume_watching(self, state: TaskState, control: object) -> None:
        self.done.append(("watch", self._store.records()))


class Capsules:
    """A living capsule of an earlier agent; writes down how it ends, and how many records there were."""

    def __init__(self, store: WatchedStore, alive: Holder) -> None:
        self._store = store
        self._alive = alive
        self.done: list[tuple[str, int]] = []
        self.root_pid = 1000
        self.control: Any = SimpleNamespace(request=self._answer)

    def _answer(self, op: str, **_: Any) -> dict[str, Any]:
        self.done.append((op, self._store.records()))
        return {"gate": None, "root_pid": self.root_pid, "exit_code": None, "helpers": {}, "boot_s": 0.0}

    def last_here(self) -> Holder:
        return self._alive

    def left_alive(self) -> bool:
        return True

    def adopt(self, holder: Holder) -> Any:
        return self.control

    def pause(self, holder: Holder) -> None:
        self.done.append(("freeze", self._store.records()))

    def end(self) -> None:
        self.done.append(("end", self._store.records()))
