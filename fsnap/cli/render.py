"""``fsnap status`` as JSON for machines and as text for people, both from one look.

``docs/json.rst`` is the contract of the JSON.  The text may change at any time.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from fsnap.cli.sources import Look
from fsnap.clock import rfc3339
from fsnap.core.model import TERMINAL, State
from fsnap.core.status import Seen, SnapshotView, TaskView, age_s, duration

SCHEMA = 1
LISTED_SNAPSHOTS = 8
COMMAND_CHARS = 60
"""Of a command in the table where there is no terminal to fit."""

LEAST_COMMAND_CHARS = 12
"""With less room the table does without it."""

UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def to_json(look: Look, *, indent: int | None = 2) -> str:
    """One JSON document, without a line end."""
    document = {
        "schema": SCHEMA,
        "at": rfc3339(look.now),
        "source": look.source,
        "tasks": [_task(view) for view in look.views],
        "errors": [{"task": task, "message": message} for task, message in look.errors],
        "notes": list(look.notes),
    }
    return json.dumps(document, indent=indent)


def to_text(look: Look, *, task: str | None, columns: int | None = None) -> str:
    """The table of all tasks, or what there is to say about *task*; ends with a line end.

    *columns* is the terminal's width; ``None``: no terminal.
    """
    lines = _table(look, columns) if task is None else _detail(look)
    return "".join(line.rstrip() + "\n" for line in lines)


def size(count: int) -> str:
    """*count* bytes for people: ``812 B``, ``1.3 GiB``."""
    value, unit = float(count), 0
    while value >= 999.5 and unit < len(UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return (
        f"{count} B"
        if not unit
        else f"{value:.1f} {UNITS[unit]}"
        if value < 99.95
        else f"{value:.0f} {UNITS[unit]}"
    )


def plain(text: str) -> str:
    """*text* in one line without anything that a terminal would act on."""
    return "".join(sign if sign.isprintable() else " " if sign.isspace() else "?" for sign in text)


# -- JSON


def _task(view: TaskView) -> dict[str, Any]:
    seen = view.seen
    row: dict[str, Any] = {
        "task": seen.task,
        "state": seen.state.value,
        "epoch": seen.epoch,
        "node": seen.node,
        "since": _time(seen.since),
        "command": seen.command,
        "snapshot": _snapshot(seen.snapshot) if seen.snapshot else None,
        "reclaims_survived": seen.reclaims_survived,
        "work_saved_s": _seconds(seen.work_saved_ms / 1000),
        "window": view.window
        and {"deadline": _time(view.window.deadline), "left_s": _seconds(view.window.left_s)},
        "margin_s": _seconds(view.margin_s),
        "attention": [reason.value for reason in view.attention],
        "warnings": list(view.warnings),
        "plan": None
        if view.commit_s is None
        else {"commit_s": _seconds(view.commit_s), "window_s": _seconds(view.budget_s)},
        "held": seen.held,
        "waits": seen.waits,
        "lease_s": _seconds(seen.lease_ms / 1000),
        "heartbeat_at": _time(view.heartbeat_at),
        "attempt": seen.attempt
        and {"scheduler": seen.attempt.scheduler, "job": seen.attempt.job, "number": seen.attempt.number},
        "outcome": seen.outcome,
        "exit_code": seen.exit_code,
        "note": seen.note,
    }
    if seen.snapshots is not None:
        row["snapshots"] = [
            {**_snapshot(one), "kind": one.kind, "epoch": one.epoch, "quarantined": one.quarantined}
            for one in seen.snapshots
        ]
    return row


def _snapshot(snapshot: SnapshotView) -> dict[str, Any]:
    return {
        "id": snapshot.id,
        "bytes": snapshot.bytes,
        "new_bytes": snapshot.new_bytes,
        "stored_bytes": snapshot.stored_bytes,
        "committed_at": _time(snapshot.committed_at),
    }


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)


def _seconds(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


# -- the table

HEADER = ("TASK", "STATE", "CHANGED", "NODE", "SNAPSHOT", "SURVIVED", "MARGIN", "COMMAND")


def _table(look: Look, columns: int | None) -> Iterator[str]:
    if not look.views and not look.errors:
        yield f"no tasks in {plain(look.source)}"
        return
    rows = [HEADER, *(_row(view, look.now) for view in look.views)]
    widths = [max(len(row[n]) for row in rows) for n in range(len(HEADER) - 1)]
    room = COMMAND_CHARS if columns is None else columns - sum(widths) - 2 * len(widths)
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)]
        yield "  ".join(cells if room < LEAST_COMMAND_CHARS else [*cells, _cut(row[-1], room)])
    yield ""
    for view in look.views:
        for warning in view.warnings:
            yield f"! {plain(view.seen.task)}: {plain(warning)}"
    for task, message in look.errors:
        yield f"! {plain(task)} can't be read: {plain(message)}"
    yield _summary(look)
    for note in look.notes:
        yield f"({note})"


def _row(view: TaskView, now: datetime) -> tuple[str, ...]:
    seen = view.seen
    saved = duration(seen.work_saved_ms / 1000)
    return (
        plain(seen.task),
        _state(seen),
        f"{_age(seen.since, now)} ago" if seen.since else "",
        plain(seen.node or ""),
        _snapshot_cell(seen.snapshot, now),
        f"{seen.reclaims_survived}, saved {saved}" if seen.reclaims_survived else "0",
        _margin_cell(view),
        plain(seen.command or ""),
    )


def _state(seen: Seen) -> str:
    if seen.waits:
        return f"{seen.state.value}, waits"
    if seen.state is State.FAILED:
        word = "cancelled" if seen.outcome == "cancelled" else f"exit {seen.exit_code}"
        return f"failed, {word}" if seen.exit_code is not None else "failed"
    return seen.state.value


def _snapshot_cell(snapshot: SnapshotView | None, now: datetime) -> str:
    if snapshot is None:
        return "none"
    age = _age(snapshot.committed_at, now)
    return f"{size(snapshot.bytes)}, {age} old" if age else size(snapshot.bytes)


def _margin_cell(view: TaskView) -> str:
    margin = "" if view.margin_s is None else duration(view.margin_s)
    if view.window is None:
        return margin
    left = f"{duration(view.window.left_s)} left" if view.window.left_s > 0 else "none left"
    return f"{margin} ({left})" if margin else left


def _summary(look: Look) -> str:
    counts = Counter(view.seen.state for view in look.views)
    count = len(look.views) + len(look.errors)
    parts = [f"{counts[state]} {state.value}" for state in State if counts[state]]
    text = f"{count} {'task' if count == 1 else 'tasks'}: {', '.join(parts) or 'none that can be read'}"
    if waiting := sum(view.seen.waits for view in look.views):
        text += f"; {waiting} {'waits' if waiting == 1 else 'wait'} for the next attempt"
    if alarmed := sum(bool(view.attention) for view in look.views):
        text += f"; {alarmed} {'needs' if alarmed == 1 else 'need'} attention"
    return f"{text}. From {plain(look.source)}"


# -- one task


def _detail(look: Look) -> Iterator[str]:
    for view in look.views:
        facts = [(name, value) for name, value in _facts(view, look.now) if value]
        width = max(len(name) for name, _ in facts)
        for name, value in facts:
            yield f"{name.ljust(width)}  {value}"
        if view.seen.snapshots:
            yield ""
            yield from _snapshots(view.seen, view.seen.snapshots, look.now)
        if view.warnings:
            yield ""
        for warning in view.warnings:
            yield f"! {plain(warning)}"


def _facts(view: TaskView, now: datetime) -> Iterator[tuple[str, str]]:
    seen = view.seen
    yield "task", plain(seen.task)
    yield "state", _phase(seen)
    yield "since", f"{_moment(seen.since)}, {_age(seen.since, now)} ago" if seen.since else ""
    yield "epoch", str(seen.epoch)
    if seen.attempt is not None:
        yield "attempt", plain(f"{seen.attempt.number} of {seen.attempt.scheduler} job {seen.attempt.job}")
    beat = f", last heartbeat {_age(view.heartbeat_at, now)} ago" if view.heartbeat_at and seen.live else ""
    yield "node", plain(seen.node or "") + beat if seen.node else ""
    yield "command", plain(seen.command or "")
    yield "reclaims", _reclaims(seen)
    yield "window", _window(view)
    yield "margin", _margin(view)
    yield "last word", plain(seen.note or "")


def _phase(seen: Seen) -> str:
    if seen.state is State.UPLOADED:
        return "uploaded: checkpointed, waits for its next attempt"
    if seen.waits:
        return f"{seen.state.value}, but its holder gave it up: waits for its next attempt"
    if seen.exit_code is not None and not seen.live:
        how = ", cancelled" if seen.outcome == "cancelled" else ""
        return f"{seen.state.value} with exit code {seen.exit_code}{how}"
    return seen.state.value


def _reclaims(seen: Seen) -> str:
    if not seen.reclaims_survived:
        return "none so far"
    return (
        f"{seen.reclaims_survived} survived, {duration(seen.work_saved_ms / 1000)} of run time not repeated"
    )


def _window(view: TaskView) -> str:
    if view.window is None:
        return ""
    when = _moment(view.window.deadline)
    left_s = view.window.left_s
    return f"the node goes in {duration(left_s)} ({when})" if left_s > 0 else f"the deadline passed ({when})"


def _margin(view: TaskView) -> str:
    if view.margin_s is None or view.commit_s is None or view.budget_s is None:
        return ""
    what = "the time left" if view.window else "the window to expect"
    need, budget = duration(view.commit_s), duration(max(0.0, view.budget_s))
    return f"{duration(view.margin_s)}: a commit takes {need}, {what} is {budget}"


def _snapshots(seen: Seen, snapshots: Sequence[SnapshotView], now: datetime) -> Iterator[str]:
    rows = [("SNAPSHOT", "KIND", "SIZE", "NEW", "STORED", "COMMITTED", "")]
    for one in snapshots[:LISTED_SNAPSHOTS]:
        mark = "quarantined" if one.quarantined else ""
        if seen.snapshot is not None and one.id == seen.snapshot.id and seen.state not in TERMINAL:
            mark = "the one to restore"
        rows.append(
            (
                plain(one.id),
                plain(one.kind or ""),
                size(one.bytes),
                size(one.new_bytes),
                size(one.stored_bytes),
                f"{_age(one.committed_at, now)} ago" if one.committed_at else "",
                mark,
            )
        )
    widths = [max(len(row[n]) for row in rows) for n in range(7)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
    if len(snapshots) > LISTED_SNAPSHOTS:
        yield f"and {len(snapshots) - LISTED_SNAPSHOTS} older"


def _age(then: datetime | None, now: datetime) -> str:
    """In whole minutes, where it is one or more."""
    age = age_s(then, now)
    if age is None:
        return ""
    return f"{age // 60:.0f}m" if 60 <= age < 3600 else duration(age)


def _moment(moment: datetime | None) -> str:
    return "" if moment is None else rfc3339(moment)[:19] + "Z"


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."
