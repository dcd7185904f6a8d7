"""The local journal without its file.

``MemoryJournal`` does what :class:`fsnap.journal.local.Journal` does, but for damage,
which memory has none of; tests hold it to the real one, call by call and life by life.

Fault model: what was appended survives the agent and not the node.  An agent may die
right before and right after any write.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fsnap.core.fold import fold
from fsnap.core.model import TaskState
from fsnap.core.records import Record, record_to_plain
from fsnap.journal import rows
from fsnap.journal.local import MAX_BATCH_RECORDS, NO_RECORDS, Head, Orphan, _bounded
from fsnap.journal.rows import Batch, Plain
from fsnap.keys import KeyRing

_RECORDS: dict[str, Record] = {}
"""Records by their digest, which covers all of them: decoded once."""


def record_of(plain: Plain) -> Record:
    """The record in *plain*."""
    known = _RECORDS.get(plain["digest"])
    if known is None:
        if len(_RECORDS) > 20_000:
            _RECORDS.clear()
        known = _RECORDS[plain["digest"]] = rows.checked(plain)
    return known


def remember(record: Record) -> None:
    """*record* was made here and need not be decoded."""
    _RECORDS[record.digest] = record


@dataclass(slots=True)
class _Task:
    plains: dict[int, Plain] = field(default_factory=dict)
    """By number, ascending."""
    mirrored: dict[int, int] = field(default_factory=dict)
    """First number to last, per object."""
    batch: Batch | None = None
    meta: dict[str, str] = field(default_factory=dict)
    orphans: list[Orphan] = field(default_factory=list)
    folded: list[TaskState] = field(default_factory=list)
    """After each record in turn, from the first on."""


class MemoryJournal:
    """A journal in memory."""

    def __init__(self) -> None:
        self._tasks: dict[str, _Task] = {}
        self.keys: KeyRing | None = None

    def _task(self, task: str) -> _Task:
        return self._tasks.setdefault(task, _Task())

    def close(self) -> None:
        """Nothing to let go of."""

    def records(self, task: str, *, after: int = 0) -> list[Record]:
        return [record_of(plain) for seq, plain in self._task(task).plains.items() if seq > after]

    def head(self, task: str) -> Head:
        plains = self._task(task).plains
        return Head(len(plains), plains[len(plains)]["digest"]) if plains else NO_RECORDS

    def digest_at(self, task: str, seq: int) -> str | None:
        plain = self._task(task).plains.get(seq)
        return None if plain is None else str(plain["digest"])

    def append(self, record: Record) -> None:
        head = self.head(record.task)
        if (record.seq, record.prev) != (head.seq + 1, head.digest):
            raise ValueError(
                f"record {record.seq} of {record.task} does not follow the head, which is {head.seq}"
            )
        remember(record)
        self._task(record.task).plains[record.seq] = record_to_plain(record)

    def state(self, task: str) -> TaskState:
        return self._fold(task, self.head(task).seq)

    def _fold(self, task: str, upto: int) -> TaskState:
        mine = self._task(task)
        while mine.folded and mine.folded[-1].digest != self.digest_at(task, mine.folded[-1].seq):
            mine.folded.pop()
        for seq in range(len(mine.folded) + 1, upto + 1):
            before = mine.folded[-1] if mine.folded else TaskState(task=task)
            mine.folded.append(fold(before, record_of(mine.plains[seq])))
        return mine.folded[upto - 1] if upto else TaskState(task=task)

    # -- what the mirror needs

    def mirrored_seq(self, task: str) -> int:
        return max(self._task(task).mirrored.values(), default=0)

    def mirrored_head(self, task: str) -> Head:
        seq = self.mirrored_seq(task)
        return Head(seq, self.digest_at(task, seq) or "")

    def last_object(self, task: str) -> int:
        return max(self._task(task).mirrored, default=0)

    def mirrored_state(self, task: str) -> TaskState:
        return self._fold(task, self.mirrored_seq(task))

    def kept_batch(self, task: str) -> Batch | None:
        return self._task(task).batch

    def keep_batch(self, task: str, nonce: Callable[[], str]) -> Batch | None:
        mine = self._task(task)
        if mine.batch is None:
            start = self.mirrored_seq(task)
            tail = [plain for seq, plain in mine.plains.items() if seq > start][:MAX_BATCH_RECORDS]
            if tail:
                mine.batch = rows.encode_batch(task, _bounded(tail), nonce())
        return mine.batch

    def accept(self, task: str, batches: Sequence[Batch], *, anew: bool = False, reason: str) -> None:
        mine = self._task(task)
        if anew:
            mine.mirrored.clear()
        for batch in batches:
            for plain in batch.records:
                there = mine.plains.get(plain["seq"])
                if there is not None and there["digest"] != plain["digest"]:
                    self._keep_orphan(mine, there, reason)
                mine.plains[plain["seq"]] = plain
            mine.mirrored[batch.first_seq] = batch.last_seq
            if mine.batch is not None and mine.batch.first_seq <= batch.last_seq:
                mine.batch = None
        mine.plains = dict(sorted(mine.plains.items()))
        self._settle_tail(task, reason)

    def orphan_tail(self, task: str, reason: str) -> None:
        self._orphan(task, self.mirrored_seq(task) + 1, reason)

    def forget(self, task: str, reason: str) -> None:
        self._task(task).mirrored.clear()
        self._orphan(task, 0, reason)

    def orphaned(self, task: str) -> list[Orphan]:
        return list(self._task(task).orphans)

    def put_meta(self, task: str, key: str, value: str) -> None:
        self._task(task).meta[key] = value

    def get_meta(self, task: str, key: str) -> str | None:
        return self._task(task).meta.get(key)

    def _settle_tail(self, task: str, reason: str) -> None:
        mine = self._task(task)
        last = self.mirrored_seq(task)
        tail = [plain for seq, plain in mine.plains.items() if seq > last]
        prev = self.digest_at(task, last) or ""
        whole = True
        for offset, plain in enumerate(tail):
            whole = whole and plain["seq"] == last + 1 + offset and plain["prev"] == prev
            prev = plain["digest"]
        if mine.batch is not None:
            kept = [plain["digest"] for plain in mine.batch.records]
            whole = whole and kept == [plain["digest"] for plain in tail[: len(kept)]]
        if not whole:
            self._orphan(task, last + 1, reason)

    def _orphan(self, task: str, first: int, reason: str) -> None:
        mine = self._task(task)
        for seq in [seq for seq in mine.plains if seq >= first]:
            self._keep_orphan(mine, mine.plains.pop(seq), reason)
        mine.batch = None

    def _keep_orphan(self, mine: _Task, plain: Plain, reason: str) -> None:
        text = json.dumps({name: rows.to_row(plain)[name] for name in rows.COLUMNS})
        mine.orphans.append(
            Orphan(task=plain["task"], seq=plain["seq"], digest=plain["digest"], record=text, reason=reason)
        )


class AgentsJournal:
    """A journal as one agent uses it: each write takes time, before and after it is durable."""

    def __init__(
        self,
        inner: Any,
        sleep: Callable[[float], None],
        rng: Callable[[], float],
        on_append: Callable[[Record], None],
    ) -> None:
        self._inner = inner
        self._sleep = sleep
        self._rng = rng
        self._on_append = on_append

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def append(self, record: Record) -> None:
        self._sleep(0.01 * self._rng())
        remember(record)
        self._inner.append(record)
        self._on_append(record)
        self._sleep(0.01 * self._rng())

    def accept(self, task: str, batches: Sequence[Batch], *, anew: bool = False, reason: str) -> None:
        self._sleep(0.005 * self._rng())
        self._inner.accept(task, batches, anew=anew, reason=reason)

    def close(self) -> None:
        """The node keeps it open for the next agent."""
