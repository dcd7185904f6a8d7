"""Deleting old snapshots: what the kept ones need stays, to the byte."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from fsnap.errors import CorruptData
from fsnap.snapshots.packs import TARGET_BYTES
from fsnap.snapshots.prune import prune
from tests.unit.snapshots.lab import PREFIX, Lab, contents, fill, tree


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


def grow(lab: Lab, root: Path, count: int) -> list[dict[str, bytes]]:
    """Snapshots s1, s2, …, of which each adds a file, changes one and removes one."""
    rng = random.Random(7)
    seen = []
    for number in range(1, count + 1):
        fill(root, {f"new-{number}": rng.randbytes(70_000), "changing": rng.randbytes(300_000)})
        (root / f"new-{number - 3}").unlink(missing_ok=True)
        lab.capture(f"s{number}", tree(root))
        seen.append(contents(root))
    return seen


def restored(lab: Lab, name: str, dest: Path) -> dict[str, bytes]:
    dest.mkdir()
    lab.open(name).restore_tree("state-0", dest)
    return contents(dest)


def test_what_is_kept_is_whole_and_the_rest_is_gone(root: Path, tmp_path: Path) -> None:
    lab = Lab()
    seen = grow(lab, root, 6)
    before = len(lab.keys("packs/"))
    done = prune(store=lab.store, prefix=PREFIX, kept={"s5", "s6"}, known=lab.known)
    assert done.snapshots == 4
    assert len(lab.keys("packs/")) == before - done.packs
    assert done.packs > 0
    assert {key.split("/")[3] for key in lab.keys("snapshots/")} == {"s5", "s6"}
    for name, content in (("s5", seen[4]), ("s6", seen[5])):
        assert lab.open(name).verify().ok
        assert restored(lab, name, tmp_path / name) == content


def test_every_pack_that_is_left_is_needed(root: Path) -> None:
    lab = Lab()
    grow(lab, root, 6)
    prune(store=lab.store, prefix=PREFIX, kept={"s5", "s6"}, known=lab.known)
    needed = {pack.id for name in ("s5", "s6") for pack in lab.open(name).manifest.packs}
    assert {key.rpartition("/")[2] for key in lab.keys("packs/")} == needed


def test_the_next_capture_puts_again_what_was_deleted(root: Path, tmp_path: Path) -> None:
    lab = Lab()
    content = os.urandom(400_000)
    fill(root, {"big": content})
    lab.capture("s1", tree(root))
    (root / "big").write_bytes(b"small now")
    lab.capture("s2", tree(root))
    prune(store=lab.store, prefix=PREFIX, kept={"s2"}, known=lab.known)
    fill(root, {"again": content})
    lab.capture("s3", tree(root))
    assert lab.open("s3").verify().ok
    assert restored(lab, "s3", tmp_path / "s3")["again"] == content


def test_an_older_one_that_is_kept_shields_its_packs(root: Path) -> None:
    lab = Lab()
    grow(lab, root, 5)
    prune(store=lab.store, prefix=PREFIX, kept={"s1", "s4"}, known=lab.known)
    assert {key.split("/")[3] for key in lab.keys("manifest.json")} == {"s1", "s4", "s5"}
    assert all(lab.open(name).verify().ok for name in ("s1", "s4", "s5"))


@pytest.mark.parametrize("steps", range(1, 12))
def test_a_pruning_that_is_cut_off_is_finished_by_the_next(root: Path, steps: int) -> None:
    class Cut(Exception):
        pass

    lab = Lab()
    grow(lab, root, 5)
    left = iter([None] * steps)

    def step() -> None:
        if next(left, "over") == "over":
            raise Cut

    with pytest.raises(Cut):
        prune(store=lab.store, prefix=PREFIX, kept={"s5"}, known=lab.known, step=step)
    assert lab.open("s5").verify().ok
    prune(store=lab.store, prefix=PREFIX, kept={"s5"}, known=lab.known)
    needed = {pack.id for pack in lab.open("s5").manifest.packs}
    assert {key.rpartition("/")[2] for key in lab.keys("packs/")} == needed
    assert {key.split("/")[3] for key in lab.keys("snapshots/")} == {"s5"}


def test_nothing_is_deleted_while_a_kept_manifest_cannot_be_read(root: Path) -> None:
    lab = Lab()
    grow(lab, root, 3)
    lab.damage(f"{PREFIX}/snapshots/s3/manifest.json", 20)
    before = lab.keys()
    with pytest.raises(CorruptData):
        prune(store=lab.store, prefix=PREFIX, kept={"s2", "s3"}, known=lab.known)
    assert lab.keys() == before


def test_no_pack_has_the_name_of_an_earlier_one(root: Path) -> None:
    fill(root, {"same": b"x" * 5000})
    names = []
    for _ in range(2):
        lab = Lab()
        lab.capture("s1", tree(root))
        names += [key.rpartition("/")[2] for key in lab.keys("packs/")]
    assert len(names) == len(set(names)) == 2
    assert TARGET_BYTES > 5000
