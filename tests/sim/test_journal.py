"""The journal in memory does what the real one does, call by call."""

from __future__ import annotations

import itertools
from pathlib import Path
from random import Random
from typing import Any

import pytest
from _simulate.journal import MemoryJournal

from fsnap.charts import task_chart
from fsnap.core.drafting import draft
from fsnap.core.events import CancelAsked, ClaimAsked, Notice
from fsnap.core.fold import fold
from fsnap.core.model import Basis, Facts, Holder, TaskState
from fsnap.core.planner import decide
from fsnap.core.records import Record, seal
from fsnap.journal.local import Journal
from fsnap.journal.rows import Batch

TASK = "job"
HOLDER = Holder(node="a", instance="", boot_id="b", pid_ns="p", init_pid=1, init_start=2)
EVENTS = (
    CancelAsked(signal=2),
    Notice(notice_id="n", provider="file", window_ms=5_000, action="rebalance"),
    ClaimAsked(basis=Basis.HOLDER_GONE, holder=HOLDER, command=("x",)),
)


def next_record(state: TaskState, rng: Random, node: str) -> Record:
    """Some record that may follow *state*."""
    event = EVENTS[2] if state.seq == 0 else rng.choice(EVENTS)
    facts = Facts(mono_ms=rng.randrange(1_000_000))
    decision = decide(task_chart(), state, event, facts)
    if decision.trigger is None:
        return next_record(state, rng, node)
    at = "2026-01-01T00:00:00.000Z"
    chart = task_chart()
    return seal(draft(chart, state, event, facts, decision, node=node, at=at, mono_ms=facts.mono_ms))


def sight(journal: Any) -> dict[str, Any]:
    """All that can be asked of it."""
    return {
        "records": journal.records(TASK),
        "head": journal.head(TASK),
        "state": journal.state(TASK),
        "digests": [journal.digest_at(TASK, seq) for seq in range(12)],
        "mirrored": journal.mirrored_seq(TASK),
        "mirrored head": journal.mirrored_head(TASK),
        "mirrored state": journal.mirrored_state(TASK),
        "last object": journal.last_object(TASK),
        "kept": journal.kept_batch(TASK),
        "orphaned": journal.orphaned(TASK),
    }


class Both:
    """The real one and its double, given the same calls."""

    def __init__(self, path: Path, nonces: Any) -> None:
        self.pair: tuple[Any, Any] = (Journal.open(path), MemoryJournal())
        self._nonces = nonces

    def call(self, name: str, *arguments: Any, **named: Any) -> Any:
        answers = []
        for journal in self.pair:
            try:
                answers.append(getattr(journal, name)(*arguments, **named))
            except ValueError as refusal:
                answers.append(str(refusal))
        assert answers[0] == answers[1]
        assert sight(self.pair[0]) == sight(self.pair[1])
        return answers[0]

    def keep(self) -> Batch | None:
        nonce = next(self._nonces)
        batch: Batch | None = self.call("keep_batch", TASK, lambda: f"nonce-{nonce}")
        return batch


@pytest.mark.parametrize("seed", range(12))
def test_the_double_is_as_the_real_one(seed: int, tmp_path: Path) -> None:
    rng, nonces = Random(seed), itertools.count()
    mine, theirs = Both(tmp_path / "mine.db", nonces), Both(tmp_path / "theirs.db", nonces)
    store: list[Batch] = []
    for _ in range(40):
        one = rng.choice((mine, theirs))
        match rng.choice(
            ("append", "append", "append", "wrong", "put", "put", "pull", "meta", "orphan", "forget")
        ):
            case "append":
                one.call("append", next_record(one.pair[0].state(TASK), rng, "a" if one is mine else "b"))
            case "wrong":
                one.call("append", next_record(fold_one(one.pair[0].state(TASK), rng), rng, "a"))
            case "put":
                put(one, store)
            case "pull":
                pull(one, store)
            case "meta":
                one.call("put_meta", TASK, "beat", str(rng.random()))
                one.call("get_meta", TASK, "beat")
            case "orphan":
                one.call("orphan_tail", TASK, "it was said")
            case "forget" if rng.random() < 0.2:
                one.call("forget", TASK, "it was said")
                pull(one, store)


def fold_one(state: TaskState, rng: Random) -> TaskState:
    """A state that the journal has not come to."""
    return fold(state, next_record(state, rng, "c"))


def put(one: Both, store: list[Batch]) -> None:
    """As the mirror does: the object is created, or somebody else's is there."""
    pull(one, store)
    batch = one.keep()
    end = store[-1].last_seq if store else 0
    if batch is not None and batch.first_seq == end + 1:
        store.append(batch)
        one.call("accept", TASK, [batch], reason="ours")


def pull(one: Both, store: list[Batch]) -> None:
    """Everything that the store has after the mirrored prefix."""
    known = one.pair[0].mirrored_seq(TASK)
    one.call("accept", TASK, [batch for batch in store if batch.first_seq > known], reason="theirs")
