"""The rules of :mod:`fsnap.stores.base`, over every adapter."""

from __future__ import annotations

import string
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise, product

import pytest

from fsnap.errors import CorruptData, ObjectExists, ObjectMissing, StoreError
from fsnap.stores.base import Store
from fsnap.stores.keys import BadKey
from fsnap.stores.probe import probe_conditional_create, race_creates
from tests.conformance.conftest import OpenStore

MIB = 1 << 20
EVERY_SIGN = string.ascii_letters + string.digits + "._=-"


def keys_of(store: Store, prefix: str = "", after: str = "") -> list[str]:
    return [row.key for row in store.list(prefix, after=after)]


def pattern(length: int) -> bytes:
    """Bytes no two neighbouring KiB of which are alike."""
    return b"".join(number.to_bytes(4, "big") for number in range(length // 4 + 1))[:length]


class TestPutAndGet:
    @pytest.mark.parametrize("length", [0, 1, 4096, 5 * MIB + 3])
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

        with ThreadPoolExecutor(4) as pool:
            readers = [pool.submit(read) for _ in range(2)]
            writers = [
                pool.submit(lambda part: [store.put("hot", v) for v in part], values[n::2]) for n in (0, 1)
            ]
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


class TestList:
    KEYS = (
        "a",
        "b-1",
        "b.1",
        "b/1",
        "b/10",
        "b/2",
        "b/c/1",
        "b/c-/1",
        "b/c-/2/3",
        "b/c-.d/x",
        "b/c.d",
        "b0",
        "b=/x",
        "bb",
        "Z",
        "_z",
    )

    @pytest.fixture
    def filled(self, store: Store) -> Store:
        for key in reversed(self.KEYS):
            store.put(key, key.encode())
        return store

    def test_an_empty_store_lists_nothing(self, store: Store) -> None:
        assert keys_of(store) == []
        assert keys_of(store, "not/there/") == []

    def test_in_byte_order(self, filled: Store) -> None:
        assert keys_of(filled) == sorted(self.KEYS)

    def test_prefix_and_after(self, filled: Store) -> None:
        prefixes = ("", "a", "b", "b/", "b/1", "b/c", "b/c/", "b/c/1", "b/c-", "b.", "c", "zz/", "b/1/")
        afters = (
            "",
            "a",
            "b",
            "b-",
            "b/",
            "b/1",
            "b/2",
            "b/c",
            "b/c/1",
            "b/c-/1",
            "b/c-.d",
            "b/c.d",
            "b-1",
            "b0",
            "bz",
        )
        wanted = {
            (prefix, after): [key for key in sorted(self.KEYS) if key.startswith(prefix) and key > after]
            for prefix, after in product(prefixes, afters)
        }
        assert {asked: keys_of(filled, *asked) for asked in wanted} == wanted

    def test_says_sizes_and_times(self, filled: Store) -> None:
        rows = {row.key: row for row in filled.list("b/")}
        assert {key: row.size_bytes for key, row in rows.items()} == {
            key: len(key) for key in self.KEYS if key.startswith("b/")
        }
        assert all(row.modified_s > 1_600_000_000 for row in rows.values())

    def test_more_than_a_page(self, store: Store) -> None:
        keys = [f"tasks/t{number % 3}/{number:05d}" for number in range(1100)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda key: store.create(key, b""), keys))
        assert keys_of(store, "tasks/") == sorted(keys)
        assert keys_of(store, "tasks/t1/") == sorted(key for key in keys if "t1/" in key)
        after = sorted(keys)[50]
        assert keys_of(store, "", after) == sorted(keys)[51:]

    def test_shows_what_was_created_before_it_began(self, store: Store) -> None:
        for number in range(20):
            store.create(f"journal/{number:03d}", b"record")
            assert keys_of(store, "journal/", f"journal/{number - 1:03d}" if number else "") == [
                f"journal/{number:03d}"
            ]
            store.delete(f"journal/{number:03d}")
            assert keys_of(store, "journal/") == []

    def test_while_others_write_misses_nothing_that_stays(self, store: Store) -> None:
        stay = [f"d/{number:02d}/stays" for number in range(10)]
        for key in stay:
            store.put(key, b"here")
        stop = threading.Event()

        def churn(writer: int) -> None:
            number = 0
            while not stop.is_set():
                key = f"d/{number % 10:02d}/goes{writer}"
                store.put(key, b"x")
                store.put(f"d/{number % 10:02d}/stays", b"here")
                store.delete(key)
                number += 1

        with ThreadPoolExecutor(2) as pool:
            writers = [pool.submit(churn, writer) for writer in range(2)]
            try:
                for _ in range(15):
                    listed = keys_of(store, "d/")
                    assert [key for key in listed if key in stay] == stay
                    assert all(first < second for first, second in pairwise(listed))
            finally:
                stop.set()
            for writer in writers:
                writer.result()


class TestDelete:
    def test_removes(self, store: Store) -> None:
        store.put("a/b/c", b"x")
        store.put("a/b/d", b"x")
        store.delete("a/b/c")
        with pytest.raises(ObjectMissing):
            store.get("a/b/c")
        assert keys_of(store) == ["a/b/d"]

    def test_what_is_missing_is_no_error(self, store: Store) -> None:
        store.put("a/b/c", b"x")
        for key in ("a", "a/b", "a/b/x", "none", "a/none/x"):
            store.delete(key)
        assert keys_of(store) == ["a/b/c"]

    def test_against_concurrent_creates_in_the_same_directory(self, store: Store) -> None:
        def cycle(worker: int) -> None:
            for number in range(25):
                key = f"deep/er/{number % 2}/worker{worker}"
                store.create(key, b"x")
                assert store.get(key) == b"x"
                store.delete(key)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(cycle, range(4)))
        assert keys_of(store) == []


