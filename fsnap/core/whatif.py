"""Other numbers, same events: what would have been decided.

Each record is judged on its own, from the state that the journal has before it: what an
other decision would have led to, no journal knows.  So a change says "here the task
would have left this path", and the first one is the one to trust.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from fsnap.core.budget import plan_evacuation
from fsnap.core.chart import Chart
from fsnap.core.effects import Dump
from fsnap.core.events import ClaimAsked, Event, Notice
from fsnap.core.model import Facts, TaskState
from fsnap.core.planner import Decision, decide
from fsnap.core.replay import Replay, Step, Verdict, decision_to_plain
from fsnap.core.timeline import Outcome, Reclaim
from fsnap.core.values import tagged
from fsnap.errors import IllegalTransition, UsageError


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError
    return number


def _ms(text: str) -> int:
    return _count(str(round(float(text) * 1000)))


def _permille(text: str) -> int:
    return _count(str(round(float(text) * 10)))


def _yes_no(text: str) -> bool:
    return {"yes": True, "no": False}[text]


def _one_of(*words: str) -> Callable[[str], str]:
    return lambda text: {word: word for word in words}[text]


Reader = Callable[[str], int | str | bool]

FACTS: dict[str, tuple[str, Reader]] = {
    "commit_bps": ("commit_bps", _count),
    "fixed_s": ("fixed_ms", _ms),
    "tree_bytes": ("tree_bytes", _count),
    "files_bytes": ("files_bytes", _count),
}
"""Of each record's facts: the key, the field, how its value is read."""

CONFIG: dict[str, tuple[str, Reader]] = {
    "interval_s": ("interval_ms", _ms),
    "max_overhead_pct": ("max_overhead_permille", _permille),
    "lease_s": ("lease_ms", _ms),
    "after_commit": ("after_commit", _one_of("hold", "exit")),
    "on_restore_failure": ("on_restore_failure", _one_of("restart", "fail")),
    "shared_state": ("shared_state", _yes_no),
}
"""Of each claim's configuration."""

WINDOW = "window_s"
KEYS = (WINDOW, *FACTS, *CONFIG)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumed:
    """What is put in place of what was recorded."""

    text: dict[str, str] = field(default_factory=dict)
    """As it was given."""
    window_ms: int | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def is_nothing(self) -> bool:
        """Nothing is assumed."""
        return not self.text

    def of_event(self, event: Event) -> Event:
        if self.window_ms is not None and isinstance(event, Notice) and event.action != "rebalance":
            return replace(event, window_ms=self.window_ms)
        if self.config and isinstance(event, ClaimAsked):
            return replace(event, config=replace(event.config, **self.config))
        return event

    def of_facts(self, facts: Facts, state: TaskState) -> Facts:
        changed = replace(facts, **self.facts)
        if self.window_ms is not None and facts.left_ms is not None and state.pending is not None:
            changed = replace(changed, left_ms=facts.left_ms + self.window_ms - state.pending.window_ms)
        return changed

    def of_state(self, state: TaskState) -> TaskState:
        return replace(state, config=replace(state.config, **self.config)) if self.config else state


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A record that would have been another one."""

    seq: int
    recorded: dict[str, Any]
    decided: dict[str, Any]
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Otherwise:
    """One reclaim under the assumption."""

    seq: int
    window_ms: int
    dumps: bool
    commit_ms: int | None
    """From the notice; ``None``: no dump, or it can't be told."""
    measured: bool
    """*commit_ms* is what this dump took, not the planner's estimate."""
    why: str

    @property
    def saved(self) -> bool | None:
        """Whether the dump would have been tried and have fitted; ``None``: the one that was tried failed."""
        if self.dumps and self.commit_ms is None:
            return None
        return self.commit_ms is not None and self.commit_ms <= self.window_ms


def assumed(pairs: Iterable[str]) -> Assumed:
    """The assumption in *pairs* of ``KEY=VALUE``; :class:`~fsnap.errors.UsageError`."""
    text: dict[str, str] = {}
    facts: dict[str, Any] = {}
    config: dict[str, Any] = {}
    window_ms: int | None = None
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or key not in KEYS:
            raise UsageError(f"--what-if {pair!r}: not KEY=VALUE", hint=f"KEY is one of {', '.join(KEYS)}.")
        try:
            if key == WINDOW:
                window_ms = _ms(value)
            else:
                name, read = FACTS.get(key) or CONFIG[key]
                (facts if key in FACTS else config)[name] = read(value)
        except (ValueError, KeyError, OverflowError):
            raise UsageError(f"--what-if {pair!r}: {value!r} is no {_kind(key)}", hint="") from None
        text[key] = value
    return Assumed(text=text, window_ms=window_ms, facts=facts, config=config)


def changes(chart: Chart, replayed: Replay, what: Assumed) -> list[Change]:
    """The records whose decision is another one under *what*; those that diverge anyway are left out."""
    return list(_changes(chart, replayed, what))


def _changes(chart: Chart, replayed: Replay, what: Assumed) -> Iterator[Change]:
    for step in replayed.steps:
        if step.verdict is not Verdict.SAME or step.before is None:
            continue
        recorded = {
            "trigger": step.record.trigger,
            "dest": step.record.dest.value,
            "effects": [tagged(effect) for effect in step.record.effects],
        }
        try:
            decision = _decided(chart, step, what)
        except IllegalTransition as refusal:
            yield Change(
                seq=step.record.seq, recorded=recorded, decided={"refused": str(refusal)}, why=str(refusal)
            )
            continue
        decided = decision_to_plain(decision)
        if decided != recorded:
            yield Change(seq=step.record.seq, recorded=recorded, decided=decided, why=decision.note)


def otherwise(chart: Chart, replayed: Replay, reclaims: Iterable[Reclaim], what: Assumed) -> list[Otherwise]:
    """Each reclaim of a running task whose notice can be decided again, under *what*."""
    by_seq = {step.record.seq: step for step in replayed.steps}
    found = []
    for reclaim in reclaims:
        step = by_seq[reclaim.seq]
        if reclaim.outcome is Outcome.NOT_STARTED or step.verdict is not Verdict.SAME or step.before is None:
            continue
        decision = _decided(chart, step, what)
        window_ms = reclaim.window_ms if what.window_ms is None else what.window_ms
        dumps = any(isinstance(effect, Dump) for effect in decision.effects)
        measured = dumps and reclaim.committed_ms is not None and not what.facts
        age_ms = step.record.facts.notice_age_ms
        planned = plan_evacuation(what.of_facts(step.record.facts, step.before), window_ms - age_ms)
        failed = any(stage.name == "dump" for stage in reclaim.stages) and reclaim.committed_ms is None
        commit_ms = planned.commit_ms + age_ms if dumps and not failed else None
        found.append(
            Otherwise(
                seq=reclaim.seq,
                window_ms=window_ms,
                dumps=dumps,
                commit_ms=reclaim.committed_ms if measured else commit_ms,
                measured=measured,
                why=decision.note,
            )
        )
    return found


def _decided(chart: Chart, step: Step, what: Assumed) -> Decision:
    assert step.before is not None
    record = step.record
    facts = what.of_facts(record.facts, step.before)
    return decide(chart, what.of_state(step.before), what.of_event(record.event), facts)


def _kind(key: str) -> str:
    if key in ("after_commit", "on_restore_failure", "shared_state"):
        words = {"after_commit": "hold or exit", "on_restore_failure": "restart or fail"}
        return f"value for {key} ({words.get(key, 'yes or no')})"
    return "number of this kind (0 or more)" if key != "commit_bps" else "whole number of bytes per second"
