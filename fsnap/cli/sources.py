"""Where ``fsnap status`` looks, and what a look gives: here this node's journal, opened for reading only.

``status`` has to answer at once, so nothing is imported here that only ``run`` needs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from fsnap.capsule import identity
from fsnap.core.fold import fold
from fsnap.core.model import Holder, TaskState
from fsnap.core.records import Record
from fsnap.core.status import (
    BEAT_META,
    Sample,
    Signs,
    TaskView,
    Whereabouts,
    moment,
    sample_of_beat,
    sample_of_facts,
    seen_of,
    view_of,
)
from fsnap.core.values import from_plain
from fsnap.errors import CorruptData, FsnapError, NewerSchema, ObjectMissing
from fsnap.journal.errors import JournalMissing
from fsnap.journal.heartbeat import Beat
from fsnap.journal.local import Journal

R = TypeVar("R")


class UnknownTask(FsnapError):
    """No record of this task where ``status`` looked."""

    code = "unknown-task"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was found, at one moment."""

    source: str
    """The journal's path, or the store's URL."""
    now: datetime
    views: tuple[TaskView, ...]
    errors: tuple[tuple[str, str], ...] = ()
    """Tasks that could not be read, and why."""
    notes: tuple[str, ...] = ()
    """What this look left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row(Generic[R]):
    """One task of a look: what was found, or why it could not be."""

    task: str
    found: R | None
    error: str = ""


class Source(Protocol):
    """Somewhere to look, again and again."""

    def look(self, task: str | None, now: datetime) -> Look:
        """All tasks, or *task* alone.

        :class:`UnknownTask`; :class:`~fsnap.errors.FsnapError` when nothing can be read.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What the records of a task amount to, so far."""

    state: TaskState
    sample: Sample | None = None
    sample_at: str = ""
    last_object: int = 0
    """The number in the name of the last object; 0: none was read, or it is not a store."""

    def and_then(self, records: Iterable[Record], last_object: int = 0) -> Read:
        """With more records."""
        state, sample, at = self.state, self.sample, self.sample_at
        for record in records:
            state = fold(state, record)
            if record.facts.tree_bytes:
                sample, at = sample_of_facts(record.facts, record.epoch), record.at
        return Read(state=state, sample=sample, sample_at=at, last_object=last_object)

    def signs(
        self, beat: Beat | None, *, known: bool, whereabouts: Whereabouts = Whereabouts.UNKNOWN
    ) -> Signs:
        """The newer of the heartbeat and the records has the word about commits."""
        if beat is None:
            return Signs(heartbeat_known=known, sample=self.sample, whereabouts=whereabouts)
        newer = beat.epoch == self.state.epoch and beat.at >= self.sample_at
        return Signs(
            heartbeat_at=moment(beat.at),
            heartbeat_epoch=beat.epoch,
            heartbeat_known=known,
            sample=sample_of_beat(beat.sample, beat.epoch) if newer else self.sample,
            whereabouts=whereabouts,
        )


class LocalSource:
    """The journal of this node."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def look(self, task: str | None, now: datetime) -> Look:
        try:
            journal = Journal.open_readonly(self._path)
        except JournalMissing:
            if task is not None:
                raise unknown(task, f"there is no journal {self._path}") from None
            return Look(source=str(self._path), now=now, views=())
        with closing(journal):
            names = journal.tasks()
            if task is not None:
                if task not in names:
                    raise unknown(task, f"the journal {self._path} has no record of it")
                return Look(source=str(self._path), now=now, views=(_local_view(journal, task, now),))
            rows = [tried(name, lambda name: _local_view(journal, name, now)) for name in names]
            return look_of(str(self._path), now, rows)


def whereabouts(holder: Holder | None) -> Whereabouts:
    """What this machine can see of *holder*'s capsule."""
    try:
        if holder is None:
            return Whereabouts.UNKNOWN
        if holder.boot_id != identity.boot_id():
            return Whereabouts.ELSEWHERE
        if holder.pid_ns != identity.pid_namespace():
            return Whereabouts.UNKNOWN
        alive = identity.start_ticks(holder.init_pid) == holder.init_start
    except OSError:
        return Whereabouts.UNKNOWN
    return Whereabouts.HERE if alive else Whereabouts.GONE


def _local_view(journal: Journal, task: str, now: datetime) -> TaskView:
    read = Read(state=TaskState(task=task)).and_then(journal.records(task))
    beat = _kept_beat(journal.get_meta(task, BEAT_META))
    known = beat is not None and beat.epoch == read.state.epoch
    signs = read.signs(beat, known=known, whereabouts=whereabouts(read.state.holder))
    return view_of(seen_of(read.state), signs, now)


def _kept_beat(text: str | None) -> Beat | None:
    try:
        return None if text is None else from_plain(Beat, json.loads(text))
    except (ValueError, RecursionError):
        return None


def tried(task: str, work: Callable[[str], R | None]) -> Row[R]:
    """One bad journal hides no other task; a store that fails is another matter."""
    try:
        return Row(task=task, found=work(task))
    except (CorruptData, NewerSchema, ObjectMissing) as problem:
        return Row(task=task, found=None, error=str(problem))


def look_of(source: str, now: datetime, rows: list[Row[TaskView]], notes: Sequence[str] = ()) -> Look:
    """*rows* as one look."""
    return Look(
        source=source,
        now=now,
        views=tuple(row.found for row in rows if row.found is not None),
        errors=tuple((row.task, row.error) for row in rows if row.error),
        notes=tuple(notes),
    )


def unknown(task: str, where: str) -> UnknownTask:
    """The refusal for a TASK that is not there."""
    return UnknownTask(
        f"no task {task!r}: {where}", hint="'fsnap status' without a TASK lists those there are."
    )
