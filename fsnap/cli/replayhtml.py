"""``fsnap replay --html F``: the same as a page, in one file that loads nothing."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from fsnap.cli.render import plain
from fsnap.cli.replayview import TaskView, View
from fsnap.cli.replaywords import (
    change_words,
    facts,
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
from fsnap.core.timeline import Reclaim, Stage

STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
table { border-collapse: collapse; margin: .5rem 0 1rem; width: 100%; }
th, td { padding: .15rem .8rem .15rem 0; text-align: left; vertical-align: top; }
th { font-weight: 600; white-space: nowrap; }
.records td, .number { font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; }
.bar { background: color-mix(in srgb, currentColor 12%, transparent); height: .9rem; min-width: 16rem;
  position: relative; width: 40%; }
.bar i { background: #2a78d6; bottom: 0; min-width: 3px; position: absolute; top: 0; }
.bar i.after { background: none; border-right: 4px solid #b8860b; right: 0; }
.bar i.unknown { background: #b8860b; }
.verdict { border-left: 4px solid #2e8b57; padding-left: .8rem; white-space: pre-wrap; }
.verdict.bad { border-color: #c0392b; }
"""


def to_html(view: View) -> str:
    """The whole page."""
    body = "".join(line for task in view.tasks for line in _task(task))
    problems = "".join(f"<p>{escape(plain(text))}</p>" for text in view.problems)
    closing = f"<p>{escape(total(view))}</p>" if len(view.tasks) > 1 else ""
    title = escape(f"Replay of {plain(view.source)}")
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>'
        f"<body><h1>{title}</h1>{body}{problems}{closing}</body></html>\n"
    )


def _task(view: TaskView) -> Iterator[str]:
    yield f"<h2>{escape(plain(view.task))}</h2><table>"
    for name, value in facts(view):
        if value and name != "task":
            yield f"<tr><th>{escape(name.strip())}</th><td>{escape(value)}</td></tr>"
    yield "</table>"
    for number, reclaim in enumerate(view.reclaims, 1):
        yield from _reclaim(number, reclaim)
    if not view.what.is_nothing:
        yield from _what_if(view)
    bad = bool(view.replay.divergences) or not view.whole
    text = "\n".join(verdict(view))
    yield f'<p class="verdict{" bad" if bad else ""}">{escape(text)}</p>'
    yield '<h3>Records</h3><div class="scroll"><table class="records"><tr>'
    yield "".join(f"<th>{name}</th>" for name in ("", "Time (UTC)", "Epoch", "State", "What")) + "</tr>"
    for row in record_rows(view.replay.steps):
        yield "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
    yield "</table></div>"


def _reclaim(number: int, reclaim: Reclaim) -> Iterator[str]:
    yield f"<h3>Reclaim {number}: {escape(outcome(reclaim))}</h3>"
    yield (
        f"<p>Record {reclaim.seq}, epoch {reclaim.epoch} on {escape(plain(reclaim.node))}, notice from"
        f" {escape(plain(reclaim.provider))}, window {window(reclaim.window_ms)}</p>"
        '<div class="scroll"><table>'
    )
    for stage in reclaim.stages:
        yield (
            f'<tr><th>{stage.name}</th><td class="number">{seconds(stage.start_ms)}</td>'
            f'<td class="number">{took(stage)}</td><td class="bar">{_bar(stage, reclaim.deadline_ms)}</td>'
            f"<td>{escape(result(stage))}</td></tr>"
        )
    yield "</table></div>"
    for remark in reclaim.remarks:
        yield f"<p>{escape(plain(remark))}</p>"


def _bar(stage: Stage, deadline_ms: int) -> str:
    """Where the stage lies in the window; a mark at the right end: it goes on after the deadline."""
    if deadline_ms <= 0 or stage.start_ms >= deadline_ms:
        return '<i class="after"></i>'
    left = max(0.0, 100 * stage.start_ms / deadline_ms)
    if stage.end_ms is None:
        return f'<i class="unknown" style="left:{left:.2f}%"></i>'
    width = max(0.0, min(100.0, 100 * stage.end_ms / deadline_ms) - left)
    after = '<i class="after"></i>' if stage.end_ms > deadline_ms else ""
    return f'<i style="left:{left:.2f}%;width:{width:.2f}%"></i>{after}'


def _what_if(view: TaskView) -> Iterator[str]:
    given = ", ".join(f"{key}={value}" for key, value in view.what.text.items())
    yield f"<h3>What if {escape(plain(given))}</h3><ul>"
    for one in view.otherwise:
        yield f"<li>The reclaim at record {one.seq} {escape(otherwise_words(one))}</li>"
    for change in view.changes:
        yield f"<li>Record {change.seq} {escape(change_words(change))}</li>"
    if not view.changes:
        yield "<li>Every record would have been the same</li>"
    yield "</ul>"
