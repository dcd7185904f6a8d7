"""The words of a replay, which text and HTML share."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from fsnap.cli.render import plain, size
from fsnap.cli.replayview import TaskView, View
from fsnap.core.attempts import Attempt
from fsnap.core.events import ClaimAsked, Notice, SnapshotFound, SnapshotSaved
from fsnap.core.records import Record
from fsnap.core.replay import Step, Verdict
from fsnap.core.status import duration
from fsnap.core.timeline import Outcome, Reclaim, Stage
from fsnap.core.whatif import Change, Otherwise

COMMAND_CHARS = 100
RUN_SHOWN = 2
"""Of a row of periodic checkpoints, so many are shown at either end; the rest is counted."""


def total(view: View) -> str:
    count = sum(task.redecided for task in view.tasks)
    diverged = [task.task for task in view.tasks if task.replay.divergences]
    text = f"{many(count, 'record')} re-decided, "
    text += f"DIVERGED: {', '.join(map(plain, diverged))}" if diverged else "no divergence"
    broken = [task.task for task in view.tasks if not task.whole]
    return text + (f"; not whole: {', '.join(map(plain, broken))}" if broken else "")


def facts(view: TaskView) -> Iterator[tuple[str, str]]:
    state, steps = view.state, view.replay.steps
    yield "task", plain(view.task)
    if state is not None and state.command:
        command = plain(shlex.join(state.command))
        yield "command", command if len(command) <= COMMAND_CHARS else command[: COMMAND_CHARS - 3] + "..."
    if steps:
        yield "journal", f"{many(len(steps), 'record')}, {_at(steps[0].record)} to {_at(steps[-1].record)}"
    for number, attempt in enumerate(view.attempts):
        yield "attempts" if number == 0 else "        ", _attempt(attempt)
    if state is not None:
        code = "" if state.exit_code is None else f" with exit code {state.exit_code}"
        yield "now", f"{state.state.value}{code}"


def _attempt(one: Attempt) -> str:
    how = (
        f"from snapshot {one.snapshot_id}" if one.snapshot_id else "from nothing" if one.ran else "never ran"
    )
    text = f"{one.epoch} on {plain(one.node)}, {how}"
    if one.repeats_ms:
        text += f", repeating {seconds(one.repeats_ms)} or more"
    ends = {"lost": "its node was lost", "": "goes on"}
    text += f"; {ends.get(one.end, one.end)}"
    if not one.ran or not one.end or (one.end == "lost" and not one.run_ms):
        return text
    return f"{text} after {seconds(one.run_ms)} of run time" + (" or more" if one.end == "lost" else "")


def record_rows(steps: Sequence[Step]) -> list[tuple[str, ...]]:
    """Number, time, epoch, state and words of each record; long rows of periodic checkpoints are counted."""
    rows: list[tuple[str, ...]] = []
    skipped = 0
    for step, is_dull in zip(steps, _dull(steps), strict=True):
        skipped += is_dull
        if is_dull:
            continue
        rows += _skipped(skipped)
        skipped = 0
        rows.append(_record_row(step))
    return [*rows, *_skipped(skipped)]


def _dull(steps: Sequence[Step]) -> list[bool]:
    """Whether a record lies well within a row of periodic checkpoints."""
    periodic = [
        step.record.trigger in ("predump", "checkpointed") and step.verdict is not Verdict.DIVERGED
        for step in steps
    ]
    ends = range(-2 * RUN_SHOWN, 2 * RUN_SHOWN + 1)
    return [
        all(0 <= place + end < len(steps) and periodic[place + end] for end in ends)
        for place in range(len(steps))
    ]


def _skipped(count: int) -> list[tuple[str, ...]]:
    return [("...", "", "", "", f"{many(count, 'more record')} of periodic checkpoints")] if count else []


def _record_row(step: Step) -> tuple[str, ...]:
    record = step.record
    arrow = record.dest.value
    if record.source is not record.dest:
        arrow = f"{record.source.value} -> {arrow}"
    mark = {Verdict.DIVERGED: " <-- DIVERGED", Verdict.STATE_UNKNOWN: " (not comparable)"}
    what = plain(_what(record)) + mark.get(step.verdict, "")
    return str(record.seq), _at(record), str(record.epoch), arrow, what


def _what(record: Record) -> str:
    event = record.event
    if isinstance(event, Notice):
        length = f", window {window(event.window_ms)}" if event.action != "rebalance" else ""
        return f"notice from {event.provider}{length}: {record.note}"
    if isinstance(event, SnapshotSaved | SnapshotFound):
        ref = event.ref
        text = f"{ref.kind} snapshot {ref.id}: {size(ref.bytes)}, {size(ref.stored_bytes)} stored"
        return f"{record.note}: {text}" if record.note else text
    if isinstance(event, ClaimAsked) and record.node:
        return f"{record.node}: {record.note}"
    return record.note or type(event).__name__


def _at(record: Record) -> str:
    return plain(record.at[:23].replace("T", " "))


def took(stage: Stage) -> str:
    """How long the stage was; empty where that is not known."""
    return "" if stage.end_ms is None else f"+{seconds(stage.end_ms - stage.start_ms)}"


def result(stage: Stage) -> str:
    """How the stage ended, and of which snapshot."""
    text = plain(stage.result)
    return f"{text} {stage.snapshot_id}" if stage.snapshot_id and text in ("committed", "released") else text


def outcome(reclaim: Reclaim) -> str:
    margin_ms = reclaim.margin_ms
    if reclaim.outcome is Outcome.COMMITTED:
        return f"saved, {seconds(margin_ms or 0)} before the deadline"
    if reclaim.outcome is Outcome.LATE:
        return f"NOT SAVED IN TIME: committed {seconds(-(margin_ms or 0))} after the deadline"
    return {
        Outcome.ADOPTED: "saved: the dump was whole when the node went, and the next one recorded it",
        Outcome.UNSAVED: "NOT SAVED: no final commit",
        Outcome.CANCELLED: "the notice was taken back, the task ran on",
        Outcome.ENDED: "the task ended by itself before the deadline",
        Outcome.NOT_STARTED: "nothing ran that could have been saved",
        Outcome.OPEN: "not decided yet where the journal ends",
    }[reclaim.outcome]


def otherwise_words(one: Otherwise) -> str:
    if one.saved is None:
        return "would have been dumped too; whether that would have failed as well, no number tells"
    if one.commit_ms is None:
        return f"would not have been dumped: {plain(one.why)}"
    how = "as measured" if one.measured else "as planned"
    left_ms = one.window_ms - one.commit_ms
    verdict = f"saved, {seconds(left_ms)} before" if one.saved else f"NOT SAVED, {seconds(-left_ms)} after"
    return f"commits after {seconds(one.commit_ms)} ({how}): {verdict} the deadline"


def change_words(change: Change) -> str:
    why = f" ({plain(change.why)})" if change.why and "refused" not in change.decided else ""
    return f"would have been {_decision(change.decided)} instead of {_decision(change.recorded)}{why}"


def _decision(decided: dict[str, Any]) -> str:
    if "refused" in decided:
        return f"refused ({plain(str(decided['refused']))})"
    if decided["trigger"] is None:
        return "nothing"
    effects = ", ".join(effect["kind"] for effect in decided["effects"])
    return f"{decided['trigger']} -> {decided['dest']}" + (f" [{effects}]" if effects else "")


def verdict(view: TaskView) -> Iterator[str]:
    for remark in view.remarks:
        yield f"({plain(remark)})"
    for damage in view.replay.damage:
        yield f"! {_span(damage.first_seq, damage.last_seq)}: {plain(damage.problem)}"
    for one in view.incomparable:
        yield f"! {_span(one.first_seq, one.last_seq)} not comparable: {one.why}"
    found = view.replay.divergences
    if not found:
        text = f"{many(view.redecided, 'record')} re-decided, no divergence"
        yield text if view.whole else f"{text}, but that is not the whole journal"
        return
    first, more = found[0], len(found) - 1
    yield f"DIVERGED at record {first.seq}" + (f", and at {many(more, 'more record')}" if more else "")
    if "refused" in first.got:
        yield f"  recorded {_decision(first.expected)}, refused now: {plain(str(first.got['refused']))}"
        return
    for name in dict.fromkeys([*first.expected, *first.got]):
        was, now = first.expected.get(name), first.got.get(name)
        if was != now:
            yield f"  {name}: recorded {_value(was)}, decided now {_value(now)}"


def _value(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, dict) and "kind" in value:
        inner = ", ".join(f"{key}={item}" for key, item in value.items() if key != "kind")
        return plain(f"{value['kind']}({inner})")
    return "nothing" if value is None else plain(str(value))


def _span(first: int, last: int) -> str:
    return f"record {first}" if first == last else f"records {first} to {last}"


def many(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


def seconds(ms: int) -> str:
    """``0.25s``, ``12.3s``, ``119.7s``, ``1h04m``."""
    if abs(ms) < 9_995:
        return f"{ms / 1000:.2f}s"
    return f"{ms / 1000:.1f}s" if abs(ms) < 600_000 else duration(ms / 1000)


def window(ms: int) -> str:
    """``30s``, ``2.5s``."""
    return f"{ms / 1000:g}s"
