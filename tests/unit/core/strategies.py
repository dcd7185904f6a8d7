"""Any value that a record may hold."""

from __future__ import annotations

import dataclasses
import types
import typing
from enum import Enum
from typing import Any

from hypothesis import strategies as st

from fsnap.core.effects import EFFECTS, Effect
from fsnap.core.events import EVENTS, Event
from fsnap.core.model import Facts, State, TaskState
from fsnap.core.records import Record

WORDS = st.sampled_from(["", "a", 'é“\n\\"', "\x00\x7f", "10", "🜁"]) | st.text(max_size=8)
NUMBERS = st.sampled_from([0, 1, -1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63)]) | st.integers(
    -(2**63), 2**63 - 1
)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | WORDS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner, max_size=2),
    max_leaves=4,
)


def of(hint: Any) -> st.SearchStrategy[Any]:
    """Values of the type *hint*, built from its fields; the library's own guesses would miss odd numbers."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return st.one_of(*(of(option) for option in arguments))
    if origin is tuple:
        return st.lists(of(arguments[0]), max_size=2).map(tuple)
    if origin is dict:
        return st.dictionaries(WORDS, JSON if arguments[1] is Any else of(arguments[1]), max_size=2)
    if hint is type(None):
        return st.none()
    if issubclass(hint, Enum):
        return st.sampled_from(hint)
    if dataclasses.is_dataclass(hint):
        return values(hint)
    return {str: WORDS, int: NUMBERS, bool: st.booleans()}[hint]


def values(kind: type) -> st.SearchStrategy[Any]:
    """Instances of the dataclass *kind*."""
    hints = typing.get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]
    return st.fixed_dictionaries(
        {name: st.deferred(lambda name=name: of(hints[name])) for name in names}
    ).map(lambda fields: kind(**fields))


def events() -> st.SearchStrategy[Event]:
    return st.one_of(*(values(kind) for kind in EVENTS.values()))


def effects() -> st.SearchStrategy[Effect]:
    return st.one_of(*(values(kind) for kind in EFFECTS.values()))


def records() -> st.SearchStrategy[Record]:
    return st.builds(
        Record,
        task=WORDS,
        seq=NUMBERS,
        epoch=NUMBERS,
        node=WORDS,
        at=WORDS,
        mono_ms=NUMBERS,
        trigger=WORDS,
        source=st.sampled_from(State),
        dest=st.sampled_from(State),
        event=events(),
        facts=values(Facts),
        effects=st.lists(effects(), max_size=3).map(tuple),
        config=st.dictionaries(WORDS, JSON, max_size=2),
        note=WORDS,
        chart=WORDS,
        folded=st.none() | values(TaskState),
        prev=WORDS,
    )
