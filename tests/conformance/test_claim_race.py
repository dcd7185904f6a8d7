"""Two agents that want the same claim, again and again: each time exactly one has it, and the other knows.

The agent's own journal, mirror, ledger and claim rules, over each store; only the capsule is left out.
"""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fsnap.agent.claiming import Claimant
from fsnap.agent.ledger import Ledger
from fsnap.clock import SystemClock
from fsnap.core.events import ClaimAsked, Notice
from fsnap.core.model import Basis, Config, Facts, Holder
from fsnap.core.records import check_chain
from fsnap.errors import Fenced, NotOurs
from fsnap.journal.local import Journal
from fsnap.journal.mirror import Mirror, read_records
from fsnap.stores.base import Store
from fsnap.stores.retrying import Patience, RetryingStore
from tests.conformance.support import OpenStore

ROUNDS = {"memory": 480, "file": 240}
OF_A_SERVER = 20
MANY_ROUNDS = 1000
CLAIMS = 4
"""Of one task: its first and later ones; a journal that gets long is read again by each claim."""
PATIENCE = Patience(attempts=5, base_s=0.01, cap_s=0.1, total_s=60.0)


@dataclass(slots=True)
class Racer:
    """One node's agent, as far as claims go."""

    name: str
    ledger: Ledger
    claimant: Claimant
    won: list[int] = field(default_factory=list)
    """Epochs."""

    def claim(self, round_: int) -> None:
        """Look, judge, record, and find out."""
        try:
            verdict = self.claimant.wait(lambda: False)
            assert verdict is not None and verdict.basis is not None
            asked = self._asked(verdict.basis, round_)
            facts = Facts(started=False)
            self.ledger.commit(asked, facts, self.ledger.decide(asked, facts))
            self.ledger.mirror()
        except (Fenced, NotOurs):
            return
        self.won.append(self.ledger.state.epoch)

    def give_up(self, round_: int) -> None:
        """So that the task can be claimed again."""
        notice = Notice(notice_id=f"n{round_}", provider="test", window_ms=1000)
        facts = Facts(started=False)
        decision = self.ledger.decide(notice, facts)
        assert decision.trigger == "give_up"
        self.ledger.commit(notice, facts, decision)
        self.ledger.mirror()

    def _asked(self, basis: Basis, round_: int) -> ClaimAsked:
        holder = Holder(
            node=self.name, instance=self.name, boot_id=self.name, pid_ns="1", init_pid=1, init_start=round_
        )
        return ClaimAsked(basis=basis, holder=holder, config=Config(), command=("true",), command_digest="d")


def racer(name: str, task: str, store: Store, journal: Journal) -> Racer:
    nonces = (f"{name} {number}" for number in itertools.count())
    mirror = Mirror(journal=journal, store=store, task=task, nonce=lambda: next(nonces))
    clock = SystemClock()
    ledger = Ledger(journal=journal, mirror=mirror, task=task, node=name, clock=clock)
    claimant = Claimant(
        ledger=ledger,
        store=store,
        task=task,
        attempt=None,
        instance=name,
        made_here=lambda holder: False,
        wait_s=0.0,
        clock=clock,
    )
    return Racer(name=name, ledger=ledger, claimant=claimant)


def race(open_again: OpenStore, folder: Path, rounds: int) -> None:
    tasks = [f"job:{number}/align" for number in range(rounds // CLAIMS)]
    start, end = threading.Barrier(2), threading.Barrier(2)
    racers: dict[str, list[Racer]] = {"a": [], "b": []}

    def run(name: str) -> None:
        store = RetryingStore(open_again(), patience=PATIENCE, clock=SystemClock())
        journal = Journal.open(folder / name / "journal.db")
        for task in tasks:
            mine = racer(name, task, store, journal)
            racers[name].append(mine)
            for round_ in range(1, CLAIMS + 1):
                start.wait(60)
                mine.claim(round_)
                end.wait(60)
                if mine.won[-1:] == [round_]:
                    mine.give_up(round_)
        journal.close()

    with ThreadPoolExecutor(2) as pool:
        for done in as_completed([pool.submit(run, name) for name in racers]):
            try:
                done.result()
            except BaseException:
                start.abort()
                end.abort()
                raise
    store = open_again()
    for task, a, b in zip(tasks, racers["a"], racers["b"], strict=True):
        assert sorted([*a.won, *b.won]) == list(range(1, CLAIMS + 1))
        _told(store, task, [a, b])


def _told(store: Store, task: str, racers: list[Racer]) -> None:
    """The store's journal names the same winners."""
    records = read_records(store, task)
    check_chain(records, task=task, prev="", first_seq=1)
    claims = {record.epoch: record.node for record in records if isinstance(record.event, ClaimAsked)}
    assert claims == {epoch: each.name for each in racers for epoch in each.won}
    assert len(records) == 2 * CLAIMS


def test_of_two_claimants_one_wins_each_time(
    open_again: OpenStore, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.params["open_again"]
    race(open_again, tmp_path, ROUNDS.get(name, OF_A_SERVER))


@pytest.mark.slow
def test_a_thousand_times(open_again: OpenStore, tmp_path: Path) -> None:
    race(open_again, tmp_path, MANY_ROUNDS)
