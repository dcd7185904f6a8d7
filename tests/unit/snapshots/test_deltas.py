"""Chunks stored as the pages in which they differ: the round trip, the parents, and damage."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from fsnap.errors import CorruptData
from fsnap.snapshots import codec
from fsnap.snapshots.indexfile import decode_index, encode_index
from fsnap.snapshots.known import KnownChunks
from fsnap.snapshots.packread import PackReader
from fsnap.snapshots.pagedelta import MAX_DEPTH, WRITTEN_DEPTH
from fsnap.snapshots.pageindex import PageIndex
from fsnap.snapshots.tables import NONE
from tests.unit.sealing.keyrings import ring
from tests.unit.snapshots.lab import PREFIX, Lab, fill, look, tree

MIB = 1 << 20
PAGE = 4096
NAME = "pages-1.img"


class Memory:
    """A file of pages that changes here and there."""

    def __init__(self, root: Path, mib: int, seed: int) -> None:
        self.root = root
        self.random = random.Random(seed)
        self.data = bytearray(self.random.randbytes(mib * MIB))
        self.write()

    def write(self) -> None:
        fill(self.root, {NAME: bytes(self.data)})

    def change(self, pages: int) -> None:
        for number in self.random.sample(range(len(self.data) // PAGE), pages):
            self.data[number * PAGE : (number + 1) * PAGE] = self.random.randbytes(PAGE)
        self.write()


@pytest.fixture
def lab(lab: Lab) -> Lab:
    lab.known = KnownChunks(pages=PageIndex())
    return lab


@pytest.fixture
def memory(source: Path) -> Memory:
    return Memory(source, 8, 41)


def take(lab: Lab, memory: Memory, snapshot_id: str, dest: Path) -> int:
    """Capture, restore elsewhere, compare; how many bytes were put."""
    sealed = lab.capture(snapshot_id, tree(memory.root, page_structured=True))
    check(lab, memory, snapshot_id, dest)
    return sealed.stored_bytes


def check(lab: Lab, memory: Memory, snapshot_id: str, dest: Path) -> None:
    shutil.rmtree(dest)
    dest.mkdir()
    lab.open(snapshot_id).restore_tree("state-0", dest)
    assert look(dest) == look(memory.root)


def depths(lab: Lab, snapshot_id: str) -> list[int]:
    """How many deltas each delta of the snapshot rests on, itself included."""
    chunks = lab.open(snapshot_id).index.chunks
    found = []
    for row in chunks[chunks["codec"] == codec.DELTA]:
        depth = 0
        while row["parent"] != NONE:
            row, depth = chunks[int(row["parent"])], depth + 1
        found.append(depth)
    return found


def test_single_changed_pages_cost_about_themselves(lab: Lab, memory: Memory, dest: Path) -> None:
    take(lab, memory, "s1", dest)
    memory.change(20)
    put = take(lab, memory, "s2", dest)
    assert put < 3 * 20 * PAGE
    assert lab.open("s2").verify().ok


def test_twenty_snapshots_in_a_row_restore_exactly(lab: Lab, memory: Memory, dest: Path) -> None:
    put = [take(lab, memory, "s0", dest)]
    for number in range(1, 20):
        memory.change(30)
        put.append(take(lab, memory, f"s{number}", dest))
    assert sum(put[1:]) < 19 * 30 * PAGE * 4
    assert max(depths(lab, "s19")) == WRITTEN_DEPTH
    lab.open("s3").restore_tree("state-0", dest)  # an older one is as good as it was
    assert lab.open("s3").verify().ok


def test_a_new_process_goes_on_from_the_index(lab: Lab, memory: Memory, dest: Path) -> None:
    take(lab, memory, "s1", dest)
    memory.change(20)
    take(lab, memory, "s2", dest)
    lab.known = KnownChunks(pages=PageIndex())
    lab.known.learn(lab.open("s2").index)
    assert take(lab, memory, "s3", dest) < 20_000
    memory.change(20)
    assert take(lab, memory, "s4", dest) < 3 * 20 * PAGE


def test_pages_put_in_and_taken_out(lab: Lab, memory: Memory, dest: Path) -> None:
    take(lab, memory, "s1", dest)
    memory.data[3 * MIB : 3 * MIB] = memory.random.randbytes(5 * PAGE)
    del memory.data[6 * MIB : 6 * MIB + 3 * PAGE]
    memory.write()
    assert take(lab, memory, "s2", dest) < MIB


def test_a_forgotten_parent_is_not_built_upon(lab: Lab, memory: Memory, dest: Path) -> None:
    take(lab, memory, "s1", dest)
    (base,) = lab.keys("packs/")
    memory.change(20)
    take(lab, memory, "s2", dest)
    lab.known.evict_pack(base.rpartition("/")[2])
    assert take(lab, memory, "s3", dest) > 7 * MIB
    assert not depths(lab, "s3")


def test_a_file_that_did_not_change_keeps_its_deltas(lab: Lab, source: Path, dest: Path) -> None:
    data = bytearray(random.Random(43).randbytes(4 * MIB))
    fill(source, {"table.db": bytes(data)})
    lab.capture("s1", tree(source))
    data[MIB : MIB + PAGE] = bytes(range(256)) * 16
    fill(source, {"table.db": bytes(data)})
    second = lab.capture("s2", tree(source))
    assert second.stored_bytes < 100_000
    third = lab.capture("s3", tree(source, unchanged=second.seen["state-0"]))
    assert third.new_bytes == 0
    lab.open("s3").restore_tree("state-0", dest)
    assert look(dest) == look(source)


def test_a_damaged_parent_damages_what_rests_on_it(lab: Lab, memory: Memory, dest: Path) -> None:
    take(lab, memory, "s1", dest)
    (base,) = lab.keys("packs/")
    memory.change(20)
    take(lab, memory, "s2", dest)
    lab.damage(base, 4 * MIB)
    with pytest.raises(CorruptData, match="damaged"):
        lab.open("s2").restore_tree("state-0", dest)
    assert lab.open("s2").verify().bad_packs == (base.rpartition("/")[2],)


def test_reading_is_bounded_however_many_rest_on_one(
    lab: Lab, memory: Memory, dest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deltas are fetched by the piece; with a small piece the same comes out."""
    take(lab, memory, "s1", dest)
    for number in range(2, 6):
        memory.change(100)
        lab.capture(f"s{number}", tree(memory.root, page_structured=True))
    monkeypatch.setattr("fsnap.snapshots.packread.MAX_RANGE_BYTES", 300_000)
    check(lab, memory, "s5", dest)


