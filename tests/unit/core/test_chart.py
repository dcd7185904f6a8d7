"""Charts: what the library underneath would take silently is refused when a chart is loaded."""

from __future__ import annotations

import builtins
import copy
from typing import Any

import pytest

from fsnap.charts import node_chart, task_chart
from fsnap.core.chart import Chart, validate
from fsnap.core.guards import NODE_GUARDS, TASK_GUARDS
from fsnap.core.model import TERMINAL, State
from fsnap.errors import BadChart, IllegalTransition

GOOD: dict[str, Any] = {
    "schema": 1,
    "name": "door",
    "initial": "open",
    "states": ["open", "shut", "gone"],
    "terminal": ["gone"],
    "renewal": "rebuild",
    "transitions": [
        {"trigger": "push", "source": "open", "dest": "shut", "conditions": ["strong"]},
        {"trigger": "push", "source": "open", "dest": "open", "unless": ["strong"]},
        {"trigger": "pull", "source": ["shut", "open"], "dest": "open"},
        {"trigger": "lock", "source": "shut", "dest": "shut", "conditions": ["strong", "key"]},
        {"trigger": "burn", "source": "shut", "dest": "gone"},
        {"trigger": "rebuild", "source": "gone", "dest": "open"},
    ],
}
GUARDS = {"strong", "key"}


def load(document: Any) -> Chart:
    return validate(document, guards=GUARDS, version="v")


def changed(**changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(GOOD), **changes}


def with_arrow(**arrow: Any) -> dict[str, Any]:
    document = copy.deepcopy(GOOD)
    document["transitions"].append(arrow)
    return document


def test_a_good_chart_answers() -> None:
    chart = load(GOOD)
    assert chart.step("open", "push", lambda name: True) == "shut"
    assert chart.step("open", "push", lambda name: False) == "open"
    assert chart.step("shut", "pull", lambda name: False) == "open"
    assert chart.step("gone", "rebuild", lambda name: False) == "open"


@pytest.mark.parametrize(
    ("document", "said"),
    [
        # 1. unknown states and guards, which the library takes or meets only when fired
        (with_arrow(trigger="x", source="opne", dest="shut"), "unknown state 'opne'"),
        (with_arrow(trigger="x", source="open", dest="shutt"), "unknown state 'shutt'"),
        (with_arrow(trigger="x", source=["open", "gnoe"], dest="shut"), "unknown state 'gnoe'"),
        (with_arrow(trigger="x", source="open", dest="shut", conditions=["stong"]), "unknown guard 'stong'"),
        (with_arrow(trigger="x", source="open", dest="shut", unless=["kee"]), "unknown guard 'kee'"),
        (changed(initial="opn"), "unknown state 'opn'"),
        (changed(terminal=["done"]), "unknown state 'done'"),
        # 2. names that the library imports and calls
        (
            with_arrow(trigger="x", source="open", dest="shut", conditions=["builtins.print"]),
            "builtins.print",
        ),
        (
            with_arrow(trigger="x", source="open", dest="shut", unless=["os.system"]),
            "unknown guard 'os.system'",
        ),
        (with_arrow(trigger="x", source="open", dest="shut", conditions="strong"), "unknown guard 's'"),
        # 3. callbacks of any kind
        (with_arrow(trigger="x", source="open", dest="shut", before=["strong"]), "may have only"),
        (with_arrow(trigger="x", source="open", dest="shut", after="strong"), "may have only"),
        (with_arrow(trigger="x", source="open", dest="shut", prepare=["strong"]), "may have only"),
        (changed(before_state_change="strong"), "unknown key 'before_state_change'"),
        (changed(after_state_change="strong"), "unknown key 'after_state_change'"),
        (changed(on_exception="strong"), "unknown key 'on_exception'"),
        # 4. the library's own settings and signs
        (changed(queued=True), "unknown key 'queued'"),
        (changed(auto_transitions=True), "unknown key 'auto_transitions'"),
        (with_arrow(trigger="x", source="*", dest="shut"), r"unknown state '\*'"),
        (with_arrow(trigger="x", source="open", dest="="), "unknown state '='"),
        (with_arrow(trigger="x", source="open", dest=None), "unknown state None"),
        # and what no library would mind
        (with_arrow(trigger="x", source="gone", dest="open"), "leaves the terminal state 'gone'"),
        (changed(states=["open", "shut", "gone", "lost"]), "nothing leads to 'lost'"),
        (with_arrow(trigger="pull", source="shut", dest="gone"), "pull from 'shut' has two answers"),
        (with_arrow(trigger="push", source="open", dest="gone"), "push from 'open' has two answers"),
        (with_arrow(trigger="lock", source="shut", dest="open", conditions=["key"]), "has two answers"),
        (with_arrow(trigger="pull", source="open", dest="open"), "has two answers"),
        (changed(schema=2), "schema: 1"),
        ([], "must be a mapping"),
        (None, "must be a mapping"),
        (changed(transitions=["push"]), "may have only"),
    ],
)
def test_a_bad_chart_is_refused_when_it_is_loaded(document: Any, said: str) -> None:
    with pytest.raises(BadChart, match=said):
        load(document)


