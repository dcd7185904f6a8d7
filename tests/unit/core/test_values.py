"""Values to JSON and back: every event, effect, fact and state, exactly; and nothing else."""

from __future__ import annotations

import dataclasses
import json
from enum import Enum
from typing import Any

import pytest
from hypothesis import given, settings

from fsnap.core import values
from fsnap.core.effects import EFFECTS, Effect
from fsnap.core.events import EVENTS, Event
from fsnap.core.model import Attempt, Basis, Config, Facts, TaskState
from tests.unit.core import strategies
from tests.unit.core.support import AWS, claim


def through_json(plain: Any) -> Any:
    return json.loads(json.dumps(plain, ensure_ascii=False).encode())


def subclasses(kind: type) -> set[type]:
    return {kind, *(deeper for child in kind.__subclasses__() for deeper in subclasses(child))}


@pytest.mark.parametrize("name", sorted(EVENTS))
def test_every_event_comes_back(name: str) -> None:
    @settings(max_examples=40)
    @given(strategies.values(EVENTS[name]))
    def comes_back(event: Event) -> None:
        again = values.untagged(EVENTS, through_json(values.tagged(event)))
        assert again == event and type(again) is type(event)

    comes_back()


@pytest.mark.parametrize("name", sorted(EFFECTS))
def test_every_effect_comes_back(name: str) -> None:
    @settings(max_examples=40)
    @given(strategies.values(EFFECTS[name]))
    def comes_back(effect: Effect) -> None:
        again = values.untagged(EFFECTS, through_json(values.tagged(effect)))
        assert again == effect and type(again) is type(effect)

    comes_back()


@settings(max_examples=60)
@given(strategies.values(TaskState), strategies.values(Facts))
def test_every_state_and_fact_comes_back(state: TaskState, facts: Facts) -> None:
    assert values.from_plain(TaskState, through_json(values.to_plain(state))) == state
    assert values.from_plain(Facts, through_json(values.to_plain(facts))) == facts


def test_the_tables_hold_every_kind() -> None:
    for table, base in ((EVENTS, Event), (EFFECTS, Effect)):
        # By name: a dataclass with slots is made twice, and the first making may still be around.
        here = {kind.__name__ for kind in subclasses(base) if kind.__module__ == base.__module__}
        assert table.keys() == here - {base.__name__}
        assert all(name == kind.__name__ for name, kind in table.items())


def test_kinds_of_words_survive() -> None:
    again = values.from_plain(type(claim()), through_json(values.to_plain(claim(attempt=AWS))))
    assert again.basis is Basis.NEW
    assert isinstance(again.command, tuple)
    assert again.attempt == AWS


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"number": "1"}, "number: str, not int"),
        ({"number": True}, "truth value"),
        ({"number": 1.0}, "number: float, not int"),
        ({"number": None}, "number: NoneType, not int"),
        ({"job": 7}, "job: int, not str"),
        ({"more": 1}, "unknown field 'more'"),
    ],
)
def test_what_is_not_understood_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        values.from_plain(Attempt, {**values.to_plain(AWS), **change})


def test_a_field_without_a_default_must_be_there() -> None:
    with pytest.raises(ValueError, match="no field 'job'"):
        values.from_plain(Attempt, {"scheduler": "slurm", "number": 1})
    assert values.from_plain(Config, {}) == Config()


@pytest.mark.parametrize(
    ("kind", "plain"),
    [
        (Attempt, []),
        (Attempt, None),
        (TaskState, {"task": "t", "state": "unheard-of"}),
        (TaskState, {"task": "t", "state": []}),
        (TaskState, {"task": "t", "snapshots": {}}),
        (TaskState, {"task": "t", "snapshots": [None]}),
        (TaskState, {"task": "t", "command": ["a", 1]}),
        (TaskState, {"task": "t", "restore_failures": [1]}),
        (TaskState, {"task": "t", "restore_failures": {"a": "1"}}),
        (TaskState, {"task": "t", "holder": {"node": "n"}}),
        (TaskState, {"task": "t", "held": 1}),
    ],
)
def test_what_does_not_fit_is_refused(kind: type, plain: Any) -> None:
    with pytest.raises(ValueError, match=r"Attempt|State"):
        values.from_plain(kind, plain)


@pytest.mark.parametrize(
    "plain", [None, [], "Tick", {}, {"kind": "tick"}, {"kind": None}, {"kind": "__class__"}]
)
def test_an_unknown_kind_is_refused(plain: Any) -> None:
    with pytest.raises(ValueError, match="unknown kind"):
        values.untagged(EVENTS, plain)


class Colour(Enum):
    RED = 1


@dataclasses.dataclass(frozen=True)
class Odd:
    value: Any


@pytest.mark.parametrize("value", [1.5, b"x", {1, 2}, object(), Colour.RED, Attempt])
def test_what_no_record_may_hold_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="is not a journal value"):
        values.to_plain(Odd(value))


def test_defaults_are_written_out() -> None:
    """So that a later version's other default does not change what an old record meant."""
    assert values.to_plain(Config()).keys() == {field.name for field in dataclasses.fields(Config)}
