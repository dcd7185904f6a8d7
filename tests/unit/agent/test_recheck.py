"""Packs that rot between two snapshots, and what of it a store's answer says."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from fsnap.agent.job import Job
from fsnap.agent.recheck import Rechecker
from fsnap.errors import CorruptData, FsnapError, ObjectMissing, StoreUnavailable
from fsnap.snapshots import layout
from fsnap.snapshots.known import KnownChunks
from fsnap.stores.base import CorruptTransfer
from fsnap.stores.memory import MemoryStore
from fsnap.stores.retrying import Patience, RetryingStore
from tests.unit.snapshots.lab import PREFIX, Lab, contents, fill, tree


def checked(lab: Lab, rechecker: Rechecker, snapshot_id: str) -> None:
    packs = [row.id for row in lab.open(snapshot_id).index.pack_rows()]
    rechecker.run(Job("recheck", lambda job: None), packs)


@pytest.mark.parametrize("harm", ["rots", "vanishes"])
def test_what_a_damaged_pack_held_is_stored_again(tmp_path: Path, harm: str) -> None:
    root, dest = tmp_path / "root", tmp_path / "dest"
    for path in (root, dest):
        path.mkdir()
    lab = Lab()
    rechecker = Rechecker(store=RetryingStore(lab.store), prefix=PREFIX, known=lab.known)
    fill(root, {"file": random.Random(3).randbytes(400_000)})
    lab.capture("s1", tree(root))
    (pack,) = lab.keys("packs/")
    checked(lab, rechecker, "s1")
    lab.capture("s2", tree(root))
    assert lab.keys("packs/") == [pack]
    if harm == "rots":
        lab.damage(pack, 1000)
    else:
        lab.store.delete(pack)
    checked(lab, rechecker, "s2")
    lab.capture("s3", tree(root))
    assert lab.open("s3").verify().ok
    lab.open("s3").restore_tree("state-0", dest)
    assert contents(dest) == contents(root)


def test_every_pack_has_its_turn(tmp_path: Path) -> None:
    root = tmp_path / "root"
    lab = Lab()
    for number in range(4):
        fill(root, {f"file-{number}": random.Random(number).randbytes(100_000)})
        lab.capture(f"s{number}", tree(root))
    rechecker = Rechecker(store=RetryingStore(lab.store), prefix=PREFIX, known=lab.known)
    packs = [row.id for row in lab.open("s3").index.pack_rows()]
    assert len(packs) > 1
    for key in lab.keys("packs/"):
        lab.damage(key, 500)
    for _ in packs:
        rechecker.run(Job("recheck", lambda job: None), packs)
    assert all(lab.known.is_evicted(name) for name in packs)


class Failing(MemoryStore):
    """Answers the first read with *problem*."""

    def __init__(self, problem: FsnapError) -> None:
        super().__init__()
        self.problem: FsnapError | None = problem

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        problem, self.problem = self.problem, None
        if problem is not None:
            raise problem
        return super().get(key, start=start, length=length)


@pytest.mark.parametrize(
    ("problem", "is_damage"),
    [
        (CorruptData("it became shorter while it was read"), True),
        (ObjectMissing("no such object"), True),
        (StoreUnavailable("the store does not answer"), False),
        (CorruptTransfer("the answer differs from its checksum"), False),
    ],
)
def test_a_read_that_fails(problem: FsnapError, is_damage: bool) -> None:
    known = KnownChunks()
    store = RetryingStore(Failing(problem), patience=Patience(attempts=1))
    Rechecker(store=store, prefix=PREFIX, known=known).run(Job("recheck", lambda job: None), ["ab" * 32])
    assert known.is_evicted("ab" * 32) is is_damage


def test_a_read_that_is_tried_again_can_be_called_off() -> None:
    known, failing = KnownChunks(), Failing(StoreUnavailable("the store does not answer"))
    failing.put(layout.pack_key(PREFIX, "ab" * 32), b"other bytes than that digest's")
    job = Job("recheck", lambda job: None)
    store = RetryingStore(failing, on_retry=lambda retry: job.cancel())
    Rechecker(store=store, prefix=PREFIX, known=known).run(job, ["ab" * 32])
    assert failing.problem is None
    assert not known.is_evicted("ab" * 32)
