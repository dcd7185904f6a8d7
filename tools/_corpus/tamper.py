"""Journals that say what was never decided, and journals of which a part is gone, made of real ones."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fsnap.core.records import canonical, digest_of

Plain = dict[str, Any]
Load = Callable[[str], list[Plain]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tampered:
    """One journal that is not as it should be."""

    folder: str
    name: str
    content: bytes
    expected: Plain
    """What a replay has to find."""


def rechained(records: Sequence[Plain]) -> list[Plain]:
    """*records* with digests that fit again, from the first to the last."""
    done: list[Plain] = []
    prev = ""
    for record in copy.deepcopy(list(records)):
        record["prev"] = prev
        if record["folded"] is not None:
            record["folded"]["digest"] = prev
        prev = record["digest"] = digest_of(record)
        done.append(record)
    return done


def tampered(load: Load) -> Iterator[Tampered]:
    """All of them; *load* gives a good journal by its name."""
    for name, base, trigger, change, field in _CHANGES:
        records = load(base)
        place = next(n for n, record in enumerate(records) if record["trigger"] == trigger)
        change(records[place])
        yield Tampered(
            folder="divergent",
            name=name,
            content=_lines(rechained(records)),
            expected={"seq": records[place]["seq"], "field": field},
        )
    yield from _damaged(load)


def _exit_code(record: Plain) -> None:
    record["effects"][-1]["exit_code"] = 0


def _no_dump(record: Plain) -> None:
    record["trigger"], record["effects"] = "note", []
    record["dest"] = record["source"]


def _another_snapshot(record: Plain) -> None:
    record["effects"][0]["snapshot_id"] = "000009-0000000009"


def _other_facts(record: Plain) -> None:
    record["facts"]["unsupported"] = "a reason that nobody saw"


def _same_epoch(record: Plain) -> None:
    record["epoch"] -= 1


def _forgotten_snapshot(record: Plain) -> None:
    record["folded"]["snapshots"] = []


def _unverified(record: Plain) -> None:
    record["event"]["ref"]["manifest"] = ""


def _no_hold(record: Plain) -> None:
    record["effects"][0]["hold_ms"] = 1


_CHANGES: tuple[tuple[str, str, str, Callable[[Plain], None], str], ...] = (
    ("another-exit-code", "two-reclaims", "commit", _exit_code, "effects"),
    ("a-dump-that-was-not-taken", "two-reclaims", "dump", _no_dump, "trigger"),
    ("another-snapshot-restored", "two-reclaims", "claim", _another_snapshot, "effects"),
    ("facts-that-forbid-the-dump", "two-reclaims", "dump", _other_facts, "trigger"),
    ("a-claim-in-the-same-epoch", "two-reclaims", "claim", _same_epoch, "epoch"),
    ("a-claim-that-forgot-a-snapshot", "two-reclaims", "claim", _forgotten_snapshot, "folded"),
    ("a-commit-without-a-manifest", "two-reclaims", "commit", _unverified, "refused"),
    ("a-start-that-waits-for-nothing", "clean", "begin", _no_hold, "effects"),
)
"""Name, the journal it is made of, the trigger of the record that is changed, the change, what differs."""


def _lines(records: Sequence[Plain]) -> bytes:
    return b"".join(canonical(record) + b"\n" for record in records)


def _damage(first: int, last: int) -> Plain:
    return {"first_seq": first, "last_seq": last}


def _damaged(load: Load) -> Iterator[Tampered]:
    records = load("two-reclaims")
    claims = [record["seq"] for record in records if record["trigger"] == "claim"]
    between = claims[0] + 1  # the record after a claim; up to the next claim the state is unknown without it
    skipped = claims[1] - between - 1
    lines = _lines(records).splitlines(keepends=True)

    def broken(name: str, content: bytes, missing: list[Plain], redecided: int) -> Tampered:
        return Tampered(
            folder="damaged",
            name=name,
            content=content,
            expected={"missing": missing, "redecided": redecided},
        )

    count = len(records)
    hole = lines[: between - 1] + lines[between:]
    yield broken("a-record-is-missing", b"".join(hole), [_damage(between, between)], count - 1 - skipped)
    flipped = bytearray(lines[between - 1])
    place = flipped.index(b'"mono_ms":') + len(b'"mono_ms":')
    flipped[place] = ord("9") if flipped[place] != ord("9") else ord("8")
    changed = [*lines[: between - 1], bytes(flipped), *lines[between:]]
    yield broken("a-flipped-digit", b"".join(changed), [_damage(between, between)], count - 1 - skipped)
    yield broken("a-cut-end", b"".join(lines)[: -len(lines[-1]) // 2], [_damage(count, count)], count - 1)
    yield broken("a-missing-beginning", b"".join(lines[3:]), [_damage(1, 3)], count - 3 - _until(records, 4))
    newer = copy.deepcopy(records)
    newer[-1]["schema"] += 1
    yield broken("a-newer-schema", _lines(rechained(newer)), [_damage(count, count)], count - 1)
    strange = [*lines[:2], b"\x00\xff not a record\n", *lines[3:]]
    yield broken("not-json", b"".join(strange), [_damage(3, 3)], count - 1 - _until(records, 4))
    other = load("clean")
    mixed = [*lines[: between - 1], _lines([{**other[1], "task": "task", "seq": between}]), *lines[between:]]
    yield broken("another-tasks-record", b"".join(mixed), [_damage(between, between)], count - 1 - skipped)


def _until(records: Sequence[Plain], seq: int) -> int:
    """How many records from *seq* on come before the next claim."""
    claim = next(record["seq"] for record in records if record["seq"] >= seq and record["trigger"] == "claim")
    return int(claim) - seq
