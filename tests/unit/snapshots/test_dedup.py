"""What is known is not put again, and what the known set forgets is."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from fsnap.snapshots.codec import RAW
from fsnap.snapshots.errors import PacksMissing
from fsnap.snapshots.known import KnownChunks, Location
from tests.unit.snapshots.lab import Lab, fill, look, tree

MIB = 1 << 20
PAGE = 4096


def test_a_second_snapshot_puts_only_what_is_new(lab: Lab, source: Path, dest: Path) -> None:
    old = random.Random(11).randbytes(40 * MIB)
    fill(source, {"pages-1.img": old})
    first = lab.capture("s1", tree(source, page_structured=True))
    assert first.new_bytes == 40 * MIB
    fresh = random.Random(12).randbytes(3 * PAGE)
    fill(source, {"pages-1.img": old[: 20 * MIB] + fresh + old[20 * MIB :]})
    second = lab.capture("s2", tree(source, page_structured=True))
    assert 3 * PAGE <= second.new_bytes <= MIB
    assert second.stored_bytes < MIB + 50_000
    lab.open("s2").restore_tree("state-0", dest)
    assert look(dest) == look(source)


def test_nothing_new_puts_no_pack(lab: Lab, source: Path) -> None:
    fill(source, {"a": random.Random(13).randbytes(5 * MIB), "b": b"small"})
    lab.capture("s1", tree(source))
    packs = lab.keys("packs/")
    second = lab.capture("s2", tree(source))
    assert lab.keys("packs/") == packs
    assert second.new_bytes == 0


def test_equal_content_within_a_snapshot_is_stored_once(lab: Lab, source: Path) -> None:
    data = random.Random(14).randbytes(5 * MIB)
    fill(source, {"a": data, "b": data})
    sealed = lab.capture("s1", tree(source))
    assert sealed.bytes == 10 * MIB
    assert sealed.new_bytes == 5 * MIB


def test_what_an_abandoned_capture_put_is_not_put_again_but_is_new(lab: Lab, source: Path) -> None:
    """A warm pass uploads ahead; no snapshot had those bytes before."""
    fill(source, {"a": random.Random(15).randbytes(5 * MIB)})
    lab.capture("warm", tree(source), commit=False)
    sealed = lab.capture("s1", tree(source))
    assert sealed.new_bytes == 5 * MIB
    assert sealed.stored_bytes < 10_000


def test_another_process_learns_from_the_index(lab: Lab, source: Path) -> None:
    fill(source, {"a": random.Random(16).randbytes(5 * MIB)})
    lab.capture("s1", tree(source))
    lab.known = KnownChunks()
    lab.known.learn(lab.open("s1").index)
    assert lab.capture("s2", tree(source)).new_bytes == 0


def test_a_pack_that_is_not_listed_is_forgotten_and_stored_anew(lab: Lab, source: Path, dest: Path) -> None:
    fill(source, {"a": random.Random(17).randbytes(5 * MIB)})
    lab.capture("s1", tree(source))
    (pack,) = lab.keys("packs/")
    lab.store.delete(pack)
    with pytest.raises(PacksMissing, match="1 packs"):
        lab.capture("s2", tree(source))
    assert "s2" not in lab.published
    lab.capture("s3", tree(source))
    lab.open("s3").restore_tree("state-0", dest)
    assert look(dest) == look(source)


def test_a_pack_of_another_size_counts_as_missing(lab: Lab, source: Path) -> None:
    fill(source, {"a": random.Random(18).randbytes(MIB)})
    lab.capture("s1", tree(source))
    (pack,) = lab.keys("packs/")
    lab.store.put(pack, lab.store.get(pack)[:-1])
    with pytest.raises(PacksMissing):
        lab.capture("s2", tree(source))


def location(pack: str) -> Location:
    return Location(pack, 1000, 64, 10, 10, RAW, True)


def name(number: int) -> bytes:
    return number.to_bytes(32, "big")


def test_the_known_set_is_bounded_and_keeps_what_is_used() -> None:
    known = KnownChunks(max_chunks=100)
    for number in range(1000):
        known.add(name(number), location("p"))
        assert known.lookup(name(0)) is not None
        assert len(known) <= 100
    assert known.lookup(name(999)) is not None
    assert known.lookup(name(500)) is None


def test_an_evicted_pack_is_not_learned_again() -> None:
    known = KnownChunks()
    known.add(name(1), location("bad"))
    known.add(name(2), location("good"))
    known.evict_pack("bad")
    known.add(name(3), location("bad"))
    assert [known.lookup(name(n)) is not None for n in (1, 2, 3)] == [False, True, False]
    known.readmit_pack("bad")
    known.add(name(3), location("bad"))
    assert known.lookup(name(3)) is not None
