"""Records: canonical to the byte, digests over everything, chained."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given, settings

from fsnap.core.model import SCHEMA, State
from fsnap.core.records import (
    Record,
    canonical,
    check_chain,
    digest_of,
    record_from_plain,
    record_to_plain,
    seal,
)
from fsnap.errors import CorruptData, NewerSchema
from tests.unit.core import strategies
from tests.unit.core.support import Life, claim


@settings(max_examples=60)
@given(strategies.records())
def test_every_record_comes_back_to_the_byte(record: Record) -> None:
    sealed = seal(record)
    data = canonical(record_to_plain(sealed))
    again = record_from_plain(json.loads(data))
    assert again == sealed
    assert canonical(record_to_plain(again)) == data
    assert seal(again) == sealed


def a_record() -> dict[str, Any]:
    life = Life()
    life.happens(claim())
    return record_to_plain(life.records[0])


def other(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str):
        return State.FAILED.value if value in set(State) else value + "~"
    if isinstance(value, list):
        return [*value, 1]
    return {**value, "task": "other", "more": 1}


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Record)])
def test_the_digest_covers_every_field(name: str) -> None:
    plain = a_record()
    assert name in plain
    plain[name] = other(plain[name])
    with pytest.raises((CorruptData, NewerSchema)):
        record_from_plain(plain)


@pytest.mark.parametrize("plain", [None, [], "x", {}, {"schema": "1"}, {"schema": None}])
def test_what_is_no_record_is_refused(plain: Any) -> None:
    with pytest.raises(CorruptData, match="not an object with a schema"):
        record_from_plain(plain)


def test_a_newer_record_is_refused_with_its_version_whatever_is_in_it() -> None:
    with pytest.raises(NewerSchema, match=f"schema {SCHEMA + 1}; this fsnap reads up to {SCHEMA}"):
        record_from_plain({"schema": SCHEMA + 1, "seq": 3, "news": []})


@pytest.mark.parametrize(
    "change",
    [
        {"event": {"kind": "Unheard"}},
        {"event": None},
        {"dest": "limbo"},
        {"effects": [{"kind": "Start", "hold_ms": "0"}]},
        {"effects": 7},
        {"folded": {}},
        {"facts": {"left_ms": 1.5}},
        {"more": 1},
    ],
)
def test_a_sealed_record_that_is_not_understood_is_refused(change: dict[str, Any]) -> None:
    plain = {**a_record(), **change}
    plain["digest"] = digest_of(plain)
    with pytest.raises(CorruptData, match="can't be read"):
        record_from_plain(plain)


def test_a_record_that_lacks_a_field_is_refused() -> None:
    for name in ("event", "note", "folded", "chart"):
        plain = a_record()
        del plain[name]
        plain["digest"] = digest_of(plain)
        with pytest.raises(CorruptData, match="can't be read"):
            record_from_plain(plain)


def test_a_claim_carries_the_state_before_it() -> None:
    life = Life()
    life.happens(claim())
    assert record_from_plain(record_to_plain(life.records[0])).folded == life.first


def test_the_chain() -> None:
    life = Life()
    life.happens(claim())
    for _ in range(3):
        life.records.append(
            seal(
                dataclasses.replace(
                    life.records[-1], seq=life.records[-1].seq + 1, prev=life.records[-1].digest
                )
            )
        )
    records = life.records
    check_chain(records, task="t", prev="", first_seq=1)
    check_chain(records[2:], task="t", prev=records[1].digest, first_seq=3)
    check_chain([], task="t", prev="whatever", first_seq=9)
    for wrong, prev, first_seq in (
        (records[1:], "", 1),
        (records[1:], "", 2),
        ([records[0], records[2]], "", 1),
        ([records[0], records[0]], "", 1),
        (records[::-1], "", 1),
        (records, "x", 1),
    ):
        with pytest.raises(CorruptData, match="journal of t"):
            check_chain(wrong, task="t", prev=prev, first_seq=first_seq)
    with pytest.raises(CorruptData, match="journal of u"):
        check_chain(records, task="u", prev="", first_seq=1)


def test_a_command_may_hold_any_bytes() -> None:
    life = Life()
    life.happens(dataclasses.replace(claim(), command=("cat", b"caf\xe9".decode("utf-8", "surrogateescape"))))
    assert record_from_plain(json.loads(canonical(record_to_plain(life.records[0])))) == life.records[0]


def test_canonical_is_one_text_for_one_value() -> None:
    assert canonical({"b": [1, None], "a": "é"}) == canonical({"a": "é", "b": [1, None]})
    assert canonical({"b": [1, None], "a": "é"}) == b'{"a":"\\u00e9","b":[1,null]}'
