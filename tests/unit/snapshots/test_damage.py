"""A flipped or missing byte anywhere is seen before anything is called restored, and the object is named."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from fsnap.core import manifest as manifests
from fsnap.errors import CorruptData, NewerSchema
from fsnap.snapshots import layout
from fsnap.snapshots.fetch import Snapshot
from fsnap.snapshots.objects import HEADER_BYTES
from fsnap.snapshots.packs import MARK_BYTES
from tests.unit.snapshots.lab import PREFIX, Lab, fill, look, tree

MANIFEST = layout.manifest_key(PREFIX, "s1")
INDEX = layout.index_key(PREFIX, "s1")


@pytest.fixture
def stored(lab: Lab, source: Path) -> Lab:
    """A snapshot with a compressed, an incompressible, a zero and a small file."""
    noise = random.Random(8).randbytes(1_500_000)
    fill(
        source,
        {"text": b"all work and no play\n" * 80_000, "noise": noise, "zeros": bytes(3_000_000), "s": b"x"},
    )
    lab.capture("s1", tree(source))
    return lab


def restore(lab: Lab, dest: Path) -> None:
    lab.open("s1").restore_tree("state-0", dest)


MARK = range(HEADER_BYTES, HEADER_BYTES + MARK_BYTES)


def pack_key(lab: Lab) -> str:
    (key,) = lab.keys("packs/")
    return key


def some_places(size: int) -> list[int]:
    rng = random.Random(9)
    return sorted({0, 7, 8, 11, HEADER_BYTES - 1, HEADER_BYTES, size - 1, *rng.sample(range(size), 60)})


def test_every_place_of_a_pack(stored: Lab, dest: Path) -> None:
    key = pack_key(stored)
    good = stored.store.get(key)
    for at in some_places(len(good)):
        stored.damage(key, at)
        if at not in MARK:  # which no restore reads
            with pytest.raises(CorruptData, match=key):
                restore(stored, dest)
        report = stored.open("s1").verify()
        assert not report.ok
        assert report.problems[0].startswith(key)
        assert report.bad_packs == (key.rpartition("/")[2],)
        stored.store.put(key, good)
    assert stored.open("s1").verify().ok


def test_every_place_of_an_index(stored: Lab) -> None:
    good = stored.store.get(INDEX)
    for at in some_places(len(good)):
        stored.damage(INDEX, at)
        with pytest.raises(CorruptData, match=INDEX):
            stored.open("s1")
        stored.store.put(INDEX, good)


@pytest.mark.parametrize("pinned", [True, False])
def test_every_place_of_a_manifest(stored: Lab, pinned: bool) -> None:
    good = stored.store.get(MANIFEST)
    digest = stored.published["s1"].manifest_digest if pinned else None
    for at in range(len(good)):
        stored.damage(MANIFEST, at)
        with pytest.raises(CorruptData, match=MANIFEST):
            Snapshot.open(store=stored.store, prefix=PREFIX, snapshot_id="s1", manifest_digest=digest)
    stored.store.put(MANIFEST, good)
    assert Snapshot.open(store=stored.store, prefix=PREFIX, snapshot_id="s1", manifest_digest=digest)


@pytest.mark.parametrize("left", [0, 1, HEADER_BYTES - 1, HEADER_BYTES, -1])
@pytest.mark.parametrize("which", ["pack", "index", "manifest"])
def test_truncated_objects(stored: Lab, dest: Path, which: str, left: int) -> None:
    key = {"pack": pack_key(stored), "index": INDEX, "manifest": MANIFEST}[which]
    stored.store.put(key, stored.store.get(key)[:left])
    with pytest.raises(CorruptData, match=key):
        restore(stored, dest)


@pytest.mark.parametrize("which", ["pack", "index", "manifest"])
def test_missing_objects(stored: Lab, dest: Path, which: str) -> None:
    key = {"pack": pack_key(stored), "index": INDEX, "manifest": MANIFEST}[which]
    stored.store.delete(key)
    with pytest.raises(CorruptData, match=f"{key} is missing"):
        restore(stored, dest)


def test_another_intact_manifest_is_not_the_one(stored: Lab, source: Path) -> None:
    fill(source, {"s": b"y"})
    stored.capture("s2", tree(source))
    other = stored.store.get(layout.manifest_key(PREFIX, "s2"))
    stored.store.put(MANIFEST, other)
    with pytest.raises(CorruptData, match="not the manifest that the journal names"):
        stored.open("s1")
    with pytest.raises(CorruptData, match="belongs to the snapshot 's2'"):
        Snapshot.open(store=stored.store, prefix=PREFIX, snapshot_id="s1", manifest_digest=None)


def test_an_older_snapshot_is_restored_over_a_failed_restore(stored: Lab, source: Path, dest: Path) -> None:
    before = look(source)
    fill(source, {"noise": random.Random(10).randbytes(1_500_000), "later": b"1"})
    known = set(stored.keys("packs/"))
    stored.capture("s2", tree(source))
    (new,) = set(stored.keys("packs/")) - known
    stored.damage(new, 70_000)
    with pytest.raises(CorruptData, match=new):
        stored.open("s2").restore_tree("state-0", dest)
    later = stored.open("s2").recorded_paths("state-0")
    stored.open("s1").restore_tree("state-0", dest, remove_recorded=later)
    # The root's own times change with what is made and unmade in the source.
    assert {k: v for k, v in look(dest).items() if k} == {k: v for k, v in before.items() if k}


def test_a_newer_manifest_says_so(stored: Lab) -> None:
    import hashlib
    import json

    document = json.loads(stored.store.get(MANIFEST))
    for change in ({"schema": 2}, {"unheard_of": 1}, {"seal": {"key": "k1"}}, {"parent": "s0"}):
        new = {**document, **change}
        del new["check"]
        new["check"] = hashlib.sha256(manifests.canonical(new)).hexdigest()
        with pytest.raises(NewerSchema, match="x"):
            manifests.decode(manifests.canonical(new), where="x")


def test_a_bad_pack_is_stored_anew_once_it_is_evicted(stored: Lab, source: Path, dest: Path) -> None:
    stored.damage(pack_key(stored), 1000)
    for bad in stored.open("s1").verify().bad_packs:
        stored.known.evict_pack(bad)
    stored.capture("s2", tree(source))
    assert stored.open("s2").verify().ok
    stored.open("s2").restore_tree("state-0", dest)
    assert look(dest) == look(source)
