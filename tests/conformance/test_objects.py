"""The rules of :mod:`fsnap.stores.base` on single objects, over every adapter."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from fsnap.errors import CorruptData, ObjectExists, ObjectMissing, StoreError
from fsnap.stores.base import Store
from fsnap.stores.probe import race_creates
from tests.conformance.support import OpenStore, keys_of, pattern

MIB = 1 << 20


class TestPutAndGet:
    @pytest.mark.parametrize("length", [0, 1, 4096, 9 * MIB + 3])
    def test_gives_back_what_was_put(self, store: Store, length: int) -> None:
        store.put("a/b", pattern(length))
        assert store.get("a/b") == pattern(length)

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_takes_every_kind_of_buffer(self, store: Store, kind: type) -> None:
        store.put("put", kind(b"some bytes"))
        store.create("created", kind(b"other bytes"))
        assert (store.get("put"), store.get("created")) == (b"some bytes", b"other bytes")

    def test_takes_a_slice_of_a_larger_buffer(self, store: Store) -> None:
        store.put("slice", memoryview(pattern(10_000))[100:200])
        assert store.get("slice") == pattern(10_000)[100:200]

    def test_put_replaces(self, store: Store) -> None:
        store.put("key", b"a longer value")
        store.put("key", b"short")
        assert store.get("key") == b"short"
        assert [(row.key, row.size_bytes) for row in store.list()] == [("key", 5)]

    def test_a_missing_object_is_missing(self, store: Store) -> None:
        store.put("there/a", b"x")
        for key in ("nothing", "there", "there/b", "there/a0", "not/there/a"):
            with pytest.raises(ObjectMissing, match=key):
                store.get(key)

    def test_another_opening_sees_it(self, open_again: OpenStore) -> None:
        open_again().put("tasks/x", b"value")
        assert open_again().get("tasks/x") == b"value"

    def test_readers_see_old_or_new_bytes_never_a_mixture(self, store: Store) -> None:
        values = [bytes([number]) * (64 * 1024 + number) for number in range(16)]
        store.put("hot", values[0])
        stop = threading.Event()

        def read() -> int:
            reads = 0
            while not stop.is_set() or reads == 0:
                assert store.get("hot") in values
                assert keys_of(store) == ["hot"]
                reads += 1
            return reads

        def write(part: list[bytes]) -> None:
            for value in part:
                store.put("hot", value)

        with ThreadPoolExecutor(4) as pool:
            readers = [pool.submit(read) for _ in range(2)]
            writers = [pool.submit(write, values[half::2]) for half in (0, 1)]
            try:
                for writer in writers:
                    writer.result()
            finally:
                stop.set()
            assert all(reader.result() > 0 for reader in readers)
        assert store.get("hot") in values


class TestRanges:
    DATA = pattern(1000)

    @pytest.fixture(autouse=True)
    def _object(self, store: Store) -> None:
        store.put("object", self.DATA)

    @pytest.mark.parametrize(
        ("start", "length"),
        [(0, 1), (0, 1000), (0, None), (1, None), (999, None), (999, 1), (10, 200), (0, 0), (500, 0)],
    )
    def test_gives_exactly_the_bytes_asked_for(self, store: Store, start: int, length: int | None) -> None:
        end = None if length is None else start + length
        assert store.get("object", start=start, length=length) == self.DATA[start:end]

    def test_from_just_the_end_there_is_nothing(self, store: Store) -> None:
        assert store.get("object", start=1000) == b""
        assert store.get("object", start=1000, length=0) == b""

    @pytest.mark.parametrize(
        ("start", "length"),
        [(0, 1001), (999, 2), (1000, 1), (1001, None), (1001, 0), (5000, 10), (0, 1 << 40), (1 << 40, None)],
    )
    def test_an_object_that_ends_before_is_corrupt(
        self, store: Store, start: int, length: int | None
    ) -> None:
        with pytest.raises(CorruptData, match="object has 1000 bytes"):
            store.get("object", start=start, length=length)

    def test_an_empty_object_has_an_empty_range(self, store: Store) -> None:
        store.put("empty", b"")
        assert store.get("empty", start=0, length=0) == b""
        with pytest.raises(CorruptData):
            store.get("empty", start=0, length=1)
        with pytest.raises(CorruptData):
            store.get("empty", start=1)

    @pytest.mark.parametrize(("start", "length"), [(0, None), (0, 0), (3, 4), (3, None)])
    def test_a_missing_object_is_missing(self, store: Store, start: int, length: int | None) -> None:
        with pytest.raises(ObjectMissing):
            store.get("none", start=start, length=length)

    @pytest.mark.parametrize(("start", "length"), [(-1, None), (0, -1), (-5, 2)])
    def test_a_negative_range_is_refused(self, store: Store, start: int, length: int | None) -> None:
        with pytest.raises(ValueError, match="no such range"):
            store.get("object", start=start, length=length)


class TestCreate:
    def test_creates_once(self, store: Store) -> None:
        store.create("tasks/t/journal/1", b"first")
        with pytest.raises(ObjectExists):
            store.create("tasks/t/journal/1", b"second")
        assert store.get("tasks/t/journal/1") == b"first"

    def test_refuses_what_was_put(self, store: Store) -> None:
        store.put("key", b"")
        with pytest.raises(ObjectExists):
            store.create("key", b"second")
        assert store.get("key") == b""

    def test_the_same_bytes_are_refused_too(self, store: Store) -> None:
        store.create("key", b"same")
        with pytest.raises(ObjectExists):
            store.create("key", b"same")

    def test_creates_again_after_a_delete(self, store: Store) -> None:
        store.create("key", b"first")
        store.delete("key")
        store.create("key", b"second")
        assert store.get("key") == b"second"

    def test_creates_several_mib(self, store: Store) -> None:
        store.create("large", pattern(3 * MIB))
        with pytest.raises(ObjectExists):
            store.create("large", pattern(3 * MIB + 1))
        assert store.get("large") == pattern(3 * MIB)

    def test_of_any_number_of_creators_one_wins(self, open_again: OpenStore) -> None:
        stores = [open_again() for _ in range(2)]
        rounds = 3 if stores[0].url.startswith("s3:") else 20  # a contended create takes SeaweedFS a second
        for number in range(rounds):
            key = f"race/{number}/record"
            barrier = threading.Barrier(8)

            def attempt(creator: int, key: str = key, barrier: threading.Barrier = barrier) -> bytes | None:
                data = f"{creator}".encode() * 1000
                barrier.wait()
                try:
                    stores[creator % 2].create(key, data)
                except ObjectExists:
                    return None
                return data

            with ThreadPoolExecutor(8) as pool:
                won = [data for data in pool.map(attempt, range(8)) if data is not None]
            assert len(won) == 1
            assert stores[0].get(key) == won[0]

    def test_the_race_for_doctor_passes(self, store: Store) -> None:
        race_creates(store, rounds=2, creators=3)
        assert keys_of(store) == []


def test_an_error_is_one_line_that_names_the_key(store: Store) -> None:
    with pytest.raises(StoreError) as failure:
        store.get("tasks/none")
    assert "\n" not in str(failure.value)
    assert "tasks/none" in str(failure.value)
