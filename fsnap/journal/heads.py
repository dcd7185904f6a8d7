"""Heads: the state of every task, written in key names, so that a listing is enough to show it.

A head is never an authority: it may be missing, late, or left over; the journal
decides.  Its key is ``heads/<task>/<seq>/<text>``, where the text is compact JSON in
base64url, cut into path parts.  The last part ends in ``=``, so that no head's key is
the directory of another's.  One listing request gives a thousand tasks.
"""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import Any

from fsnap.clock import parse_rfc3339, rfc3339
from fsnap.core.model import Pending, SnapshotRef, TaskState
from fsnap.core.records import canonical
from fsnap.ids import task_from_key, task_key
from fsnap.stores.base import Store

PREFIX = "heads/"
VERSION = 1
MAX_KEY_BYTES = 760
"""Less than S3's 1024 by what the store's own prefix may take; stores refuse more than 768."""

PART_CHARS = 200
NODE_CHARS = 64
TEXT_CHARS = 32
COMMAND_CHARS = 160

_KEY = re.compile(r"heads/([^/]+)/([0-9]{10})/([A-Za-z0-9_/-]+)=")


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSnapshot:
    """The newest snapshot that may be restored."""

    id: str
    bytes: int
    new_bytes: int
    stored_bytes: int
    committed_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What a listing shows of a task."""

    task: str
    seq: int
    epoch: int
    state: str
    since: str
    node: str
    command: str
    """As a shell would take it, cut where it is long; empty where the journal is sealed, as is ``node``."""
    held: bool
    lease_ms: int
    provider: str
    snapshot: HeadSnapshot | None
    quarantined: int
    deadline: str | None
    """Of the notice that was not taken back."""
    exit_code: int | None
    outcome: str | None
    reclaims_survived: int
    work_saved_ms: int


_TEXTS = ("state", "since", "node", "command", "provider")
_NUMBERS = ("epoch", "lease_ms", "quarantined", "reclaims_survived", "work_saved_ms")
_NAMES = (*_TEXTS, *_NUMBERS, "held", "snapshot", "deadline", "exit_code", "outcome")
"""The order of the values in a key, after the version; new ones come at the end."""


def head_prefix(task: str) -> str:
    """Where *task*'s heads are, with a trailing ``/``."""
    return f"{PREFIX}{task_key(task)}/"


def head_of(state: TaskState, *, sealed: bool = False) -> Head:
    """What a listing may show of *state*, whose journal is perhaps *sealed*."""
    ref = state.usable[0] if state.usable else None
    return Head(
        task=state.task,
        seq=state.seq,
        epoch=state.epoch,
        state=state.state.value,
        since=state.since[:TEXT_CHARS],
        node=state.holder.node[:NODE_CHARS] if state.holder and not sealed else "",
        command="" if sealed else _cut(shlex.join(state.command), COMMAND_CHARS),
        held=state.held,
        lease_ms=state.config.lease_ms,
        provider=state.config.provider.split(":", 1)[0][:TEXT_CHARS],
        snapshot=_shown(ref) if ref else None,
        quarantined=len(state.quarantined),
        deadline=_deadline(state.pending),
        exit_code=state.exit_code,
        outcome=state.outcome and state.outcome[:TEXT_CHARS],
        reclaims_survived=state.reclaims_survived,
        work_saved_ms=state.work_saved_ms,
    )


