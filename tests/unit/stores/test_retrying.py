"""Retries: when, how long, and who won a create whose answer was lost."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsnap.errors import (
    CorruptData,
    ObjectExists,
    ObjectMissing,
    StoreError,
    StoreUnavailable,
    StoreUnfit,
)
from fsnap.stores.base import Buffer, CorruptTransfer, ObjectInfo, Store
from fsnap.stores.keys import BadKey
from fsnap.stores.memory import MemoryStore
from fsnap.stores.retrying import Patience, Retry, RetryingStore


class FakeClock:
    """Time that passes when somebody sleeps, or says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.slept_s: list[float] = []

    def mono_s(self) -> float:
        return self.now_s

    def boot_s(self) -> float:
        return self.now_s

    def wall(self) -> datetime:
        return datetime.fromtimestamp(self.now_s, UTC)

    def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now_s += seconds


class FaultyStore:
    """A memory store; *faults* says for each call in turn what befalls it, then all goes well.

    ``lost``: the request is lost.  ``deaf``: it is carried out, the answer is lost.
    """

    def __init__(self, *faults: str | Exception) -> None:
        self.memory = MemoryStore()
        self.faults = list(faults)
        self.calls = 0
        self.url = "memory://faulty"

    def _call(self, act: Callable[[], object]) -> None:
        self.calls += 1
        fault = self.faults.pop(0) if self.faults else ""
        if isinstance(fault, Exception):
            raise fault
        if fault != "lost":
            act()
        if fault:
            raise StoreUnavailable(f"call {self.calls} was {fault}")

    def put(self, key: str, data: Buffer) -> None:
        self._call(lambda: self.memory.put(key, data))

    def create(self, key: str, data: Buffer) -> None:
        self._call(lambda: self.memory.create(key, data))

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        self._call(lambda: None)
        return self.memory.get(key, start=start, length=length)

    def list(self, prefix: str = "", *, after: str = "") -> Iterator[ObjectInfo]:
        for row in self.memory.list(prefix, after=after):
            self._call(lambda: None)
            yield row

    def delete(self, key: str) -> None:
        self._call(lambda: self.memory.delete(key))


def retrying(inner: Store, clock: FakeClock | None = None, **patience: float) -> RetryingStore:
    return RetryingStore(
        inner,
        patience=Patience(**{"attempts": 5, "base_s": 1.0, "cap_s": 4.0} | patience),  # type: ignore[arg-type]
        clock=clock or FakeClock(),
        rng=lambda: 0.5,
    )


CALLS: dict[str, Callable[[Store], object]] = {
    "put": lambda store: store.put("key", b"x"),
    "create": lambda store: store.create("new", b"x"),
    "get": lambda store: store.get("key", start=1, length=2),
    "list": lambda store: [row.key for row in store.list("k")],
    "delete": lambda store: store.delete("key"),
}


class TestWhen:
    @pytest.mark.parametrize("call", CALLS)
    def test_what_may_pass_is_tried_again(self, call: str) -> None:
        inner = FaultyStore()
        inner.memory.put("key", b"value")
        inner.faults = ["lost", CorruptTransfer("flipped"), "lost"]
        result = CALLS[call](retrying(inner))
        assert inner.calls == 4
        assert result == {"get": b"al", "list": ["key"]}.get(call)

    @pytest.mark.parametrize("call", CALLS)
    @pytest.mark.parametrize(
        "error",
        [StoreError("denied"), StoreUnfit("no"), ObjectMissing("gone"), CorruptData("short"), BadKey("~")],
        ids=lambda error: type(error).__name__,
    )
    def test_anything_else_is_not(self, call: str, error: Exception) -> None:
        clock, inner = FakeClock(), FaultyStore()
        inner.memory.put("key", b"value")
        inner.faults = [error]
        with pytest.raises(type(error)) as failure:
            CALLS[call](retrying(inner, clock))
        assert failure.value is error
        assert (inner.calls, clock.slept_s) == (1, [])

    @pytest.mark.parametrize("call", CALLS)
    def test_the_last_error_is_raised_when_the_attempts_are_used_up(self, call: str) -> None:
        inner = FaultyStore(*["lost"] * 9)
        inner.memory.put("key", b"value")
        with pytest.raises(StoreUnavailable, match="call 5 was lost"):
            CALLS[call](retrying(inner))
        assert inner.calls == 5

    def test_a_clean_store_is_asked_once(self) -> None:
        inner, clock = FaultyStore(), FakeClock()
        store = retrying(inner, clock)
        store.create("key", b"x")
        with pytest.raises(ObjectExists):
            store.create("key", b"y")
        assert (inner.calls, clock.slept_s) == (2, [])