def test_the_manifest_lists_the_packs_of_parents(lab: Lab, memory: Memory, dest: Path) -> None:
    take(lab, memory, "s1", dest)
    memory.change(1500)
    take(lab, memory, "s2", dest)
    snapshot = lab.open("s2")
    listed = {pack.id for pack in snapshot.manifest.packs}
    assert listed == {key.rpartition("/")[2] for key in lab.keys("packs/")}


def with_parents(lab: Lab, change: str) -> bytes:
    """The index of ``s2`` with its deltas' parents changed."""
    index = decode_index(lab.store.get(f"{PREFIX}/snapshots/s2/index"), where="x")
    index.chunks = chunks = index.chunks.copy()
    deltas = np.flatnonzero(chunks["codec"] == codec.DELTA)
    if change == "itself":
        chunks["parent"][deltas[0]] = deltas[0]
    elif change == "out of range":
        chunks["parent"][deltas[0]] = len(chunks)
    elif change == "none":
        chunks["parent"][deltas[0]] = NONE
    elif change == "of a whole one":
        chunks["parent"][np.flatnonzero(chunks["codec"] != codec.DELTA)[0]] = deltas[0]
    else:
        assert len(deltas) > MAX_DEPTH
        chunks["parent"][deltas[1:]] = deltas[:-1]
    return encode_index(index)


@pytest.mark.parametrize("change", ["itself", "out of range", "none", "of a whole one", "too deep"])
def test_an_index_with_unsound_parents_is_refused(lab: Lab, memory: Memory, dest: Path, change: str) -> None:
    take(lab, memory, "s1", dest)
    memory.change(60)
    take(lab, memory, "s2", dest)
    with pytest.raises(CorruptData, match=r"parent|delta"):
        decode_index(with_parents(lab, change), where="x")


def test_equal_fingerprints_of_unequal_pages_are_found_out(
    lab: Lab, memory: Memory, dest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collision costs the snapshot, and is never restored."""
    take(lab, memory, "s1", dest)
    honest = PageIndex.prints
    memory.change(1)
    place = next(n for n in range(0, len(memory.data), PAGE) if memory.data[n : n + PAGE] != _before(lab, n))
    old, new = _before(lab, place), bytes(memory.data[place : place + PAGE])

    def colliding(self: PageIndex, data: memoryview) -> object:
        return honest(self, memoryview(bytes(data).replace(new, old)))

    monkeypatch.setattr(PageIndex, "prints", colliding)
    lab.capture("s2", tree(memory.root, page_structured=True))
    with pytest.raises(CorruptData, match="digest"):
        lab.open("s2").restore_tree("state-0", dest)
    assert not lab.open("s2").verify().ok


def _before(lab: Lab, at: int) -> bytes:
    """The page at *at* in ``s1``."""
    snapshot = lab.open("s1")
    index = snapshot.index
    (row,) = [entry for _, path, entry in index.tree_entries("state-0") if path == NAME]
    ((_, _, stream_at),) = index.entry_extents(row)
    ((chunk, inside, _),) = index.pieces(stream_at + at, PAGE)
    reader = PackReader(store=lab.store, prefix=PREFIX, index=index)
    for part in reader.ranges([chunk]):
        for _, data in reader.read(part):
            return bytes(memoryview(data)[inside : inside + PAGE])
    raise AssertionError("the chunk is not there")


def test_sealed_deltas_come_back(memory: Memory, dest: Path) -> None:
    lab = Lab(keys=ring("k1"))
    lab.known = KnownChunks(pages=PageIndex(), key_id="k1")
    take(lab, memory, "s1", dest)
    for number in range(2, 5):
        memory.change(20)
        assert take(lab, memory, f"s{number}", dest) < 4 * 20 * PAGE
    kinds = lab.open("s4").index.chunks["codec"]
    assert (kinds == codec.SEALED | codec.DELTA).any()
    assert lab.open("s4").verify().ok
