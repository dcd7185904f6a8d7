"""Re-decide a journal: every record is decided again from what it holds, and must come out the same.

A record holds the event and the facts; the state before it is the fold of the records
before.  What :func:`~fsnap.core.planner.decide` makes of the three must be the trigger,
the states, the effects and the epoch that were recorded, and on a claim the folded
state.  Notes are left out: they are words for people, and a better wording is no other
decision.  Time stamps are taken as they are.

Records of another planner follow other rules: they are folded, so that later ones have
their state, and not compared.  Another chart digest is compared all the same, and noted:
the question is what this chart says of it.

Where records are missing the state is not known again before a claim, which carries it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from fsnap.core import values
from fsnap.core.chart import Chart
from fsnap.core.events import ClaimAsked
from fsnap.core.fold import fold
from fsnap.core.model import PLANNER, TaskState
from fsnap.core.planner import Decision, decide
from fsnap.core.records import Record
from fsnap.errors import IllegalTransition


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What was found where record *seq* should be: the record, or why there is none that can be used."""

    seq: int
    record: Record | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """Records *first_seq* to *last_seq* are missing, or stand where they can't."""

    first_seq: int
    last_seq: int
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """The journal has *expected*, and deciding again gives *got*."""

    seq: int
    expected: dict[str, Any]
    got: dict[str, Any]


