"""What ``fsnap replay`` has to say, as one view of which text, JSON and HTML are made.

``docs/replay.rst`` is the contract of the JSON.  The text may change at any time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fsnap.cli.replaysource import Journals, TaskJournal
from fsnap.core.attempts import Attempt, attempts
from fsnap.core.chart import Chart
from fsnap.core.model import PLANNER, TaskState
from fsnap.core.replay import Replay, Step, Verdict, assemble, replay
from fsnap.core.timeline import Reclaim, Stage, reclaims
from fsnap.core.whatif import Assumed, Change, Otherwise, changes, otherwise

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Incomparable:
    """Consecutive records that were not compared."""

    first_seq: int
    last_seq: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskView:
    """One task's journal, re-decided."""

    replay: Replay
    reclaims: tuple[Reclaim, ...]
    attempts: tuple[Attempt, ...]
    incomparable: tuple[Incomparable, ...]
    remarks: tuple[str, ...]
    what: Assumed
    changes: tuple[Change, ...]
    otherwise: tuple[Otherwise, ...]

    @property
    def task(self) -> str:
        return self.replay.task

    @property
    def state(self) -> TaskState | None:
        """After the last record; ``None`` where it is not known."""
        return self.replay.steps[-1].after if self.replay.steps else None

    @property
    def redecided(self) -> int:
        """Records that were decided again."""
        return self.replay.count(Verdict.SAME, Verdict.DIVERGED)

    @property
    def whole(self) -> bool:
        """Nothing is missing, and the state was known at every record."""
        return not self.replay.damage and not self.replay.count(Verdict.STATE_UNKNOWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """All tasks of a source."""

    source: str
    tasks: tuple[TaskView, ...]
    problems: tuple[str, ...]

    @property
    def diverged(self) -> bool:
        return any(task.replay.divergences for task in self.tasks)

    @property
    def whole(self) -> bool:
        return not self.problems and all(task.whole for task in self.tasks)


def view_of(chart: Chart, journals: Journals, what: Assumed) -> View:
    """Replay *journals* by *chart*, and again under *what*."""
    tasks = tuple(_task_view(chart, journal, what) for journal in journals.tasks)
    return View(source=journals.source, tasks=tasks, problems=journals.problems)


def _task_view(chart: Chart, journal: TaskJournal, what: Assumed) -> TaskView:
    records, damage = assemble(
        journal.found, known_last_seq=journal.known_last_seq, known_by=journal.known_by
    )
    replayed = replay(chart, journal.task, records, damage)
    found = tuple(reclaims(replayed.steps))
    remarks = list(journal.remarks)
    if replayed.foreign_charts:
        remarks.append(
            f"made by another chart ({', '.join(replayed.foreign_charts)}), and compared with this one"
            f" ({chart.version}) all the same"
        )
    return TaskView(
        replay=replayed,
        reclaims=found,
        attempts=tuple(attempts(replayed.steps)),
        incomparable=tuple(_incomparable(replayed.steps)),
        remarks=tuple(remarks),
        what=what,
        changes=() if what.is_nothing else tuple(changes(chart, replayed, what)),
        otherwise=() if what.is_nothing else tuple(otherwise(chart, replayed, found, what)),
    )


def _incomparable(steps: Sequence[Step]) -> Iterator[Incomparable]:
    first = last = 0
    reason = ""
    for step in steps:
        why = _why(step)
        if why == reason:
            last = step.record.seq
            continue
        if reason:
            yield Incomparable(first_seq=first, last_seq=last, why=reason)
        first = last = step.record.seq
        reason = why
    if reason:
        yield Incomparable(first_seq=first, last_seq=last, why=reason)


def _why(step: Step) -> str:
    if step.verdict is Verdict.OTHER_PLANNER:
        return f"decided by planner {step.record.planner}; this fsnap has planner {PLANNER}"
    if step.verdict is Verdict.STATE_UNKNOWN:
        return "the state is not known before the next claim"
    return ""


# -- JSON


def to_json(view: View, *, alone: bool) -> str:
    """One document: of the one task if *alone*, else of all."""
    if alone:
        document = {"schema": SCHEMA, **_task(view.tasks[0]), "source": view.source}
    else:
        document = {
            "schema": SCHEMA,
            "source": view.source,
            "tasks": [_task(task) for task in view.tasks],
            "problems": list(view.problems),
        }
    return json.dumps(document, indent=2)


def _task(view: TaskView) -> dict[str, Any]:
    found, state = view.replay.divergences, view.state
    return {
        "task": view.task,
        "records": len(view.replay.steps),
        "redecided": view.redecided,
        "diverged": len(found),
        "divergence": {"seq": found[0].seq, "expected": found[0].expected, "got": found[0].got}
        if found
        else None,
        "not_comparable": [
            {"first_seq": one.first_seq, "last_seq": one.last_seq, "why": one.why}
            for one in view.incomparable
        ],
        "missing": [
            {"first_seq": one.first_seq, "last_seq": one.last_seq, "why": one.problem}
            for one in view.replay.damage
        ],
        "remarks": list(view.remarks),
        "state": state.state.value if state else None,
        "exit_code": state.exit_code if state else None,
        "attempts": [_attempt(one) for one in view.attempts],
        "reclaims": [_reclaim(one) for one in view.reclaims],
        "what_if": None if view.what.is_nothing else _what_if(view),
    }


def _attempt(one: Attempt) -> dict[str, Any]:
    return {
        "epoch": one.epoch,
        "node": one.node,
        "seq": one.seq,
        "at": one.at,
        "basis": one.basis,
        "snapshot": one.snapshot_id,
        "end": one.end or None,
        "end_at": one.end_at or None,
        "run_s": one.run_ms / 1000,
        "repeats_s": one.repeats_ms / 1000,
    }


def _reclaim(one: Reclaim) -> dict[str, Any]:
    return {
        "seq": one.seq,
        "epoch": one.epoch,
        "node": one.node,
        "at": one.at,
        "provider": one.provider,
        "window_s": one.window_ms / 1000,
        "deadline_s": one.deadline_ms / 1000,
        "stages": [_stage(stage) for stage in one.stages],
        "committed_s": _seconds(one.committed_ms),
        "margin_s": _seconds(one.margin_ms),
        "saved": one.saved,
        "outcome": one.outcome.value,
        "remarks": list(one.remarks),
    }


def _stage(stage: Stage) -> dict[str, Any]:
    return {
        "name": stage.name,
        "start_s": stage.start_ms / 1000,
        "end_s": _seconds(stage.end_ms),
        "result": stage.result,
        "snapshot": stage.snapshot_id,
        "seq": stage.seq,
    }


def _what_if(view: TaskView) -> dict[str, Any]:
    return {
        "assumed": view.what.text,
        "changes": [
            {"seq": one.seq, "recorded": one.recorded, "decided": one.decided, "why": one.why}
            for one in view.changes
        ],
        "reclaims": [
            {
                "seq": one.seq,
                "window_s": one.window_ms / 1000,
                "dumps": one.dumps,
                "committed_s": _seconds(one.commit_ms),
                "measured": one.measured,
                "margin_s": _seconds(None if one.commit_ms is None else one.window_ms - one.commit_ms),
                "saved": one.saved,
                "why": one.why,
            }
            for one in view.otherwise
        ],
    }


def _seconds(ms: int | None) -> float | None:
    return None if ms is None else ms / 1000
