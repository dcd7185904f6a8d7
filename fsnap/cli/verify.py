"""``fsnap verify``: read every byte of a task's snapshots again, and say whether it is what was written."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass

from fsnap.cli.flags import keys_of
from fsnap.cli.render import plain, size
from fsnap.cli.sources import unknown
from fsnap.cli.storesource import open_for_work
from fsnap.core.fold import fold_all
from fsnap.core.model import SnapshotRef, TaskState
from fsnap.errors import CorruptData, NewerSchema, SealError, UsageError
from fsnap.ids import check_task_id, task_key
from fsnap.journal.mirror import read_records
from fsnap.keys import KeyRing
from fsnap.snapshots.fetch import Snapshot
from fsnap.stores.base import Store

EXIT_WHOLE = 0
EXIT_DAMAGED = 1
EXIT_NOTHING = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """One snapshot that was read, newest first."""

    id: str
    kind: str
    bytes: int
    """Content, as a restore would write it."""
    read_bytes: int
    """What was read of the store."""
    packs: int
    chunks: int
    quarantined: bool
    ok: bool
    problems: tuple[str, ...]


def verify(arguments: argparse.Namespace) -> int:
    """Print it; 0 every byte is right, 1 damage, or no such task, 2 there is no snapshot to verify.

    :class:`~fsnap.errors.UsageError`, :class:`~fsnap.errors.SealError`, :class:`~fsnap.errors.StoreError`.
    """
    task = check_task_id(arguments.task, "TASK")
    store, keys = open_for_work(arguments.store), keys_of(arguments)
    state = fold_all(TaskState(task=task), read_records(store, task, keys))
    if not state.seq:
        raise unknown(task, f"{store.url} has no journal of it")
    refs = _wanted(state, arguments.snapshot)
    checked = []
    for ref in refs:
        result = _check(store, state, ref, keys)
        checked.append(result)
        if not arguments.json:
            sys.stdout.write(_line(result))
            sys.stdout.flush()
    if arguments.json:
        sys.stdout.write(_json(store, task, checked))
    elif not checked:
        sys.stdout.write(f"task {plain(task)} has no committed snapshot\n")
    if not checked:
        return EXIT_NOTHING
    return EXIT_WHOLE if all(result.ok for result in checked) else EXIT_DAMAGED


def _wanted(state: TaskState, name: str | None) -> list[SnapshotRef]:
    refs = [ref for ref in reversed(state.snapshots) if name in (None, ref.id)]
    if name is not None and not refs:
        known = ", ".join(ref.id for ref in reversed(state.snapshots)) or "none"
        raise UsageError(f"task {state.task} has no snapshot {name}", hint=f"It has: {known}.")
    return refs


def _check(store: Store, state: TaskState, ref: SnapshotRef, keys: KeyRing | None) -> Checked:
    packs = chunks = read_bytes = 0
    try:
        snapshot = Snapshot.open(
            store=store,
            prefix=f"tasks/{task_key(state.task)}",
            snapshot_id=ref.id,
            manifest_digest=ref.manifest,
            keys=keys,
        )
        report = snapshot.verify()
        packs, chunks, read_bytes = report.packs, report.chunks, report.bytes
        problems = report.problems
    except (CorruptData, NewerSchema, SealError) as problem:
        problems = (" ".join(str(problem).split()),)
    return Checked(
        id=ref.id,
        kind=ref.kind,
        bytes=ref.bytes,
        read_bytes=read_bytes,
        packs=packs,
        chunks=chunks,
        quarantined=ref.id in state.quarantined,
        ok=not problems,
        problems=problems,
    )


def _line(result: Checked) -> str:
    name = f"{result.id}  {result.kind}, {size(result.bytes)}"
    if result.ok:
        read = f"{size(result.read_bytes)} in {result.packs} packs read, {result.chunks} chunks right"
        return f"{name}: whole ({read})\n"
    return "".join(f"{name}: DAMAGED: {plain(problem)}\n" for problem in result.problems)


def _json(store: Store, task: str, checked: list[Checked]) -> str:
    document = {
        "schema": 1,
        "store": store.url,
        "task": task,
        "ok": all(result.ok for result in checked) if checked else None,
        "snapshots": [{name: getattr(result, name) for name in Checked.__slots__} for result in checked],
    }
    return json.dumps(document, indent=2) + "\n"
