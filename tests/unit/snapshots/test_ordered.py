"""Files of a snapshot in their own order: every byte, nothing that is damaged, and a bounded part ahead."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from fsnap.errors import CorruptData
from fsnap.snapshots import ordered
from fsnap.snapshots.capture import Capture
from fsnap.snapshots.fetch import Snapshot
from fsnap.snapshots.known import KnownChunks
from fsnap.snapshots.ordered import OrderedReader
from fsnap.snapshots.packread import PackReader
from fsnap.snapshots.trees import TreeSource
from fsnap.stores.memory import MemoryStore
from tests.unit.snapshots.lab import about

PAGE = 4096
MIB = 1 << 20


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    source = random.Random(5)
    same = source.randbytes(MIB)
    parts = [source.randbytes(3 * MIB), bytes(2 * MIB), same, source.randbytes(700 * PAGE), same, bytes(PAGE)]
    (folder / "pages-1.img").write_bytes(b"".join(parts))
    with (folder / "pages-2.img").open("wb") as sparse:
        sparse.seek(5 * MIB)
        sparse.write(same)
        sparse.truncate(9 * MIB)
    (folder / "pages-3.img").write_bytes(b"")
    return folder


def stored(store: MemoryStore, folder: Path) -> Snapshot:
    with Capture(store=store, prefix="t", snapshot_id="1", known=KnownChunks()) as capture:
        capture.add_tree(TreeSource(name="images", root=folder, page_structured=True))
        capture.seal_index()
        digest = capture.publish(about("1")).manifest_digest
    return Snapshot.open(store=store, prefix="t", snapshot_id="1", manifest_digest=digest)


def read(snapshot: Snapshot, name: str, *, files: int = 1) -> bytes:
    with snapshot.ordered(files) as reader:
        return b"".join(reader.feed(snapshot.files("images")[name]).content())


@pytest.mark.parametrize("block_bytes", [MIB, 3 * MIB, 64 * MIB])
def test_every_byte_in_order(images: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int) -> None:
    monkeypatch.setattr(ordered, "MAX_BLOCK_BYTES", block_bytes)
    snapshot = stored(MemoryStore(), images)
    for path in images.iterdir():
        assert read(snapshot, path.name) == path.read_bytes(), path.name


def test_several_files_take_turns_though_nothing_may_be_ahead(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ordered, "AHEAD_BYTES", 1)
    snapshot = stored(MemoryStore(), images)
    with snapshot.ordered(3) as reader:
        feeds: dict[str, Iterator[memoryview]] = {
            name: reader.feed(row).content() for name, row in snapshot.files("images").items()
        }
        found = {name: bytearray() for name in feeds}
        while feeds:
            for name, feed in list(feeds.items()):
                data = next(feed, None)
                if data is None:
                    del feeds[name]
                else:
                    found[name] += data
    assert {name: bytes(data) for name, data in found.items()} == {
        path.name: path.read_bytes() for path in images.iterdir()
    }


def test_what_is_read_ahead_is_bounded(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordered, "MAX_BLOCK_BYTES", MIB)
    monkeypatch.setattr(ordered, "AHEAD_BYTES", 2 * MIB)
    snapshot = stored(MemoryStore(), images)
    began: list[int] = []
    begin = OrderedReader.begin

    def counted(self: OrderedReader, pieces: list[ordered._Piece], *, wait: bool) -> ordered._Block | None:
        block = begin(self, pieces, wait=wait)
        if block is not None:
            began.append(sum(piece.length for piece in pieces))
        return block

    monkeypatch.setattr(OrderedReader, "begin", counted)
    with snapshot.ordered(1) as reader:
        content = reader.feed(snapshot.files("images")["pages-1.img"]).content()
        taken = len(next(content))
        longest = ordered.MAX_BLOCK_BYTES + MIB  # a block ends with the chunk that fills it
        assert sum(began) <= 3 * longest
        for data in content:
            taken += len(data)
            assert sum(began) - taken <= 3 * longest
    assert taken == (images / "pages-1.img").stat().st_size


def test_no_byte_of_a_damaged_block_is_given(images: Path) -> None:
    store = MemoryStore()
    snapshot = stored(store, images)
    for info in list(store.list("t/packs/")):
        data = bytearray(store.get(info.key))
        data[len(data) // 3] ^= 1
        store.put(info.key, bytes(data))
    with pytest.raises(CorruptData, match="does not match its digest"):
        read(snapshot, "pages-1.img")


def test_a_missing_pack_is_named(images: Path) -> None:
    store = MemoryStore()
    snapshot = stored(store, images)
    for info in list(store.list("t/packs/")):
        store.delete(info.key)
    with pytest.raises(CorruptData, match="is missing"):
        read(snapshot, "pages-2.img")


def test_a_pack_s_header_is_read_once(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = stored(MemoryStore(), images)
    learned: list[str] = []
    learn = PackReader.learn_header
    monkeypatch.setattr(
        PackReader,
        "learn_header",
        lambda self, pack_id, header: (learned.append(pack_id), learn(self, pack_id, header))[1],
    )
    monkeypatch.setattr(ordered, "MAX_BLOCK_BYTES", MIB)
    monkeypatch.setattr("fsnap.snapshots.fetch.FEED_THREADS_PER_CPU", 1)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    assert read(snapshot, "pages-1.img") == (images / "pages-1.img").read_bytes()
    assert len(learned) == len(set(learned)) > 0
