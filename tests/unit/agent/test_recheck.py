"""What a pack that is read again is taken for, by what the store says of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fsnap.agent.job import Job
from fsnap.agent.recheck import Rechecker
from fsnap.errors import CorruptData, FsnapError, ObjectMissing, StoreUnavailable
from fsnap.snapshots import codec, layout
from fsnap.snapshots.known import KnownChunks
from fsnap.stores.base import CorruptTransfer
from fsnap.stores.memory import MemoryStore

PREFIX = "tasks/T"
BODY = b"what a pack holds"
PACK = codec.hexdigest(BODY)


class Failing(MemoryStore):
    """Answers every read with *problem*."""

    def __init__(self, problem: FsnapError) -> None:
        super().__init__()
        self._problem = problem

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        raise self._problem


@pytest.fixture
def evicted_by() -> Callable[[MemoryStore], bool]:
    def check(store: MemoryStore) -> bool:
        known = KnownChunks()
        Rechecker(store=store, prefix=PREFIX, known=known).run(Job("recheck", lambda job: None), [PACK])
        return known.is_evicted(PACK)

    return check


@pytest.mark.parametrize(("stored", "evicted"), [(BODY, False), (BODY[:-1], True), (b"", True), (None, True)])
def test_a_pack_is_put_again_unless_it_is_what_it_was(
    stored: bytes | None, evicted: bool, evicted_by: Callable[[MemoryStore], bool]
) -> None:
    store = MemoryStore()
    if stored is not None:
        store.put(layout.pack_key(PREFIX, PACK), stored)
    assert evicted_by(store) is evicted


@pytest.mark.parametrize(
    ("problem", "evicted"),
    [
        (CorruptData("it became shorter while it was read"), True),
        (ObjectMissing("no such object"), True),
        (StoreUnavailable("the store does not answer"), False),
        (CorruptTransfer("the answer differs from its checksum"), False),
    ],
)
def test_a_store_that_fails_says_nothing_of_the_pack(
    problem: FsnapError, evicted: bool, evicted_by: Callable[[MemoryStore], bool]
) -> None:
    assert evicted_by(Failing(problem)) is evicted
