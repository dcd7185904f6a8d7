"""Sealed journal objects and heartbeats.

What is sealed is bound to the object's key in the store, which has the task and the number
of the first record in it: an object of another task, or an older one, opens in no other
place.  Records chain by their digests within, so that none can be left out between two.
"""

from __future__ import annotations

from typing import Any

from fsnap.core.records import canonical
from fsnap.errors import SealBroken
from fsnap.ids import task_key
from fsnap.keys import KeyRing
from fsnap.sealing import not_sealed, parsed, unwrap, wrap

_JOURNAL, _HEARTBEAT = "fsnap-journal", "fsnap-heartbeat"


def journal_prefix(task: str) -> str:
    """Where *task*'s journal objects are, with a trailing ``/``."""
    return f"tasks/{task_key(task)}/journal/"


def journal_object(task: str, first_seq: int) -> str:
    """The key of the object that begins with record *first_seq*."""
    return f"{journal_prefix(task)}{first_seq:010d}.json"


def heartbeat_object(task: str) -> str:
    """The key of *task*'s heartbeat."""
    return f"tasks/{task_key(task)}/heartbeat"


def seal_batch(document: dict[str, Any], keys: KeyRing, task: str, first_seq: int) -> dict[str, Any]:
    """The journal object *document* with its records sealed."""
    envelope = wrap(
        keys.first,
        canonical(document["records"]),
        name=journal_object(task, first_seq),
        purpose=_JOURNAL,
        more=document["nonce"].encode(),
    )
    return {"schema": document["schema"], "nonce": document["nonce"], "seal": envelope}


def open_batch(
    document: dict[str, Any], body: bytes, keys: KeyRing | None, task: str, first_seq: int, where: str
) -> dict[str, Any]:
    """The journal object *document*, read from *where* as *body*, with its records.

    One that is plain comes back as it is where there are no *keys*.  :class:`SealBroken`,
    or a :class:`~fsnap.errors.SealError` where it and *keys* do not go together.
    """
    if "seal" not in document:
        if keys is not None:
            raise not_sealed(where)
        return document
    if not isinstance(document.get("nonce"), str) or document.keys() != {"schema", "nonce", "seal"}:
        raise SealBroken(f"{where} was changed: it is no sealed journal object")
    plain = unwrap(
        keys,
        document["seal"],
        name=journal_object(task, first_seq),
        purpose=_JOURNAL,
        where=where,
        more=document["nonce"].encode("utf-8", "replace"),
    )
    if canonical(document) != body:
        raise SealBroken(f"{where} was changed: it is spelt otherwise than fsnap does")
    return {"schema": document["schema"], "nonce": document["nonce"], "records": parsed(plain, where)}


def seal_beat(document: dict[str, Any], keys: KeyRing, task: str) -> dict[str, Any]:
    """The heartbeat *document*, sealed."""
    envelope = wrap(keys.first, canonical(document), name=heartbeat_object(task), purpose=_HEARTBEAT)
    return {"schema": document["schema"], "seal": envelope}


def open_beat(document: dict[str, Any], keys: KeyRing | None, task: str) -> Any:
    """What was sealed in the heartbeat *document*; raises as :func:`open_batch` does."""
    where = heartbeat_object(task)
    if "seal" not in document:
        if keys is not None:
            raise not_sealed(where)
        return document
    plain = unwrap(keys, document["seal"], name=heartbeat_object(task), purpose=_HEARTBEAT, where=where)
    return parsed(plain, where)