class Verdict(StrEnum):
    """What became of one record."""

    SAME = "same"
    DIVERGED = "diverged"
    OTHER_PLANNER = "other-planner"
    STATE_UNKNOWN = "state-unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One record, the state before and after it where they are known, and the verdict."""

    record: Record
    before: TaskState | None
    after: TaskState | None
    verdict: Verdict
    divergence: Divergence | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A whole journal, re-decided."""

    task: str
    steps: tuple[Step, ...]
    damage: tuple[Damage, ...]
    foreign_charts: tuple[str, ...]
    """Digests of charts other than the one that was asked, as recorded."""

    @property
    def divergences(self) -> tuple[Divergence, ...]:
        """All of them, the first one first."""
        return tuple(step.divergence for step in self.steps if step.divergence is not None)

    def count(self, *verdicts: Verdict) -> int:
        """How many records have one of *verdicts*."""
        return sum(step.verdict in verdicts for step in self.steps)


def assemble(
    found: Iterable[Found], *, known_last_seq: int = 0, known_by: str = ""
) -> tuple[list[Record], list[Damage]]:
    """The records of one task in their order, and what is missing or wrong among them.

    *known_last_seq* is a record that must have been there, as *known_by* says; 0: nothing is known.
    """
    at: dict[int, list[Found]] = {}
    for one in found:
        at.setdefault(one.seq, []).append(one)
    records: list[Record] = []
    damage: list[Damage] = []
    expected = 1
    for seq in sorted(at):
        if seq > expected:
            damage.append(Damage(first_seq=expected, last_seq=seq - 1, problem="missing"))
        expected = max(expected, seq + 1)
        record, problem = _choose(at[seq], records[-1] if records else None)
        if problem:
            damage.append(Damage(first_seq=seq, last_seq=seq, problem=problem))
        if record is not None:
            records.append(record)
    if known_last_seq >= expected:
        problem = f"missing: {known_by}" if known_by else "missing"
        damage.append(Damage(first_seq=expected, last_seq=known_last_seq, problem=problem))
    return records, _joined(damage)


def replay(chart: Chart, task: str, records: Sequence[Record], damage: Sequence[Damage] = ()) -> Replay:
    """*records*, which :func:`assemble` put in order, decided again by *chart*."""
    return Replay(
        task=task,
        steps=tuple(_steps(chart, TaskState(task=task), records)),
        damage=tuple(damage),
        foreign_charts=tuple(sorted({r.chart for r in records} - {chart.version})),
    )


def redecide(chart: Chart, before: TaskState, record: Record) -> Divergence | None:
    """Where *record* is not what follows from *before*; ``None`` when it is."""
    recorded = _recorded(record)
    try:
        decision = decide(chart, before, record.event, record.facts)
    except IllegalTransition as refusal:
        return Divergence(seq=record.seq, expected=recorded, got={"refused": str(refusal)})
    expected, got = dict(recorded), decision_to_plain(decision)
    claim = isinstance(record.event, ClaimAsked)
    for name, was, should in (
        ("source", record.source.value, before.state.value),
        ("epoch", record.epoch, before.epoch + claim),
    ):
        if was != should:
            expected[name], got[name] = was, should
    if record.folded is not None and record.folded != before:
        expected["folded"], got["folded"] = _differing(record.folded, before)
    if expected == got:
        return None
    return Divergence(seq=record.seq, expected=expected, got=got)


def decision_to_plain(decision: Decision) -> dict[str, Any]:
    """What of *decision* is compared, as JSON data."""
    return {
        "trigger": decision.trigger,
        "dest": decision.next_state.value,
        "effects": [values.tagged(effect) for effect in decision.effects],
    }


def _recorded(record: Record) -> dict[str, Any]:
    return {
        "trigger": record.trigger,
        "dest": record.dest.value,
        "effects": [values.tagged(effect) for effect in record.effects],
    }


def _steps(chart: Chart, first: TaskState, records: Sequence[Record]) -> Iterator[Step]:
    state: TaskState | None = first
    for record in records:
        before = _before(state, record)
        verdict, divergence = Verdict.SAME, None
        if record.planner != PLANNER:
            verdict = Verdict.OTHER_PLANNER
        elif before is None:
            verdict = Verdict.STATE_UNKNOWN
        elif divergence := redecide(chart, before, record):
            verdict = Verdict.DIVERGED
        # What the node did is what happened: the record is folded whether it should have been made or not.
        base = record.folded or before
        state = None if base is None else _folded(base, record)
        yield Step(record=record, before=before, after=state, verdict=verdict, divergence=divergence)


def _before(state: TaskState | None, record: Record) -> TaskState | None:
    if state is not None and (record.seq, record.prev) == (state.seq + 1, state.digest):
        return state
    folded = record.folded
    if folded is not None and (folded.seq, folded.digest) == (record.seq - 1, record.prev):
        return folded
    return None


def _folded(state: TaskState, record: Record) -> TaskState | None:
    """``None`` where a record that should not have been made leads nowhere."""
    try:
        return fold(state, record)
    except LookupError:
        return None


def _choose(found: Sequence[Found], last: Record | None) -> tuple[Record | None, str]:
    """The record to take of all that claim one number, and what is wrong."""
    records = {one.record.digest: one.record for one in found if one.record is not None}
    if not records:
        return None, found[0].problem
    follows = last.digest if last is not None else ""
    following = [record for record in records.values() if record.prev == follows]
    if len(records) > 1:
        if len(following) == 1:
            return following[0], "there is another record of this number, which does not belong here"
        return None, "there are several records of this number"
    record = next(iter(records.values()))
    adjacent = record.seq == 1 or (last is not None and last.seq == record.seq - 1)
    if adjacent and not following:
        return record, "does not follow the record before it"
    unusable = next((one.problem for one in found if one.record is None), "")
    return record, f"stands there twice, and the other one {unusable}" if unusable else ""


def _joined(damage: Sequence[Damage]) -> list[Damage]:
    """Neighbours of one kind as one."""
    joined: list[Damage] = []
    for one in damage:
        last = joined[-1] if joined else None
        if last is not None and last.last_seq == one.first_seq - 1 and last.problem == one.problem:
            joined[-1] = replace(last, last_seq=one.last_seq)
        else:
            joined.append(one)
    return joined


def _differing(recorded: TaskState, folded: TaskState) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields in which two states differ, of each."""
    one, other = values.to_plain(recorded), values.to_plain(folded)
    names = [name for name in one if one[name] != other[name]]
    return {name: one[name] for name in names}, {name: other[name] for name in names}
