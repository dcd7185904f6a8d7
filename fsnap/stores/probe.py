"""Is this store fit?  Tried at each start, before anything relies on it.

Some servers take ``If-None-Match: *`` and ignore it; two nodes would then both win the
same claim.  No header or version tells; only trying does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from secrets import token_hex

from fsnap.errors import ObjectExists, StoreError, StoreUnfit
from fsnap.stores.base import ObjectInfo, Store

PROBE_PREFIX = "probe/"
_FORGOTTEN_S = 24 * 3600.0
_READS = 5
"""An unfit store is always wrong; a part comes without a checksum, and may change on its way now and then."""


def probe_conditional_create(store: Store, *, nonce: Callable[[], str] = lambda: token_hex(16)) -> None:
    """Write, refuse to overwrite, read back, list and delete one small object of a unique key.

    :class:`~fsnap.errors.StoreUnfit` when a second create wins, or when what was
    written is not what is read or listed; any other
    :class:`~fsnap.errors.StoreError` when the store cannot be reached or forbids one of
    these.  Nothing is left behind; what a probe that was killed left, or a network that
    delivers a create after its delete, is removed by the first probe a day later.
    """
    unique = nonce()
    key = PROBE_PREFIX + unique
    first, second = f"first {unique}".encode(), f"second {unique}".encode()
    store.create(key, first)
    try:
        _expect_refusal(store, key, second)
        _expect_bytes(store, key, first)
        _remove_forgotten(store, _expect_listed(store, key))
    except BaseException:
        with suppress(StoreError):  # the first failure is the one to tell
            store.delete(key)
        raise
    store.delete(key)


def race_creates(store: Store, *, rounds: int, creators: int) -> None:
    """Let *creators* threads create the same key at once, *rounds* times; :class:`~fsnap.errors.StoreUnfit`
    unless exactly one wins each time.

    For ``doctor`` and tests: it finds a store that checks and then writes, which the
    plain probe cannot.  Any other failure of a creator is raised.
    """
    for _ in range(rounds):
        key = PROBE_PREFIX + token_hex(16)
        try:
            winners = _race(store, key, creators)
            if winners != 1:
                raise StoreUnfit(
                    f"{store.url}: {winners} of {creators} concurrent creates of one key succeeded"
                )
        finally:
            store.delete(key)


def _race(store: Store, key: str, creators: int) -> int:
    outcomes: list[StoreError | None] = []
    barrier = threading.Barrier(creators)

    def create(creator: int) -> None:
        barrier.wait()
        try:
            store.create(key, f"{creator} {key}".encode())
        except StoreError as error:
            outcomes.append(error)
        else:
            outcomes.append(None)

    threads = [threading.Thread(target=create, args=(creator,)) for creator in range(creators)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for outcome in outcomes:
        if outcome is not None and not isinstance(outcome, ObjectExists):
            raise outcome
    return outcomes.count(None)


def _expect_refusal(store: Store, key: str, data: bytes) -> None:
    try:
        store.create(key, data)
    except ObjectExists:
        return
    raise StoreUnfit(
        f"{store.url}: the store ignores the create-only condition: a second create of one key succeeded,"
        " so two nodes could both claim a task"
    )


def _expect_bytes(store: Store, key: str, data: bytes) -> None:
    hint = "Use another store, or look for a proxy that changes what passes."
    if not any(store.get(key) == data for _ in range(_READS)):
        raise StoreUnfit(f"{store.url}: the store does not give back what was written", hint=hint)
    if not any(store.get(key, start=1, length=4) == data[1:5] for _ in range(_READS)):
        raise StoreUnfit(f"{store.url}: the store gives wrong bytes for a part of an object", hint=hint)


def _expect_listed(store: Store, key: str) -> list[ObjectInfo]:
    rows = list(store.list(PROBE_PREFIX))
    if all(row.key != key for row in rows):
        raise StoreUnfit(f"{store.url}: the store does not list what was just written")
    own = next(row for row in rows if row.key == key)
    return [row for row in rows if own.modified_s - row.modified_s > _FORGOTTEN_S]


def _remove_forgotten(store: Store, rows: list[ObjectInfo]) -> None:
    for row in rows:
        store.delete(row.key)
