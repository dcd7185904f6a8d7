"""A record as a row of the local journal, as JSON data, and as part of a mirrored object.

The JSON data of a record is what its digest covers, so it is stored and passed on
as it was read and never rebuilt from a :class:`~fsnap.core.records.Record`: a field
that a later version gives a default must not change the bytes of older records.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fsnap.core.model import SCHEMA
from fsnap.core.records import Record, canonical, record_from_plain
from fsnap.errors import CorruptData, NewerSchema, SealBroken
from fsnap.journal.sealing import open_batch, seal_batch
from fsnap.keys import KeyRing

Plain = dict[str, Any]

NESTED = ("event", "facts", "effects", "config", "folded", "note")
"""Fields that are JSON text in their column; a note may quote names that are no Unicode text."""

COLUMNS: dict[str, type] = {
    "task": str,
    "seq": int,
    "schema": int,
    "epoch": int,
    "node": str,
    "at": str,
    "mono_ms": int,
    "trigger": str,
    "source": str,
    "dest": str,
    "event": str,
    "facts": str,
    "effects": str,
    "config": str,
    "note": str,
    "planner": int,
    "chart": str,
    "folded": str,
    "prev": str,
    "digest": str,
}

_INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Consecutive records in the exact bytes of one mirrored object."""

    task: str
    records: tuple[Plain, ...]
    nonce: str
    """Text that no other object has; in its bytes even where their end is missing."""
    body: bytes

    @property
    def first_seq(self) -> int:
        return int(self.records[0]["seq"])

    @property
    def last_seq(self) -> int:
        return int(self.records[-1]["seq"])

    @property
    def digest(self) -> str:
        """The last record's."""
        return str(self.records[-1]["digest"])


def to_row(plain: Plain) -> dict[str, Any]:
    """The columns of a record."""
    return {name: canonical(plain[name]).decode() if name in NESTED else plain[name] for name in COLUMNS}


def from_row(row: Mapping[str, Any]) -> Plain:
    """The record in *row*, not checked; :class:`~fsnap.errors.CorruptData` when a column is not JSON."""
    try:
        return {name: json.loads(row[name]) if name in NESTED else row[name] for name in COLUMNS}
    except ValueError as problem:
        raise CorruptData(f"record {row['seq']} of {row['task']}: {problem}") from problem


def checked(plain: Any) -> Record:
    """The record in *plain*, its fields' types and its digest checked; :class:`~fsnap.errors.CorruptData`."""
    try:
        record = record_from_plain(plain)
    except ValueError as problem:  # text that is not Unicode has no digest
        raise CorruptData(f"a journal record can't be read: {problem}") from problem
    for name, kind in COLUMNS.items():
        value = plain.get(name)
        if name in NESTED:
            continue
        if type(value) is not kind or (isinstance(value, int) and value not in _INT64):
            raise CorruptData(f"journal record {plain['seq']!s:.40}: {name} is not a {kind.__name__}")
    return record


def encode_batch(task: str, records: Sequence[Plain], nonce: str, keys: KeyRing | None = None) -> Batch:
    """*records* as an object that no other writer makes the same, sealed where there are *keys*.

    ``ValueError`` for an empty *nonce*.
    """
    if not nonce:
        raise ValueError("a batch needs a nonce")
    document: dict[str, Any] = {"schema": SCHEMA, "nonce": nonce, "records": list(records)}
    if keys is not None:
        document = seal_batch(document, keys, task, int(records[0]["seq"]))
    return Batch(task=task, records=tuple(records), nonce=nonce, body=canonical(document))


def decode_batch(
    task: str, body: bytes, where: str, *, first_seq: int = 0, keys: KeyRing | None = None
) -> tuple[Batch, list[Record]]:
    """The records of the object *body* that was read from *where*, where record *first_seq* begins.

    Digests are checked, the chain is not.  :class:`~fsnap.errors.CorruptData`,
    :class:`~fsnap.errors.NewerSchema`, and a :class:`~fsnap.errors.SealError` where the
    object and *keys* do not go together, name *where*.
    """
    try:
        document = json.loads(body)
        if not isinstance(document, dict) or type(document.get("schema")) is not int:
            raise CorruptData("not an object with a schema")
        if document["schema"] > SCHEMA:
            raise NewerSchema(f"schema {document['schema']}; this fsnap reads up to {SCHEMA}")
        document = open_batch(document, body, keys, task, first_seq, where)
        plains = document.get("records")
        nonce = document.get("nonce")
        if not isinstance(plains, list) or not plains or not isinstance(nonce, str) or not nonce:
            raise CorruptData("no records, or no nonce")
        records = [checked(plain) for plain in plains]
    except NewerSchema as newer:
        raise NewerSchema(f"{where}: {newer}") from newer
    except SealBroken:
        raise
    except CorruptData as problem:
        raise CorruptData(f"{where}: {problem}", hint=MIRROR_HINT) from problem
    except (ValueError, RecursionError) as problem:
        raise CorruptData(f"{where}: not JSON ({problem})", hint=MIRROR_HINT) from problem
    return Batch(task=task, records=tuple(plains), nonce=nonce, body=body), records


MIRROR_HINT = (
    "Bring the object back from a backup or an older version in the bucket; without it nobody can claim."
)
