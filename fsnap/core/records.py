"""Journal records: one decision each, chained by digest, canonical to the byte.

A record holds what was decided and everything it was decided from (event, facts,
config), so that a replay can decide again.  ``digest`` covers all other fields in
canonical JSON; ``prev`` is the digest of the record before it, empty for the first.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from fsnap.core import values
from fsnap.core.effects import EFFECTS, Effect
from fsnap.core.events import EVENTS, Event
from fsnap.core.model import PLANNER, SCHEMA, Facts, State, TaskState
from fsnap.errors import CorruptData, NewerSchema


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One transition of one task."""

    schema: int = SCHEMA
    task: str
    seq: int
    epoch: int
    node: str
    at: str
    mono_ms: int
    trigger: str
    source: State
    dest: State
    event: Event
    facts: Facts
    effects: tuple[Effect, ...]
    config: dict[str, Any]
    note: str
    planner: int = PLANNER
    chart: str
    folded: TaskState | None = None
    """On a claim: the state before it, so that reading may start here."""
    prev: str
    digest: str = ""


def canonical(data: object) -> bytes:
    """*data* as the one JSON text that digests are taken of; ASCII, so that any file name fits in."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def record_to_plain(record: Record) -> dict[str, Any]:
    """*record* as JSON data."""
    plain: dict[str, Any] = {
        f.name: getattr(record, f.name)
        for f in dataclasses.fields(record)
        if f.name not in ("event", "facts", "effects", "folded", "source", "dest")
    }
    plain["source"], plain["dest"] = record.source.value, record.dest.value
    plain["event"] = values.tagged(record.event)
    plain["facts"] = values.to_plain(record.facts)
    plain["effects"] = [values.tagged(effect) for effect in record.effects]
    plain["folded"] = values.to_plain(record.folded)
    return plain


def seal(record: Record) -> Record:
    """*record* with its digest."""
    return dataclasses.replace(record, digest=digest_of(record_to_plain(record)))


def digest_of(plain: dict[str, Any]) -> str:
    """The digest that a record with these fields must carry."""
    return hashlib.sha256(canonical({k: v for k, v in plain.items() if k != "digest"})).hexdigest()


def record_from_plain(plain: Any) -> Record:
    """The record in *plain*, its digest checked; :class:`NewerSchema`, :class:`CorruptData`."""
    if not isinstance(plain, dict) or not isinstance(plain.get("schema"), int):
        raise CorruptData("a journal record is not an object with a schema")
    if plain["schema"] > SCHEMA:
        raise NewerSchema(
            f"journal record {plain.get('seq')} has schema {plain['schema']}; this fsnap reads up to {SCHEMA}"
        )
    if digest_of(plain) != plain.get("digest"):
        raise CorruptData(f"journal record {plain.get('seq')} does not match its digest")
    try:
        return Record(
            **{
                **plain,
                "source": State(plain["source"]),
                "dest": State(plain["dest"]),
                "event": values.untagged(EVENTS, plain["event"]),
                "facts": values.from_plain(Facts, plain["facts"]),
                "effects": tuple(values.untagged(EFFECTS, effect) for effect in plain["effects"]),
                "folded": None if plain["folded"] is None else values.from_plain(TaskState, plain["folded"]),
            }
        )
    except (ValueError, KeyError, TypeError) as problem:
        raise CorruptData(f"journal record {plain.get('seq')} can't be read: {problem}") from problem


def check_chain(records: list[Record], *, task: str, prev: str, first_seq: int) -> None:
    """Raise :class:`CorruptData` unless *records* are *task*'s next ones after *prev*."""
    for offset, record in enumerate(records):
        if record.task != task or record.seq != first_seq + offset:
            raise CorruptData(
                f"journal of {task}: found {record.task}#{record.seq}, not #{first_seq + offset}"
            )
        if record.prev != prev:
            raise CorruptData(f"journal of {task}: record {record.seq} does not follow the one before it")
        prev = record.digest
