"""Sealed snapshots: nothing in plain, nothing that was changed or moved is used, old keys open old ones."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from fsnap.core import manifest as manifests
from fsnap.errors import CorruptData, KeyNeeded, NewerSchema, NotSealed, SealBroken, WrongKey
from fsnap.keys import KeyRing
from fsnap.sealing import wrap
from fsnap.snapshots import codec, layout
from fsnap.snapshots.capture import Capture
from fsnap.snapshots.fetch import Snapshot
from fsnap.snapshots.known import KnownChunks
from fsnap.snapshots.objects import HEADER_BYTES
from fsnap.snapshots.packs import MARK_BYTES
from fsnap.stores.memory import MemoryStore
from tests.unit.sealing.keyrings import key, ring
from tests.unit.snapshots.lab import PREFIX, Lab, about, contents, fill, tree

TEXT = b"All work and no play makes Jack a dull boy. "
FILES = {
    "dir/secret-name.txt": TEXT * 40_000,
    "noise": random.Random(8).randbytes(1_500_000) + TEXT,
    "zeros": bytes(3_000_000),
    "small": TEXT,
}
MANIFEST = layout.manifest_key(PREFIX, "s1")
INDEX = layout.index_key(PREFIX, "s1")
MARK = range(HEADER_BYTES, HEADER_BYTES + MARK_BYTES)
"""Bytes of a pack that only its name covers: they mean nothing, and ``verify`` alone sees a change."""


def sealed_lab(source: Path, *key_ids: str) -> Lab:
    fill(source, FILES)
    lab = Lab(keys=ring(*key_ids or ("k1",)))
    lab.capture("s1", tree(source), more=lambda capture: capture.add_blob("tail", TEXT))
    return lab


@pytest.fixture
def stored(source: Path) -> Lab:
    return sealed_lab(source)


def opened(lab: Lab, keys: KeyRing | None, *, pinned: bool = True, snapshot_id: str = "s1") -> Snapshot:
    digest = lab.published[snapshot_id].manifest_digest if pinned else None
    return Snapshot.open(
        store=lab.store, prefix=PREFIX, snapshot_id=snapshot_id, manifest_digest=digest, keys=keys
    )


def test_it_comes_back(stored: Lab, source: Path, dest: Path) -> None:
    snapshot = stored.open("s1")
    snapshot.restore_tree("state-0", dest)
    assert contents(dest) == contents(source)
    assert snapshot.read_blob("tail") == TEXT
    assert snapshot.verify().ok
    assert snapshot.index.key_id == "k1"


def test_nothing_is_there_in_plain(stored: Lab) -> None:
    for name in stored.keys():
        data = stored.store.get(name)
        for word in (TEXT[:12], b"secret-name", b"/data", b"sort", b"state-0", bytes(64)):
            assert word not in data, (name, word)
    kinds = set(stored.open("s1").index.chunks["codec"].tolist())
    assert kinds == {codec.ZERO, codec.SEALED | codec.RAW, codec.SEALED | codec.ZSTD}


def test_digests_are_keyed(stored: Lab, source: Path) -> None:
    plain = Lab()
    plain.capture("s1", tree(source))
    other = Lab(keys=ring("k2"))
    other.capture("s1", tree(source))
    digests = [
        {row.tobytes() for row in lab.open("s1").index.chunks["digest"]} for lab in (stored, plain, other)
    ]
    assert not digests[0] & digests[1]
    assert not digests[0] & digests[2]


def test_chunks_are_found_again(stored: Lab, source: Path, dest: Path) -> None:
    fill(source, {"more": b"a few bytes"})
    stored.capture("s2", tree(source))
    assert stored.published["s2"].new_bytes < 1_000_000
    stored.open("s2").restore_tree("state-0", dest)
    assert contents(dest) == contents(source)


def test_after_a_rotation(stored: Lab, source: Path, dest: Path) -> None:
    """A new first key seals all of the next snapshot; the old key still opens the old one."""
    stored.keyring = ring("k2", "k1")
    stored.known = KnownChunks(key_id="k2")
    stored.known.learn(stored.open("s1").index)
    assert len(stored.known) == 0
    stored.capture("s2", tree(source))
    assert stored.published["s2"].new_bytes == stored.published["s1"].new_bytes
    stored.open("s1").restore_tree("state-0", dest)
    assert contents(dest) == contents(source)
    stored.keyring = ring("k2")
    assert stored.open("s2").verify().ok
    with pytest.raises(WrongKey, match="'k1'"):
        stored.open("s1")


@pytest.mark.parametrize("pinned", [True, False])
def test_keys_that_do_not_fit(stored: Lab, source: Path, pinned: bool) -> None:
    with pytest.raises(KeyNeeded, match=f"{MANIFEST}.*'k1'"):
        opened(stored, None, pinned=pinned)
    with pytest.raises(WrongKey, match=MANIFEST):
        opened(stored, ring("k2"), pinned=pinned)
    with pytest.raises(WrongKey, match="under that id"):
        opened(stored, KeyRing([key("k1", "another")]), pinned=pinned)
    plain = Lab()
    plain.capture("s1", tree(source))
    with pytest.raises(NotSealed, match=MANIFEST):
        opened(plain, ring("k1"), pinned=pinned)


def place_of(data: st.DataObject, size: int) -> int:
    """Any byte; one of four times of the first or last hundred."""
    near = min(size, 100) - 1
    places = st.integers(0, near) | st.integers(size - near - 1, size - 1) | st.integers(0, size - 1)
    return data.draw(places)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_byte_can_be_changed(stored: Lab, data: st.DataObject, tmp_path: Path) -> None:
    """Not even by one who makes all plain digests match again."""
    names = [MANIFEST, INDEX, *stored.keys("packs/")]
    good = {name: stored.store.get(name) for name in names}
    name = data.draw(st.sampled_from(names))
    place = place_of(data, len(good[name]))
    if "/packs/" in name:
        assume(place not in MARK)
    stored.damage(name, place, data.draw(st.integers(1, 255)))
    dest = tmp_path / "out"
    dest.mkdir(exist_ok=True)
    try:
        for pinned in (True, False):
            with pytest.raises((CorruptData, NewerSchema, WrongKey, NotSealed)):
                snapshot = opened(stored, stored.keyring, pinned=pinned)
                snapshot.restore_tree("state-0", dest)
                snapshot.read_blob("tail")
    finally:
        for each, old in good.items():
            stored.store.put(each, old)


def test_a_chunk_moved_within_its_pack_is_refused(stored: Lab, dest: Path) -> None:
    """Two chunks change places: each is sealed rightly, and stands for the other."""
    index = stored.open("s1").index
    rows = [row for row in index.chunks if row["codec"] == codec.SEALED | codec.RAW]
    first, second = rows[0], rows[1]
    length = min(int(first["stored_bytes"]), int(second["stored_bytes"]))
    (name,) = stored.keys("packs/")
    pack = bytearray(stored.store.get(name))
    at, to = int(first["offset"]), int(second["offset"])
    pack[at : at + length], pack[to : to + length] = pack[to : to + length], pack[at : at + length]
    stored.store.put(name, pack)
    with pytest.raises(SealBroken, match=name):
        opened(stored, stored.keyring).restore_tree("state-0", dest)


def copy_of(store: MemoryStore, old: str, new: str) -> MemoryStore:
    """All objects, with *old* in their keys replaced by *new*."""
    copied = MemoryStore()
    for row in store.list():
        copied.put(row.key.replace(old, new), store.get(row.key))
    return copied


def test_another_tasks_snapshot_is_refused(stored: Lab) -> None:
    store = copy_of(stored.store, PREFIX, "tasks/t2")
    with pytest.raises(SealBroken, match=r"'tasks/t1/snapshots/s1/manifest.json', put under another name"):
        Snapshot.open(
            store=store, prefix="tasks/t2", snapshot_id="s1", manifest_digest=None, keys=stored.keyring
        )


def test_an_older_snapshot_is_refused_in_the_place_of_a_newer(stored: Lab, source: Path) -> None:
    fill(source, {"small": b"newer"})
    stored.capture("s2", tree(source))
    store = copy_of(stored.store, "/s2/", "/gone/")
    for row in list(store.list(f"{PREFIX}/snapshots/s1/")):
        store.put(row.key.replace("/s1/", "/s2/"), store.get(row.key))
    stored.store = store
    with pytest.raises(CorruptData, match="not the manifest that the journal names"):
        opened(stored, stored.keyring, snapshot_id="s2")
    with pytest.raises(SealBroken, match="put under another name"):
        opened(stored, stored.keyring, snapshot_id="s2", pinned=False)


def test_an_index_of_another_snapshot_is_refused(stored: Lab, source: Path) -> None:
    """By one who can make manifests, even."""
    stored.capture("s2", tree(source))
    stored.store.put(INDEX, stored.store.get(layout.index_key(PREFIX, "s2")))
    manifest = opened(stored, stored.keyring, snapshot_id="s2").manifest
    forged = manifests.Manifest(
        about=about("s1"),
        **{
            name: getattr(manifest, name)
            for name in ("index_digest", "index_bytes", "packs", "bytes", "new_bytes", "stored_bytes")
        },
    )
    envelope = wrap(key("k1"), manifests.encode(forged), name=MANIFEST, purpose="fsnap-manifest")
    stored.store.put(MANIFEST, manifests.encode_sealed(envelope))
    with pytest.raises(SealBroken, match=INDEX):
        opened(stored, stored.keyring, pinned=False)


def test_a_plain_pack_or_index_below_a_sealed_manifest_is_refused(stored: Lab, source: Path) -> None:
    plain = Lab()
    plain.capture("s1", tree(source), more=lambda capture: capture.add_blob("tail", TEXT))
    manifest = plain.open("s1").manifest
    envelope = wrap(key("k1"), manifests.encode(manifest), name=MANIFEST, purpose="fsnap-manifest")
    plain.store.put(MANIFEST, manifests.encode_sealed(envelope))
    plain.keyring = ring("k1")
    with pytest.raises(SealBroken, match=INDEX):
        opened(plain, ring("k1"), pinned=False)


def test_publish_may_be_repeated(source: Path) -> None:
    fill(source, {"small": TEXT})
    lab = Lab(keys=ring("k1"))
    with Capture(store=lab.store, prefix=PREFIX, snapshot_id="s1", known=lab.known, key=key("k1")) as capture:
        capture.add_tree(tree(source))
        capture.seal_index()
        assert capture.publish(about("s1")) == capture.publish(about("s1"))


def test_known_chunks_of_another_key_are_not_taken(source: Path) -> None:
    for known, used in ((KnownChunks(), key("k1")), (KnownChunks(key_id="k1"), None)):
        with pytest.raises(ValueError, match="another key"):
            Capture(store=MemoryStore(), prefix=PREFIX, snapshot_id="s1", known=known, key=used)


def test_a_pack_can_be_compared_with_its_name_without_a_key(stored: Lab) -> None:
    (name,) = stored.keys("packs/")
    assert codec.hexdigest(stored.store.get(name)) == name.rpartition("/")[2]
    stored.damage(name, 5000)
    assert stored.open("s1").verify().bad_packs == (name.rpartition("/")[2],)