class TestHowLong:
    def test_waits_double_up_to_the_cap(self) -> None:
        clock = FakeClock()
        retrying(FaultyStore(*["lost"] * 5), clock, attempts=6).put("key", b"x")
        assert clock.slept_s == [0.5, 1.0, 2.0, 2.0, 2.0]

    def test_jitter_is_full(self) -> None:
        clock, rng = FakeClock(), random.Random(7)
        store = RetryingStore(
            FaultyStore(*["lost"] * 200),
            patience=Patience(attempts=201, base_s=1.0, cap_s=1.0),
            clock=clock,
            rng=rng.random,
        )
        store.put("key", b"x")
        assert min(clock.slept_s) < 0.05 < 0.95 < max(clock.slept_s) <= 1.0

    def test_many_attempts_do_not_overflow(self) -> None:
        clock = FakeClock()
        retrying(FaultyStore(*["lost"] * 3000), clock, attempts=3001).put("key", b"x")
        assert max(clock.slept_s) == 2.0

    def test_no_try_begins_after_the_total(self) -> None:
        clock, inner = FakeClock(), FaultyStore(*["lost"] * 100)
        with pytest.raises(StoreUnavailable):
            retrying(inner, clock, attempts=100, total_s=4.0).put("key", b"x")
        assert clock.slept_s == [0.5, 1.0, 2.0]
        assert clock.now_s < 1004.0

    def test_the_time_of_the_tries_counts(self) -> None:
        clock, inner = FakeClock(), FaultyStore(*["lost"] * 100)
        real = inner.put

        def slow_put(key: str, data: Buffer) -> None:
            clock.now_s += 3.0
            real(key, data)

        inner.put = slow_put  # type: ignore[method-assign]
        with pytest.raises(StoreUnavailable):
            retrying(inner, clock, attempts=100, total_s=7.0).put("key", b"x")
        assert inner.calls == 2

    def test_within_bounds_one_view_and_leaves_the_other(self) -> None:
        clock, inner = FakeClock(), FaultyStore(*["lost"] * 4)
        store = retrying(inner, clock)
        with pytest.raises(StoreUnavailable, match="call 1"):
            store.within(0.4).put("heartbeat", b"x")
        store.put("pack", b"x")
        assert inner.calls == 5

    def test_a_store_that_can_is_hurried(self) -> None:
        class Hurriable(FaultyStore):
            def hurried(self, wait_s: float) -> Store:
                assert wait_s == 3.0
                return hurried

        patient, hurried = Hurriable(), FaultyStore()
        store = retrying(patient)
        store.within(3.0).put("key", b"x")
        assert (patient.calls, hurried.calls) == (0, 1)
        store.within(3.0).with_patience(Patience()).put("key", b"x")
        assert (patient.calls, hurried.calls) == (1, 1)

    def test_a_sleep_may_end_the_call(self) -> None:
        class Stopped(Exception):
            pass

        def stop(_seconds: float) -> None:
            raise Stopped

        store = RetryingStore(FaultyStore("lost"), clock=FakeClock(), sleep=stop)
        with pytest.raises(Stopped):
            store.put("key", b"x")

    def test_a_long_wait_can_be_called_off_soon(self) -> None:
        class Stopped(Exception):
            pass

        clock = FakeClock()

        def step() -> None:
            if clock.now_s > 1001.0:
                raise Stopped

        store = RetryingStore(
            FaultyStore("lost"), patience=Patience(base_s=60.0, cap_s=60.0), clock=clock, rng=lambda: 0.9
        ).watched(step)
        with pytest.raises(Stopped):
            store.put("key", b"x")
        assert clock.now_s < 1001.5

    def test_a_wait_that_is_watched_is_as_long_as_another(self) -> None:
        steps = []
        clock = FakeClock()
        store = RetryingStore(
            FaultyStore("lost"), patience=Patience(base_s=1.0), clock=clock, rng=lambda: 0.5
        ).watched(lambda: steps.append(clock.now_s))
        store.put("key", b"x")
        assert sum(clock.slept_s) == pytest.approx(0.5)
        assert len(steps) > 2

    def test_each_retry_is_told(self) -> None:
        told: list[Retry] = []
        store = RetryingStore(
            FaultyStore("lost", "lost"),
            patience=Patience(base_s=1.0),
            clock=FakeClock(),
            rng=lambda: 0.5,
            on_retry=told.append,
        )
        store.put("tasks/x", b"x")
        assert [(retry.operation, retry.key, retry.attempt, retry.wait_s) for retry in told] == [
            ("put", "tasks/x", 1, 0.5),
            ("put", "tasks/x", 2, 1.0),
        ]
        assert str(told[0].error) == "call 1 was lost"

    @pytest.mark.parametrize("wrong", [{"attempts": 0}, {"base_s": -1.0}, {"cap_s": -1.0}])
    def test_a_patience_that_cannot_be_is_refused(self, wrong: dict[str, float]) -> None:
        with pytest.raises(ValueError, match="no such patience"):
            Patience(**wrong)  # type: ignore[arg-type]