@pytest.mark.parametrize(
    "document",
    [
        {name: value for name, value in GOOD.items() if name != "states"},
        {name: value for name, value in GOOD.items() if name != "transitions"},
        {name: value for name, value in GOOD.items() if name != "initial"},
        with_arrow(trigger="x", source="open"),
        with_arrow(source="open", dest="shut"),
        changed(states=["open", {"name": "shut", "on_enter": "strong"}, "gone"]),
        changed(states=["open", "shut", "gone", "gone"]),
        changed(transitions=None),
    ],
)
def test_a_malformed_chart_is_a_bad_chart(document: Any) -> None:
    with pytest.raises(BadChart):
        load(document)


def test_guards_that_exclude_one_another_give_one_answer() -> None:
    chart = load(with_arrow(trigger="lock", source="shut", dest="open", unless=["key"]))
    assert chart.step("shut", "lock", lambda name: name == "strong") == "open"


def test_a_dotted_guard_is_never_called(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[object] = []
    monkeypatch.setattr(builtins, "print", lambda *arguments, **_: called.append(arguments))
    with pytest.raises(BadChart):
        load(with_arrow(trigger="x", source="open", dest="shut", conditions=["builtins.print"]))
    assert called == []


def test_a_guard_that_says_no_is_an_error_not_a_false() -> None:
    chart = load(GOOD)
    asked: list[str] = []

    def no(name: str) -> bool:
        asked.append(name)
        return False

    with pytest.raises(IllegalTransition, match="a guard refuses lock from shut"):
        chart.step("shut", "lock", no)
    assert set(asked) <= {"strong", "key"} and asked


@pytest.mark.parametrize(
    ("source", "trigger"),
    [("open", "burn"), ("gone", "pull"), ("open", "unheard-of"), ("open", "to_gone"), ("shut", "to_open")],
)
def test_a_step_that_the_chart_lacks_is_illegal(source: str, trigger: str) -> None:
    with pytest.raises(IllegalTransition, match=f"no {trigger} from {source}"):
        load(GOOD).step(source, trigger, lambda name: True)


def test_a_step_leaves_nothing_behind() -> None:
    chart = load(GOOD)
    for _ in range(3):
        assert chart.step("open", "push", lambda name: True) == "shut"
        with pytest.raises(IllegalTransition):
            chart.step("open", "burn", lambda name: True)
    from fsnap.core.chart import _machine

    assert _machine(chart).models == []


def test_a_failing_guard_is_not_hidden() -> None:
    def broken(name: str) -> bool:
        raise ZeroDivisionError

    chart = load(GOOD)
    with pytest.raises(ZeroDivisionError):
        chart.step("open", "push", broken)
    assert chart.step("open", "push", lambda name: True) == "shut"


def test_the_charts_that_ship_are_good() -> None:
    task, node = task_chart(), node_chart()
    assert set(task.states) == {state.value for state in State}
    assert task.terminal == {state.value for state in TERMINAL}
    assert task.initial == State.NEW.value
    used = {guard for arrow in task.arrows for guard in arrow.conditions + arrow.unless}
    assert used == set(TASK_GUARDS)
    assert {guard for arrow in node.arrows for guard in arrow.conditions + arrow.unless} == NODE_GUARDS
    assert task.version != node.version and len(task.version) == 16
