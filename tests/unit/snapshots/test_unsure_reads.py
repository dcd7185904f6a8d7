"""A part of an object that changed on its way is read again; one that is damaged is not believed for that."""

from __future__ import annotations

from pathlib import Path

import pytest

from fsnap.errors import CorruptData
from fsnap.snapshots.fetch import Snapshot
from fsnap.snapshots.packread import READS
from fsnap.stores.base import Store
from fsnap.stores.memory import MemoryStore
from tests.unit.snapshots.lab import PREFIX, Lab, fill, tree


class Flipping:
    """Hands parts of *store*'s packs on with a bit flipped in the middle, the first *times* for each pack."""

    def __init__(self, store: MemoryStore, times: int) -> None:
        self._store = store
        self._times = times
        self.flipped: dict[str, int] = {}

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        data = bytearray(self._store.get(key, start=start, length=length))
        if "/packs/" in key and length and self.flipped.get(key, 0) < self._times:
            self.flipped[key] = self.flipped.get(key, 0) + 1
            data[len(data) // 2] ^= 1
        return bytes(data)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    lab = Lab()
    (tmp_path / "source").mkdir()
    (tmp_path / "dest").mkdir()
    fill(tmp_path / "source", {"a": bytes(range(256)) * 4000, "d/b": b"2" * 10_000})
    lab.capture("s1", tree(tmp_path / "source"))
    return lab


def opened(store: Store) -> Snapshot:
    return Snapshot.open(store=store, prefix=PREFIX, snapshot_id="s1", manifest_digest=None)


@pytest.mark.parametrize("times", [1, READS - 1])
def test_what_changed_on_its_way_is_read_again(lab: Lab, tmp_path: Path, times: int) -> None:
    flipping = Flipping(lab.store, times)
    opened(flipping).restore_tree("state-0", tmp_path / "dest")  # type: ignore[arg-type]
    assert flipping.flipped
    assert (tmp_path / "dest" / "a").read_bytes() == bytes(range(256)) * 4000
    assert (tmp_path / "dest" / "d" / "b").read_bytes() == b"2" * 10_000


def test_what_stays_wrong_is_damaged(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(CorruptData, match="packs/"):
        opened(Flipping(lab.store, 2 * READS)).restore_tree("state-0", tmp_path / "dest")  # type: ignore[arg-type]
