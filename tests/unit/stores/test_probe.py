"""The probe: each way in which a store may be unfit is found, and nothing stays behind."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator

import pytest

from fsnap.errors import ObjectMissing, StoreError, StoreUnavailable, StoreUnfit
from fsnap.stores.base import Buffer, ObjectInfo
from fsnap.stores.memory import MemoryStore
from fsnap.stores.probe import probe_conditional_create, race_creates


class Ignoring(MemoryStore):
    """Takes the create-only condition and ignores it."""

    def create(self, key: str, data: Buffer) -> None:
        self.put(key, data)


class Refusing(MemoryStore):
    """Refuses the second create, yet overwrites."""

    def create(self, key: str, data: Buffer) -> None:
        try:
            super().create(key, data)
        except StoreError:
            self.put(key, data)
            raise


class WholeForAPart(MemoryStore):
    """Ignores ranges."""

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        return super().get(key)


class StaleListing(MemoryStore):
    """Lists what was there a while ago."""

    def list(self, prefix: str = "", *, after: str = "") -> Iterator[ObjectInfo]:
        return iter(())


class CheckThenWrite(MemoryStore):
    """Honours the condition, but not atomically: what one request at a time cannot show."""

    def __init__(self) -> None:
        super().__init__()
        self.meeting = threading.Barrier(3)

    def create(self, key: str, data: Buffer) -> None:
        try:
            self.get(key)
        except ObjectMissing:
            self.meeting.wait()
            self.put(key, data)
        else:
            super().create(key, data)


@pytest.mark.parametrize(
    ("store", "why"),
    [
        (Ignoring(url="s3://bad"), "s3://bad: the store ignores the create-only condition"),
        (Refusing(), "does not give back what was written"),
        (WholeForAPart(), "wrong bytes for a part"),
        (StaleListing(), "does not list what was just written"),
    ],
)
def test_an_unfit_store_is_refused(store: MemoryStore, why: str) -> None:
    with pytest.raises(StoreUnfit, match=why) as failure:
        probe_conditional_create(store)
    assert failure.value.exit_code == 174
    assert "\n" not in str(failure.value)
    assert list(MemoryStore.list(store)) == []


def test_a_network_that_flips_a_bit_now_and_then_condemns_no_store(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    real, answers = store.get, iter([True, False, True, True, True, True, False])

    def get(key: str, *, start: int = 0, length: int | None = None) -> bytes:
        data = real(key, start=start, length=length)
        return bytes([data[0] ^ 1]) + data[1:] if next(answers) else data

    monkeypatch.setattr(store, "get", get)
    probe_conditional_create(store)
    assert next(answers, None) is None


@pytest.mark.parametrize("method", ["create", "get", "list", "delete"])
@pytest.mark.parametrize("error", [StoreError("denied"), StoreUnavailable("no answer")])
def test_what_fails_is_told_as_it_is(monkeypatch: pytest.MonkeyPatch, method: str, error: StoreError) -> None:
    store = MemoryStore()
    real = getattr(store, method)
    calls = []

    def fail_once(*arguments: object, **named: object) -> object:
        calls.append(arguments)
        if len(calls) == 1:
            raise error
        return real(*arguments, **named)

    monkeypatch.setattr(store, method, fail_once)
    with pytest.raises(StoreError) as failure:
        probe_conditional_create(store)
    assert failure.value is error
    if method != "delete":
        assert list(MemoryStore.list(store)) == []


def test_what_a_killed_probe_left_is_removed_a_day_later(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    probe_conditional_create(store)
    for key, age_s in (("probe/young", 3600.0), ("probe/old", 90_000.0), ("tasks/old", 90_000.0)):
        store.put(key, b"x")
        data, modified_s = store._objects[key]
        store._objects[key] = (data, modified_s - age_s)
    probe_conditional_create(store)
    assert [row.key for row in store.list()] == ["probe/young", "tasks/old"]


def test_the_key_is_the_nonce_s() -> None:
    seen: list[str] = []

    class Watching(MemoryStore):
        def create(self, key: str, data: Buffer) -> None:
            seen.append(key)
            super().create(key, data)

    probe_conditional_create(Watching(), nonce=lambda: "abc")
    assert seen == ["probe/abc", "probe/abc"]


def test_a_race_finds_a_store_that_checks_and_then_writes() -> None:
    store = CheckThenWrite()
    with pytest.raises(StoreUnfit, match=re.escape("3 of 3 concurrent creates of one key succeeded")):
        race_creates(store, rounds=1, creators=3)
    assert list(store.list()) == []


def test_a_race_raises_other_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()

    def fail(key: str, data: Buffer) -> None:
        raise StoreUnavailable("no answer")

    monkeypatch.setattr(store, "create", fail)
    with pytest.raises(StoreUnavailable, match="no answer"):
        race_creates(store, rounds=1, creators=2)