class TestCreate:
    def test_an_earlier_try_that_won_counts(self) -> None:
        inner = FaultyStore("deaf")
        retrying(inner).create("key", b"ours")
        assert inner.memory.get("key") == b"ours"

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_every_kind_of_buffer_is_compared(self, kind: type) -> None:
        retrying(FaultyStore("deaf")).create("key", kind(b"ours"))

    def test_another_one_s_object_does_not(self) -> None:
        inner = FaultyStore("lost")
        inner.memory.create("key", b"theirs")
        with pytest.raises(ObjectExists):
            retrying(inner).create("key", b"ours")

    def test_equal_bytes_do_not_count_when_the_first_try_was_answered(self) -> None:
        inner = FaultyStore()
        inner.memory.create("key", b"same")
        with pytest.raises(ObjectExists):
            retrying(inner).create("key", b"same")

    def test_the_read_back_is_retried_too(self) -> None:
        inner = FaultyStore("deaf", "", "lost", "lost")
        retrying(inner).create("key", b"ours")
        assert inner.calls == 5

    def test_an_object_that_is_gone_again_was_somebody_s(self) -> None:
        inner = FaultyStore("lost", ObjectExists("exists"))
        with pytest.raises(ObjectExists):
            retrying(inner).create("key", b"ours")

    def test_a_create_that_stays_unanswered_is_unknown(self) -> None:
        inner = FaultyStore("deaf", *["lost"] * 9)
        with pytest.raises(StoreUnavailable):
            retrying(inner).create("key", b"ours")

    @given(
        st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["", "lost", "deaf"])), max_size=40),
        st.integers(0, 2**32),
    )
    def test_of_many_on_a_bad_network_one_wins_and_knows_it(
        self, script: list[tuple[int, str]], seed: int
    ) -> None:
        """Creators take turns at each try and each read back; faults come as the script says."""
        memory = MemoryStore()
        views = [FaultyStore(*(fault for who, fault in script if who == creator)) for creator in range(4)]
        for view in views:
            view.memory = memory
        order = list(range(4))
        random.Random(seed).shuffle(order)
        said: dict[int, str] = {}
        pending = {
            creator: RetryingStore(
                views[creator],
                patience=Patience(attempts=60, base_s=0.0),
                clock=FakeClock(),
                sleep=lambda _s: others(),
            )
            for creator in order
        }

        def others() -> None:
            """While one waits for its next try, the next creator goes first."""
            if pending:
                creator, store = pending.popitem()
                try:
                    store.create("record", f"by {creator}".encode())
                except ObjectExists:
                    said[creator] = "lost"
                else:
                    said[creator] = "won"

        while pending:
            others()
        winners = [creator for creator, outcome in said.items() if outcome == "won"]
        assert len(said) == 4
        assert memory.get("record") == f"by {winners[0]}".encode()
        assert len(winners) == 1


class TestList:
    def test_goes_on_where_it_broke_off(self) -> None:
        inner = FaultyStore()
        keys = [f"k/{number}" for number in range(6)]
        for key in keys:
            inner.memory.put(key, b"")
        inner.faults = ["", "", "lost", "", "lost", "lost", ""]
        assert [row.key for row in retrying(inner).list("k/")] == keys
        assert [row.key for row in retrying(inner).list("k/", after="k/3")] == ["k/4", "k/5"]

    def test_progress_renews_the_patience(self) -> None:
        inner = FaultyStore()
        for number in range(6):
            inner.memory.put(f"k/{number}", b"")
        inner.faults = ["lost", "lost", ""] * 6
        assert len(list(retrying(inner, attempts=3).list("k/"))) == 6

    def test_what_the_reader_does_meanwhile_does_not_count(self) -> None:
        clock, inner = FakeClock(), FaultyStore()
        for number in range(3):
            inner.memory.put(f"k/{number}", b"")
        inner.faults = ["", "lost", "", "lost", ""]
        seen = []
        for row in retrying(inner, clock, total_s=5.0).list("k/"):
            clock.now_s += 100.0
            seen.append(row.key)
        assert len(seen) == 3


def test_the_url_is_the_inner_one() -> None:
    assert retrying(FaultyStore()).url == "memory://faulty"
