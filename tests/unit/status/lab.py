"""Tasks at fixed moments, and a node that records them for real."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fsnap.agent.ledger import Ledger
from fsnap.cli.main import build_parser, main
from fsnap.cli.status import status
from fsnap.clock import rfc3339
from fsnap.core.events import ClaimAsked, Event, Notice, RestoreReady, SnapshotSaved, TaskExited
from fsnap.core.model import Basis, Config, Facts, Holder, Pending, SnapshotRef, State, TaskState
from fsnap.core.status import Sample, Signs
from fsnap.journal.heartbeat import Beat, Heartbeat
from fsnap.journal.local import Journal
from fsnap.journal.mirror import Mirror
from fsnap.stores.base import Store
from fsnap.stores.file import FileStore

NOW = datetime(2026, 11, 21, 22, 30, 0, tzinfo=UTC)
MIB = 1024 * 1024
HOLDER = Holder(
    node="node-a", instance="i-1", boot_id="another boot", pid_ns="pid:[1]", init_pid=9, init_start=7
)
FACTS = Facts(tree_bytes=800 * MIB, files_bytes=0, commit_bps=100 * MIB, fixed_ms=1_000)
"""A commit of nine seconds."""


def ago(seconds: float) -> str:
    return rfc3339(NOW - timedelta(seconds=seconds))


def ref(
    name: str = "000001-0000000005", *, age_s: float = 60, kind: str = "periodic", **more: Any
) -> SnapshotRef:
    fields = {
        "manifest": "ab" * 32,
        "epoch": 1,
        "bytes": 1300 * MIB,
        "new_bytes": 210 * MIB,
        "stored_bytes": 90 * MIB,
        "run_ms": 725_000,
        "stdout_bytes": 0,
        "stderr_bytes": 0,
    }
    return SnapshotRef(id=name, kind=kind, committed_at=ago(age_s), **{**fields, **more})


def state(name: State = State.RUNNING, **more: Any) -> TaskState:
    """A task that node-a holds in epoch 2, changed four minutes and twelve seconds ago."""
    fields: dict[str, Any] = {
        "task": "align",
        "seq": 7,
        "epoch": 2,
        "digest": "d" * 64,
        "since": ago(252),
        "held": name not in (State.NEW, State.COMPLETED, State.FAILED),
        "holder": None if name is State.NEW else HOLDER,
        "config": Config(provider="aws"),
        "command": ("python3", "train.py", "--rate", "0.1 %"),
    }
    return TaskState(state=name, **{**fields, **more})


def pending(*, left_s: float, wall: bool = False) -> Pending:
    """A notice of a window of 120 s; with *wall* the provider named its end."""
    return Pending(
        notice_id="n1",
        provider="aws",
        window_ms=120_000,
        seen_at=ago(120 - left_s),
        deadline_mono_ms=0,
        deadline_at=ago(-left_s) if wall else "",
    )


def signs(*, beat_s: float | None = 5, commit_ms: int | None = 9_000, epoch: int = 2, **more: Any) -> Signs:
    """A heartbeat some seconds ago that planned a commit of nine."""
    unsupported = more.pop("unsupported", False)
    return Signs(
        heartbeat_at=None if beat_s is None else NOW - timedelta(seconds=beat_s),
        heartbeat_epoch=0 if beat_s is None else epoch,
        heartbeat_known=True,
        sample=Sample(
            epoch=epoch, commit_ms=commit_ms, unsupported=unsupported, reason=more.pop("reason", "")
        ),
        **more,
    )


@dataclass
class FrozenClock:
    """Time that stands; a sleep moves it, and the last one that is allowed is a Ctrl-C."""

    now: datetime = NOW
    sleeps: int = 0
    woken: Callable[[], None] = field(default=lambda: None)

    def mono_s(self) -> float:
        return self.now.timestamp()

    def boot_s(self) -> float:
        return self.now.timestamp()

    def wall(self) -> datetime:
        return self.now

    def sleep(self, seconds: float) -> None:
        if not self.sleeps:
            raise KeyboardInterrupt
        self.sleeps -= 1
        self.now += timedelta(seconds=seconds)
        self.woken()


class Node:
    """A machine that records what happens to its tasks, decided by the real planner."""

    def __init__(self, tmp_path: Path, *, store: Store | None = None, name: str = "node-a") -> None:
        self.name = name
        self.home = tmp_path / f"home-{name}"
        self.store = store or FileStore(str(tmp_path / "store"))
        self.clock = FrozenClock()
        self.journal = Journal.open(self.home / "journal.db")
        self.holder = replace(HOLDER, node=name)
        self._nonces = 0

    def ledger(self, task: str, *, heads: bool = True) -> Ledger:
        """*task* as this node has it, pulled."""
        mirror = Mirror(journal=self.journal, store=self.store, task=task, nonce=self._nonce)
        ledger = Ledger(
            journal=self.journal,
            mirror=mirror,
            task=task,
            node=self.name,
            clock=self.clock,
            head_store=self.store if heads else None,
        )
        ledger.pull()
        return ledger

    def _nonce(self) -> str:
        self._nonces += 1
        return f"{self.name} {self._nonces}"

    def records(self, ledger: Ledger, *events: Event, facts: Facts | None = None, ship: bool = True) -> None:
        """*events* happen and are recorded; then the store has them, and the head."""
        for event in events:
            known = facts or Facts()
            ledger.commit(event, known, ledger.decide(event, known))
        if ship:
            ledger.mirror()
            ledger.publish()

    def starts(
        self, task: str, *, config: Config | None = None, ship: bool = True, heads: bool = True
    ) -> Ledger:
        """Begins *task*."""
        ledger = self.ledger(task, heads=heads)
        self.records(ledger, claim(self.holder, config=config), ship=ship)
        return ledger

    def checkpoints(self, ledger: Ledger) -> None:
        """To the end with a notice: dumped, committed, 177."""
        notice = Notice(notice_id=f"n{ledger.state.seq}", provider="aws", window_ms=120_000)
        self.records(ledger, notice, facts=FACTS)
        dump = f"{ledger.state.epoch:06d}-{ledger.state.seq:010d}"
        self.records(ledger, SnapshotSaved(ref=ref(dump, kind="final", age_s=0, epoch=ledger.state.epoch)))

    def resumes(self, ledger: Ledger) -> None:
        """Goes on with a task that another node checkpointed."""
        ledger.pull()
        self.records(ledger, claim(self.holder, basis=Basis.UPLOADED))
        chosen = ledger.state.usable[0].id
        self.records(ledger, RestoreReady(snapshot_id=chosen, holder=self.holder))

    def ends(self, ledger: Ledger, code: int) -> None:
        self.records(ledger, TaskExited(exit_code=code))

    def beats(self, ledger: Ledger, *, age_s: float = 0, **sample: int) -> Beat:
        """A heartbeat, in the store."""
        beat = Beat(
            node=self.name,
            epoch=ledger.state.epoch,
            count=1,
            at=ago(age_s),
            sample={"commit_ms": 9_000, "tree_bytes": 800 * MIB, "unsupported": 0, **sample},
        )
        Heartbeat.put(self.store, ledger.state.task, beat)
        return beat


def claim(holder: Holder, *, basis: Basis = Basis.NEW, config: Config | None = None) -> ClaimAsked:
    return ClaimAsked(
        basis=basis,
        holder=holder,
        config=config or Config(provider="aws", shared_state=True),
        command=("python3", "train.py", "a b"),
        command_digest="cd",
        cwd="/data",
    )


class Terminal(io.StringIO):
    """A stdout that is a terminal."""

    def isatty(self) -> bool:
        return True


def run_status(*words: str, clock: FrozenClock | None = None) -> int:
    """``fsnap status`` in this process, at a fixed moment; errors are raised."""
    return status(build_parser().parse_args(["status", *words]), clock or FrozenClock())


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> Terminal:
    """stdout is a terminal from now on."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", str(columns))
    return terminal


Capture = pytest.CaptureFixture[str]


def asked(capsys: Capture, *words: str) -> tuple[int, dict[str, Any]]:
    """The exit code and the one document."""
    code = run_status(*words, "--json")
    shown = capsys.readouterr()
    assert shown.err == ""
    document = json.loads(shown.out)
    assert document["schema"] == 1
    return code, document


def refused(capsys: Capture, *words: str) -> tuple[int, str]:
    """Through ``main``: the exit code and the one line; nothing is on stdout."""
    code = main(["status", *words])
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert shown.err.startswith("fsnap: ")
    return code, shown.err