def head_key(head: Head) -> str:
    """The key that carries *head*; its command, then its node, are cut until the key is short enough."""
    while len(key := _key(head)) > MAX_KEY_BYTES and (head.command or head.node):
        if head.command:
            head = replace(head, command=_cut(head.command, len(head.command) * 3 // 4))
        else:
            head = replace(head, node=head.node[: len(head.node) // 2])
    return key


def publish(store: Store, state: TaskState, *, sealed: bool = False) -> None:
    """Write the head of *state* and remove this task's older ones, or this one if it is the older.

    Where the journal is *sealed* it names neither command nor node.
    :class:`~fsnap.errors.StoreError` when the store fails; then old ones may stay, and
    readers take the newest.
    """
    key = head_key(head_of(state, sealed=sealed))
    store.put(key, b"")
    listed = [row.key for row in store.list(head_prefix(state.task))]
    newest = max((_seq(other) for other in listed), default=state.seq)
    for other in listed:
        if _seq(other) < newest or (newest == state.seq and other != key):
            store.delete(other)


def newest_head(store: Store, task: str) -> Head | None:
    """The newest head of *task*, if there is one."""
    found = (head_from_key(row.key) for row in store.list(head_prefix(task)))
    return max((head for head in found if head is not None), key=lambda head: head.seq, default=None)


def read_all(store: Store) -> Iterator[Head]:
    """The newest head of each task, by key; what is no head is passed over."""
    best: Head | None = None
    for row in store.list(PREFIX):
        head = head_from_key(row.key)
        if head is None:
            continue
        if best is not None and best.task != head.task:
            yield best
            best = None
        if best is None or head.seq >= best.seq:
            best = head
    if best is not None:
        yield best


def head_from_key(key: str) -> Head | None:
    """The head in *key*, or ``None`` when it carries none that this version understands."""
    match = _KEY.fullmatch(key)
    if match is None:
        return None
    text = match[3].replace("/", "")
    try:
        task = task_from_key(match[1])
        values = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, list) or values[:1] != [VERSION] or len(values) <= len(_NAMES):
        return None
    found = dict(zip(_NAMES, values[1:], strict=False))
    snapshot = _snapshot(found["snapshot"])
    if not _is_well_typed(found) or (snapshot is None and found["snapshot"] is not None):
        return None
    return Head(task=task, seq=int(match[2]), **{**found, "snapshot": snapshot})


def _key(head: Head) -> str:
    values: list[Any] = [VERSION]
    for name in _NAMES:
        value = getattr(head, name)
        if isinstance(value, HeadSnapshot):
            value = [getattr(value, f.name) for f in fields(HeadSnapshot)]
        values.append(value)
    text = base64.urlsafe_b64encode(canonical(values)).decode().rstrip("=")
    parts = [text[start : start + PART_CHARS] for start in range(0, len(text), PART_CHARS)]
    return f"{head_prefix(head.task)}{head.seq:010d}/{'/'.join(parts)}="


def _shown(ref: SnapshotRef) -> HeadSnapshot:
    return HeadSnapshot(
        id=ref.id[:TEXT_CHARS],
        bytes=ref.bytes,
        new_bytes=ref.new_bytes,
        stored_bytes=ref.stored_bytes,
        committed_at=ref.committed_at[:TEXT_CHARS],
    )


def _seq(key: str) -> int:
    """The number in a head's key; 0 for a name that carries none."""
    number = key.split("/")[2]
    return int(number) if re.fullmatch(r"[0-9]{10}", number) else 0


def _cut(text: str, limit: int) -> str:
    """At most *limit* characters of *text*, with a sign where some are missing; nothing where that is all."""
    return text if len(text) <= limit else text[: limit - 1] + "…" if limit > 1 else ""


def _deadline(pending: Pending | None) -> str | None:
    if pending is None:
        return None
    if pending.deadline_at:
        return pending.deadline_at[:TEXT_CHARS]
    try:
        return rfc3339(parse_rfc3339(pending.seen_at) + timedelta(milliseconds=pending.window_ms))
    except (ValueError, OverflowError):
        return None


def _is_well_typed(found: dict[str, Any]) -> bool:
    return (
        all(type(found[name]) is str for name in _TEXTS)
        and all(type(found[name]) is int for name in _NUMBERS)
        and type(found["held"]) is bool
        and (found["deadline"] is None or type(found["deadline"]) is str)
        and (found["outcome"] is None or type(found["outcome"]) is str)
        and (found["exit_code"] is None or type(found["exit_code"]) is int)
    )


def _snapshot(values: Any) -> HeadSnapshot | None:
    kinds = (str, int, int, int, str)
    if not isinstance(values, list) or tuple(type(value) for value in values) != kinds:
        return None
    return HeadSnapshot(**dict(zip((f.name for f in fields(HeadSnapshot)), values, strict=True)))
