"""``fsnap gc``: delete what nothing needs."""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import dataclass
from datetime import timedelta
from secrets import token_hex

from fsnap.agent import collect
from fsnap.capsule.identity import host_name
from fsnap.cli.flags import keys_of
from fsnap.cli.render import plain, size
from fsnap.cli.storesource import open_for_work, task_names
from fsnap.clock import SystemClock
from fsnap.core.status import duration
from fsnap.errors import FsnapError, StoreError, UsageError
from fsnap.ids import check_task_id
from fsnap.keys import KeyRing
from fsnap.stores.base import Store

_AGE = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhdw]?)")
_UNIT_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What became of one task."""

    task: str
    state: str
    age_s: float | None
    objects: int
    bytes: int
    deleted: bool
    error: str | None = None


def gc(arguments: argparse.Namespace) -> int:
    """Print what was deleted, or would be; 0, or 1 where a task could not be read or deleted.

    :class:`~fsnap.errors.UsageError`, :class:`~fsnap.errors.StoreError`.
    """
    older_than = _age(arguments.older_than)
    store, keys = open_for_work(arguments.store), keys_of(arguments)
    rows = [
        row
        for task in _tasks(store, arguments.task)
        if (row := _one(store, task, older_than, arguments, keys)) is not None
    ]
    if arguments.json:
        sys.stdout.write(_json(store, rows, older_than, arguments.dry_run))
    else:
        _print(rows, arguments.dry_run)
    return 1 if any(row.error for row in rows) else 0


def _tasks(store: Store, named: list[str]) -> list[str]:
    return [check_task_id(task, "TASK") for task in named] if named else list(task_names(store))


def _one(
    store: Store, task: str, older_than: timedelta, arguments: argparse.Namespace, keys: KeyRing | None
) -> Row | None:
    """``None`` for a task of which nothing is to be deleted."""
    now = SystemClock().wall()
    found = None
    try:
        found = collect.find(store, task, older_than=older_than, now=now, force=arguments.force, keys=keys)
        if found is None:
            return None
        if not arguments.dry_run:
            collect.delete(
                store, found, now=now, nonce=token_hex(16), node=host_name(), reason="gc", step=lambda: None
            )
    except FsnapError as problem:
        if isinstance(problem, StoreError) and problem.retryable:
            raise  # the store is away, and will be for the next task
        error: str | None = " ".join(str(problem).split())
    else:
        error = None
    return Row(
        task=task,
        state=found.state.state.value if found else "unknown",
        age_s=(now - found.last_sign).total_seconds() if found else None,
        objects=len(found.objects) if found else 0,
        bytes=found.bytes if found else 0,
        deleted=found is not None and error is None and not arguments.dry_run,
        error=error,
    )


def _json(store: Store, rows: list[Row], older_than: timedelta, dry_run: bool) -> str:
    document = {
        "schema": 1,
        "store": store.url,
        "dry_run": dry_run,
        "older_than_s": older_than.total_seconds(),
        "tasks": [{name: getattr(row, name) for name in Row.__slots__} for row in rows],
        "objects": sum(row.objects for row in rows if not row.error),
        "bytes": sum(row.bytes for row in rows if not row.error),
    }
    return json.dumps(document, indent=2) + "\n"


def _print(rows: list[Row], dry_run: bool) -> None:
    did = "would delete" if dry_run else "deleted"
    for row in rows:
        if row.error:
            sys.stderr.write(f"fsnap: {plain(row.task)}: {plain(row.error)}\n")
        else:
            age = duration(row.age_s or 0.0)
            what = f"{row.objects} objects, {size(row.bytes)}"
            sys.stdout.write(f"{did} {plain(row.task)}: {what} ({row.state}, {age} ago)\n")
    done = [row for row in rows if not row.error]
    count = f"{len(done)} {'task' if len(done) == 1 else 'tasks'}"
    total = size(sum(row.bytes for row in done))
    sys.stdout.write(f"{did} {total} of {count}\n" if done else "nothing to delete\n")


def _age(text: str) -> timedelta:
    match = _AGE.fullmatch(text)
    if match is None:
        raise UsageError(
            f"--older-than {text}: it is a number with s, m, h, d or w, as in 7d",
            hint="See 'fsnap gc --help'.",
        )
    try:
        return timedelta(seconds=float(match[1]) * _UNIT_S[match[2]])
    except OverflowError:
        raise UsageError(f"--older-than {text}: no task is so old", hint="See 'fsnap gc --help'.") from None
