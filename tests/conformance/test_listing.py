"""The rules of :mod:`fsnap.stores.base` on listings, deletes and keys, and the probe, over every adapter."""

from __future__ import annotations

import string
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise, product

import pytest

from fsnap.errors import ObjectMissing
from fsnap.stores.base import Store
from fsnap.stores.keys import BadKey
from fsnap.stores.probe import probe_conditional_create
from tests.conformance.support import OpenStore, keys_of

EVERY_SIGN = string.ascii_letters + string.digits + "._=-"


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


def test_two_prefixes_do_not_meet(open_again: OpenStore) -> None:
    """Not of the port, but what a listing by prefix relies on: nothing of a neighbour is listed."""
    store = open_again()
    store.put("tasks/a/1", b"x")
    store.put("tasks/ab/1", b"x")
    assert keys_of(store, "tasks/a/") == ["tasks/a/1"]


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
