"""The memory store beyond the port's rules: it refuses what a directory could not hold."""

from __future__ import annotations

import pytest

from fsnap.errors import ObjectExists, StoreError
from fsnap.stores.memory import MemoryStore


@pytest.mark.parametrize(("first", "second"), [("a", "a/b"), ("a/b/c", "a/b"), ("a/b", "a/b/c/d")])
def test_no_key_is_another_one_s_directory(first: str, second: str) -> None:
    store = MemoryStore()
    for near in ("a-", "a.b/c", "a0", "b/a"):
        store.put(near, b"x")
    store.put(first, b"x")
    for write in (store.put, store.create):
        with pytest.raises(StoreError, match=r"directory of|is an object") as failure:
            write(second, b"x")
        assert not isinstance(failure.value, ObjectExists)
    store.delete(first)
    store.create(second, b"x")


def test_a_listing_is_of_its_moment() -> None:
    store = MemoryStore()
    store.put("a", b"x")
    rows = store.list()
    store.put("b", b"x")
    store.delete("a")
    assert [row.key for row in rows] == ["a"]
