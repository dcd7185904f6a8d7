"""State charts: refused when bad, and asked ``step``: may I, and where to?

The chart is data (``statecharts/*.yaml``, loaded by :mod:`fsnap.charts`); the library
``transitions`` interprets it.  What the library would accept silently or notice only
when fired (unknown states, misspelled or dotted guards, ``*`` sources, callbacks) is
refused here at load; a guard that says no, which the library reports as ``False``, is
:class:`IllegalTransition` like a missing arrow.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from fsnap.errors import BadChart, IllegalTransition

CHART_KEYS = {"schema", "name", "initial", "states", "terminal", "renewal", "transitions"}
ARROW_KEYS = {"trigger", "source", "dest", "conditions", "unless"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrow:
    """One transition from one source."""

    trigger: str
    source: str
    dest: str
    conditions: tuple[str, ...]
    unless: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A chart that passed :func:`validate`."""

    name: str
    version: str
    """Digest of the chart's content; recorded with each decision."""
    initial: str
    states: tuple[str, ...]
    terminal: frozenset[str]
    arrows: tuple[Arrow, ...]

    def step(self, source: str, trigger: str, guard: Callable[[str], bool]) -> str:
        """The state that *trigger* leads to; :class:`IllegalTransition` if the chart has no such step."""
        return _fire(self, source, trigger, guard)


def validate(document: Any, *, guards: Collection[str], version: str) -> Chart:
    """The chart in *document* (parsed YAML); :class:`BadChart` says what is wrong with it."""
    try:
        return _validated(document, guards, version)
    except (KeyError, TypeError, AttributeError, ValueError) as problem:
        raise BadChart(f"a chart is malformed: {type(problem).__name__}: {problem}") from problem


def _validated(document: Any, guards: Collection[str], version: str) -> Chart:
    if not isinstance(document, dict) or document.get("schema") != 1:
        raise BadChart("a chart must be a mapping with 'schema: 1'")
    name = str(document.get("name"))
    if unknown := document.keys() - CHART_KEYS:
        raise BadChart(f"chart {name}: unknown key {sorted(unknown)[0]!r}")
    states = tuple(document["states"])
    terminal = frozenset(document.get("terminal", ()))
    arrows = tuple(arrow for row in document["transitions"] for arrow in _arrows(name, row))
    chart = Chart(
        name=name,
        version=version,
        initial=document["initial"],
        states=states,
        terminal=terminal,
        arrows=arrows,
    )
    _check_names(chart, set(guards))
    _check_shape(chart, document.get("renewal"))
    return chart


def _arrows(name: str, row: Any) -> list[Arrow]:
    if not isinstance(row, dict) or row.keys() - ARROW_KEYS:
        raise BadChart(f"chart {name}: a transition may have only {sorted(ARROW_KEYS)}, not {row!r}")
    sources = row["source"] if isinstance(row["source"], list) else [row["source"]]
    return [
        Arrow(
            trigger=row["trigger"],
            source=source,
            dest=row["dest"],
            conditions=tuple(row.get("conditions", ())),
            unless=tuple(row.get("unless", ())),
        )
        for source in sources
    ]


def _check_names(chart: Chart, guards: set[str]) -> None:
    known = set(chart.states)
    for what in (chart.initial, *chart.terminal):
        if what not in known:
            raise BadChart(f"chart {chart.name}: unknown state {what!r}")
    for arrow in chart.arrows:
        for state in (arrow.source, arrow.dest):
            if state not in known:
                raise BadChart(f"chart {chart.name}: {arrow.trigger} names the unknown state {state!r}")
        for guard in arrow.conditions + arrow.unless:
            if guard not in guards:
                raise BadChart(f"chart {chart.name}: {arrow.trigger} names the unknown guard {guard!r}")


def _check_shape(chart: Chart, renewal: str | None) -> None:
    if len(set(chart.states)) != len(chart.states):
        raise BadChart(f"chart {chart.name}: a state is listed twice")
    for arrow in chart.arrows:
        leaves = arrow.dest != arrow.source and arrow.trigger != renewal
        if arrow.source in chart.terminal and leaves:
            raise BadChart(f"chart {chart.name}: {arrow.trigger} leaves the terminal state {arrow.source!r}")
    reached = {chart.initial}
    while grown := {a.dest for a in chart.arrows if a.source in reached} - reached:
        reached |= grown
    if lost := set(chart.states) - reached:
        raise BadChart(f"chart {chart.name}: nothing leads to {sorted(lost)[0]!r}")
    for one in chart.arrows:
        for other in chart.arrows:
            if one is not other and (one.source, one.trigger) == (other.source, other.trigger):
                if not _exclude(one, other):
                    raise BadChart(f"chart {chart.name}: {one.trigger} from {one.source!r} has two answers")


def _exclude(one: Arrow, other: Arrow) -> bool:
    """Some guard is demanded by the one and forbidden by the other."""
    return bool(set(one.conditions) & set(other.unless) or set(other.conditions) & set(one.unless))


@functools.cache
def _machine(chart: Chart) -> Any:
    from transitions import Machine

    return Machine(
        model=None,
        states=list(chart.states),
        initial=chart.initial,
        auto_transitions=False,
        transitions=[
            {
                "trigger": a.trigger,
                "source": a.source,
                "dest": a.dest,
                "conditions": list(a.conditions),
                "unless": list(a.unless),
            }
            for a in chart.arrows
        ],
    )


def _fire(chart: Chart, source: str, trigger: str, guard: Callable[[str], bool]) -> str:
    from transitions import MachineError

    if all(arrow.trigger != trigger for arrow in chart.arrows):
        raise IllegalTransition(f"chart {chart.name}: no {trigger} from {source}")
    model = type("Model", (), {})()
    for name in {g for a in chart.arrows for g in a.conditions + a.unless}:
        setattr(model, name, functools.partial(guard, name))
    machine = _machine(chart)
    machine.add_model(model, initial=source)
    try:
        moved = model.trigger(trigger)
    except MachineError as refusal:
        raise IllegalTransition(f"chart {chart.name}: no {trigger} from {source}") from refusal
    finally:
        machine.remove_model(model)
    if not moved:
        raise IllegalTransition(f"chart {chart.name}: a guard refuses {trigger} from {source}")
    return str(model.state)
