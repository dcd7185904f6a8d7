"""``gc``: deletes what is stored of tasks that have ended, and keeps their journals.

The journal says first that the snapshots are gone, by a record that is created as every
other is: whoever starts the task at the same moment either comes before it, and then
nothing is deleted, or reads it and begins anew.  What is deleted was listed before that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from fsnap.charts import task_chart
from fsnap.clock import parse_rfc3339, rfc3339
from fsnap.core.drafting import draft
from fsnap.core.events import CollectAsked
from fsnap.core.fold import fold, fold_all
from fsnap.core.model import Facts, State, TaskState
from fsnap.core.planner import decide
from fsnap.core.records import Record, record_to_plain, seal
from fsnap.core.retention import collectable
from fsnap.errors import Fenced, NotSealed, ObjectExists
from fsnap.ids import task_key
from fsnap.journal import heads
from fsnap.journal.heartbeat import Heartbeat
from fsnap.journal.mirror import journal_object, read_records
from fsnap.journal.rows import encode_batch
from fsnap.keys import KeyRing
from fsnap.snapshots import layout
from fsnap.stores.base import ObjectInfo, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbage:
    """What nothing needs of one task."""

    state: TaskState
    last_sign: datetime
    """The task's end; of one that has not ended, its last record or heartbeat."""
    objects: tuple[ObjectInfo, ...]
    keys: KeyRing | None = None
    """Of a sealed task."""

    @property
    def bytes(self) -> int:
        """Of all objects."""
        return sum(row.size_bytes for row in self.objects)


def find(
    store: Store,
    task: str,
    *,
    older_than: timedelta,
    now: datetime,
    force: bool,
    keys: KeyRing | None = None,
) -> Garbage | None:
    """What may be deleted of *task*; ``None`` when it is needed, too young, or gone already.

    *force* names tasks that have not ended as well.  A sealed task takes *keys*; one that is not needs
    none.  :class:`~fsnap.errors.CorruptData`, :class:`~fsnap.errors.NewerSchema`,
    :class:`~fsnap.errors.SealError`, :class:`~fsnap.errors.StoreError`.
    """
    objects = tuple(_objects(store, task))  # before the records: what a new life puts later is not among them
    try:
        records = read_records(store, task, keys)
    except NotSealed:
        keys = None
        records = read_records(store, task)
    state = fold_all(TaskState(task=task), records)
    if not objects or (records and not (state.collected or collectable(state, force=force))):
        return None
    last_sign = _last_sign(store, state, records, objects, keys)
    if now - last_sign < older_than:
        return None
    return Garbage(state=state, last_sign=last_sign, objects=objects, keys=keys)


def delete(
    store: Store,
    garbage: Garbage,
    *,
    now: datetime,
    nonce: str,
    node: str,
    reason: str,
    step: Callable[[], None],
) -> None:
    """Record that the task's snapshots are deleted, then delete them; *step* is called after each delete.

    :class:`~fsnap.errors.Fenced` when the task has moved on: nothing was deleted.
    """
    state = garbage.state
    if state.seq and not state.collected:
        state = _record(store, garbage, now=now, nonce=nonce, node=node, reason=reason)
        heads.publish(store, state, sealed=garbage.keys is not None)
    for row in garbage.objects:
        store.delete(row.key)
        step()


def _record(
    store: Store, garbage: Garbage, *, now: datetime, nonce: str, node: str, reason: str
) -> TaskState:
    """Create the next record; the state after it."""
    state = garbage.state
    chart, event, facts = task_chart(), CollectAsked(reason=reason), Facts()
    decision = decide(chart, state, event, facts)
    record = seal(draft(chart, state, event, facts, decision, node=node, at=rfc3339(now), mono_ms=0))
    key = journal_object(state.task, record.seq)
    body = encode_batch(state.task, [record_to_plain(record)], nonce, garbage.keys).body
    try:
        store.create(key, body)
    except ObjectExists:
        if store.get(key) != body:  # else it is ours: the answer to an earlier try was lost
            raise Fenced(
                f"task {state.task} has moved on", hint="Nothing of it was deleted; look at it again."
            ) from None
    return fold(state, record)


def _objects(store: Store, task: str) -> Iterator[ObjectInfo]:
    """Everything of *task* but its journal and heads; manifests last, since they name the rest."""
    prefix = f"tasks/{task_key(task)}"
    yield from store.list(layout.packs_prefix(prefix))
    yield from store.list(layout.snapshots_prefix(prefix))
    yield from store.list(Heartbeat.key(task))


def _last_sign(
    store: Store,
    state: TaskState,
    records: list[Record],
    objects: tuple[ObjectInfo, ...],
    keys: KeyRing | None,
) -> datetime:
    if not records:  # a journal that somebody deleted: only the store's own times tell
        newest = max(row.modified_s for row in objects)
        return datetime.fromtimestamp(newest).astimezone()
    last = parse_rfc3339(records[-1].at)
    ended = state.state in (State.COMPLETED, State.FAILED)
    beat = None if ended else Heartbeat.read(store, state.task, keys)
    return last if beat is None else max(last, parse_rfc3339(beat.at))