class TestKeys:
    @pytest.mark.parametrize(
        "key",
        [
            EVERY_SIGN,
            f"{EVERY_SIGN}/{EVERY_SIGN}",
            "...",
            "-",
            "=",
            ".hidden/.too",
            "x" * 255,
            "/".join(["d" * 30] * 12),
        ],
    )
    def test_every_allowed_sign(self, store: Store, key: str) -> None:
        store.create(key, b"value")
        assert store.get(key) == b"value"
        assert keys_of(store) == [key]
        assert keys_of(store, key) == [key]
        store.delete(key)
        assert keys_of(store) == []

    @pytest.mark.parametrize(
        "key",
        ["", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/./b", "~a", "a b", "é", "a\n", "a\0", "a\\b",
         "a%2fb", "a:b", "x" * 256, "/".join("ab" for _ in range(400))],
    )  # fmt: skip
    def test_anything_else_is_refused(self, store: Store, key: str) -> None:
        with pytest.raises(BadKey):
            store.put(key, b"x")
        with pytest.raises(BadKey):
            store.create(key, b"x")
        with pytest.raises(BadKey):
            store.get(key)
        with pytest.raises(BadKey):
            store.delete(key)
        assert keys_of(store) == []

    @pytest.mark.parametrize("prefix", ["/", "/a", "a//", "../", "a/../", "a b", "~", "é", "a\n"])
    def test_nor_can_a_key_begin_so(self, store: Store, prefix: str) -> None:
        with pytest.raises(BadKey):
            store.list(prefix)
        with pytest.raises(BadKey):
            store.list("", after=prefix)


class TestProbe:
    def test_passes_and_leaves_nothing(self, store: Store) -> None:
        probe_conditional_create(store)
        assert keys_of(store) == []

    def test_each_probe_is_of_its_own(self, store: Store) -> None:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: probe_conditional_create(store), range(8)))
        assert keys_of(store) == []


def test_two_prefixes_do_not_meet(open_again: OpenStore) -> None:
    """Not of the port, but what a listing by prefix relies on: nothing of a neighbour is listed."""
    store = open_again()
    store.put("tasks/a/1", b"x")
    store.put("tasks/ab/1", b"x")
    assert keys_of(store, "tasks/a/") == ["tasks/a/1"]


def test_an_error_is_one_line_that_names_the_key(store: Store) -> None:
    with pytest.raises(StoreError) as failure:
        store.get("tasks/none")
    assert "\n" not in str(failure.value)
    assert "tasks/none" in str(failure.value)
