"""The holder's sign of life: one tiny object per task, replaced in place.

It is no part of the journal, so that a claim does not read days of them.  A claimant
watches whether it changes, by its own clock; ``at`` is for people.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from fsnap.core.records import canonical
from fsnap.errors import CorruptData, ObjectMissing, SealError
from fsnap.journal.sealing import heartbeat_object, open_beat, seal_beat
from fsnap.keys import KeyRing
from fsnap.stores.base import Store

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """One heartbeat.  ``count`` grows by one with each, within one ``epoch`` on one ``node``."""

    node: str
    epoch: int
    count: int
    at: str
    sample: dict[str, int] = field(default_factory=dict)
    """Progress and rates, each name with its unit."""


class Heartbeat:
    """The object ``tasks/<task>/heartbeat``."""

    @staticmethod
    def key(task: str) -> str:
        """The key of *task*'s heartbeat."""
        return heartbeat_object(task)

    @staticmethod
    def put(store: Store, task: str, beat: Beat, keys: KeyRing | None = None) -> None:
        """Replace the heartbeat of *task*, sealed where there are *keys*.

        :class:`~fsnap.errors.StoreError` when the store fails.
        """
        document = {
            "schema": SCHEMA,
            "node": beat.node,
            "epoch": beat.epoch,
            "count": beat.count,
            "at": beat.at,
            "sample": beat.sample,
        }
        if keys is not None:
            document = seal_beat(document, keys, task)
        store.put(Heartbeat.key(task), canonical(document))

    @staticmethod
    def read(store: Store, task: str, keys: KeyRing | None = None) -> Beat | None:
        """The last heartbeat of *task*; ``None`` when there is none, or none that can be understood.

        One that does not open with *keys*, or that is plain where there are some, cannot be.
        Fields that a newer writer added are passed over.
        """
        try:
            document = json.loads(store.get(Heartbeat.key(task)))
            if isinstance(document, dict):
                document = open_beat(document, keys, task)
        except (ObjectMissing, ValueError, RecursionError, CorruptData, SealError):
            return None
        if not isinstance(document, dict):
            return None
        texts = [document.get(name) for name in ("node", "at")]
        numbers = [document.get(name) for name in ("epoch", "count")]
        if not all(isinstance(text, str) for text in texts) or not all(_is_number(n) for n in numbers):
            return None
        return Beat(
            node=document["node"],
            epoch=document["epoch"],
            count=document["count"],
            at=document["at"],
            sample=_sample(document.get("sample")),
        )


def _is_number(value: Any) -> bool:
    return type(value) is int


def _sample(value: Any) -> dict[str, int]:
    if not isinstance(value, dict):
        return {}
    return {name: number for name, number in value.items() if _is_number(number)}
