"""``fsnap replay`` for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fsnap.cli.render import plain
from fsnap.cli.replayview import TaskView, View
from fsnap.cli.replaywords import (
    change_words,
    facts,
    many,
    otherwise_words,
    outcome,
    record_rows,
    result,
    seconds,
    took,
    total,
    verdict,
    window,
)
from fsnap.core.replay import Step
from fsnap.core.timeline import Reclaim, Stage

BAR_CHARS = 40


def to_text(view: View, *, with_records: bool) -> str:
    """All of *view*; ends with a line end."""
    lines: list[str] = []
    for task in view.tasks:
        lines += [*_task(task, with_records), ""]
    for problem in view.problems:
        lines.append(f"! {plain(problem)}")
    if len(view.tasks) > 1:
        lines.append(f"{many(len(view.tasks), 'task')}, {total(view)}")
    return "\n".join(line.rstrip() for line in lines).rstrip("\n") + "\n"


def _task(view: TaskView, with_records: bool) -> Iterator[str]:
    known = [(name, value) for name, value in facts(view) if value]
    width = max(len(name) for name, _ in known)
    for name, value in known:
        yield f"{name.ljust(width)}  {value}"
    if with_records and view.replay.steps:
        yield ""
        yield from _records(view.replay.steps)
    for number, reclaim in enumerate(view.reclaims, 1):
        yield ""
        yield from _reclaim(number, reclaim)
    if not view.what.is_nothing:
        yield ""
        yield from _what_if(view)
    yield ""
    yield from verdict(view)


# -- the records


def _records(steps: Sequence[Step]) -> Iterator[str]:
    rows = [("RECORD", "TIME (UTC)", "EPOCH", "STATE", "WHAT"), *record_rows(steps)]
    widths = [max(len(row[n]) for row in rows) for n in range(4)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)]
        yield "  ".join([*cells, row[-1]])


# -- a reclaim


def _reclaim(number: int, reclaim: Reclaim) -> Iterator[str]:
    yield (
        f"reclaim {number}: record {reclaim.seq}, epoch {reclaim.epoch} on {plain(reclaim.node)},"
        f" notice from {plain(reclaim.provider)}, window {window(reclaim.window_ms)}"
    )
    for stage in reclaim.stages:
        yield (
            f"  {stage.name:<8}{seconds(stage.start_ms):>8} {took(stage):>9}"
            f"  |{bar_of(stage, reclaim.deadline_ms)}|  {result(stage)}"
        )
    yield f"  {outcome(reclaim)}"
    for remark in reclaim.remarks:
        yield f"  ({plain(remark)})"


def bar_of(stage: Stage, deadline_ms: int) -> str:
    """Where the stage lies in the window; ``>`` goes on after the deadline, ``?`` has no known end."""
    if deadline_ms <= 0 or stage.start_ms >= deadline_ms:
        return "." * (BAR_CHARS - 1) + ">"
    first = max(
        0, stage.start_ms * BAR_CHARS // deadline_ms
    )  # a clock that differs may tell less than nothing
    if stage.end_ms is None:
        return ("." * first + "?").ljust(BAR_CHARS, ".")
    end = min(BAR_CHARS, max(first + 1, -(-stage.end_ms * BAR_CHARS // deadline_ms)))
    bar = ("." * first + "#" * (end - first)).ljust(BAR_CHARS, ".")
    return bar[:-1] + ">" if stage.end_ms > deadline_ms else bar


# -- counterfactuals


def _what_if(view: TaskView) -> Iterator[str]:
    yield f"what if {', '.join(f'{key}={value}' for key, value in view.what.text.items())}:"
    for one in view.otherwise:
        yield f"  the reclaim at record {one.seq} {otherwise_words(one)}"
    for change in view.changes:
        yield f"  record {change.seq} {change_words(change)}"
    if not view.changes:
        yield "  every record would have been the same"
    elif len(view.changes) > 1:
        yield "  (each from the state as recorded; what follows the first change is a guess)"
