"""What a task's journal claims, held against what the store has."""

from __future__ import annotations

import json
import threading
from types import TracebackType
from typing import Self

from blake3 import blake3

from fsnap.charts import task_chart
from fsnap.core.events import ClaimAsked, SnapshotSaved
from fsnap.core.fold import fold, fold_all
from fsnap.core.model import SnapshotRef, TaskState
from fsnap.core.planner import decide
from fsnap.core.records import Record
from fsnap.ids import task_key
from fsnap.journal.mirror import read_records
from fsnap.snapshots.fetch import Snapshot
from fsnap.stores.base import Store
from fsnap.stores.urls import open_store
from tests.rig_e2e.cloud import Cloud


def audit(cloud: Cloud) -> list[Record]:
    """Every snapshot that the journal names is in the store to the last chunk; the records.

    And each record's decision is what its facts lead to, the epochs count up by claims alone, and no epoch
    released more than one tree.
    """
    store, task = open_store(cloud.store, create=False), cloud.task
    records = read_records(store, task)
    for ref in fold_all(TaskState(task=task), records).snapshots:
        assert_stored(store, task, ref)
        prefix = f"tasks/{task_key(task)}"
        snapshot = Snapshot.open(store=store, prefix=prefix, snapshot_id=ref.id, manifest_digest=ref.manifest)
        assert snapshot.verify().ok
    assert_replays(task, records)
    assert_epochs(records)
    return records


def assert_stored(store: Store, task: str, ref: SnapshotRef) -> None:
    """The manifest with the digest on record, the index with the manifest's, and every pack in its size."""
    prefix = f"tasks/{task_key(task)}"
    manifest = store.get(f"{prefix}/snapshots/{ref.id}/manifest.json")
    assert blake3(manifest).hexdigest() == ref.manifest, ref.id
    document = json.loads(manifest)
    assert (document["bytes"], document["new_bytes"], document["stored_bytes"]) == (
        ref.bytes,
        ref.new_bytes,
        ref.stored_bytes,
    )
    index = store.get(f"{prefix}/snapshots/{ref.id}/index")
    assert len(index) == document["index"]["bytes"]
    assert blake3(index).hexdigest() == document["index"]["digest"], ref.id
    sizes = {row.key: row.size_bytes for row in store.list(f"{prefix}/packs/")}
    for pack in document["packs"]:
        assert sizes.get(f"{prefix}/packs/{pack['id']}") == pack["bytes"], f"{ref.id}: {pack['id']}"


def assert_replays(task: str, records: list[Record]) -> None:
    """Deciding again gives what was decided."""
    chart, state = task_chart(), TaskState(task=task)
    for record in records:
        again = decide(chart, state, record.event, record.facts)
        decided = (record.trigger, record.dest, record.effects, record.note)
        assert (again.trigger, again.next_state, again.effects, again.note) == decided
        state = fold(state, record)


def assert_epochs(records: list[Record]) -> None:
    """A claim is the next epoch, everything else the present one; one release per epoch."""
    epoch, released = 0, 0
    for record in records:
        if isinstance(record.event, ClaimAsked):
            epoch, released = epoch + 1, 0
        assert record.epoch == epoch
        released += record.trigger == "restored"
        assert released <= 1


def journal(cloud: Cloud) -> list[Record]:
    """The task's records in the store, just now."""
    return read_records(open_store(cloud.store, create=False), cloud.task)


def triggers(records: list[Record]) -> list[str]:
    """The records' triggers, in order."""
    return [record.trigger for record in records]


class Watcher:
    """Holds the journal against the store all the time; a claim that comes before its bytes is kept."""

    def __init__(self, cloud: Cloud) -> None:
        self._store = open_store(cloud.store, create=False)
        self._task = cloud.task
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._checked: set[str] = set()
        self._problem: AssertionError | None = None

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            for record in read_records(self._store, self._task):
                event = record.event
                if isinstance(event, SnapshotSaved) and event.ref.id not in self._checked:
                    try:
                        assert_stored(self._store, self._task, event.ref)
                    except AssertionError as problem:
                        self._problem = problem
                        return
                    self._checked.add(event.ref.id)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._problem is not None and kind is None:
            raise self._problem
        assert self._checked or kind is not None
