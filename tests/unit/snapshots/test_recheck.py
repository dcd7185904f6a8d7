"""Packs that rot between two snapshots."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from fsnap.agent.job import Job
from fsnap.agent.recheck import Rechecker
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
    rechecker = Rechecker(store=lab.store, prefix=PREFIX, known=lab.known)
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
    rechecker = Rechecker(store=lab.store, prefix=PREFIX, known=lab.known)
    packs = [row.id for row in lab.open("s3").index.pack_rows()]
    assert len(packs) > 1
    for key in lab.keys("packs/"):
        lab.damage(key, 500)
    for _ in packs:
        rechecker.run(Job("recheck", lambda job: None), packs)
    assert all(lab.known.is_evicted(name) for name in packs)
