"""The one place that retries.

Backoff is exponential with full jitter (each wait is uniform between nothing and the
cap of its step), so that a thousand nodes that lost the store together do not come
back together.  How long a call may take in all is the caller's :class:`Patience`: a
heartbeat gives up soon, a restore's fetches do not.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from fsnap.clock import Clock, SystemClock
from fsnap.errors import FsnapError, ObjectExists, ObjectMissing
from fsnap.stores.base import Buffer, Hurriable, ObjectInfo, Store

_Result = TypeVar("_Result")

WATCH_S = 0.2
"""How often the step of a watched wait is called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long one call is tried.

    At most *attempts* tries; after the *n*-th one a wait of up to
    ``min(cap_s, base_s * 2**(n-1))`` seconds; and no try that would begin *total_s*
    seconds after the call did.  A store whose single call can be bounded
    (:class:`~fsnap.stores.base.Hurriable`) is bounded by *total_s* too.
    """

    attempts: int = 6
    base_s: float = 0.2
    cap_s: float = 10.0
    total_s: float | None = None

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.base_s < 0 or self.cap_s < 0:
            raise ValueError(f"no such patience: {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """A try that failed and is followed by another one: what ``on_retry`` is told, before the wait."""

    operation: str
    key: str
    attempt: int
    """The failed try, from 1."""

    wait_s: float
    error: FsnapError


class OnRetry(Protocol):
    def __call__(self, retry: Retry, /) -> None: ...


class RetryingStore:
    """*inner* with retries.  Its errors are those of the last try, unchanged.

    *rng* gives numbers in [0, 1); *sleep* may raise to end the wait and the call.
    """

    def __init__(
        self,
        inner: Store,
        *,
        patience: Patience | None = None,
        clock: Clock | None = None,
        sleep: Callable[[float], None] | None = None,
        rng: Callable[[], float] = random.random,
        on_retry: OnRetry = lambda retry: None,
    ) -> None:
        self._given = inner
        self._patience = patience or Patience()
        self._inner = inner
        total_s = self._patience.total_s
        if total_s is not None and isinstance(inner, Hurriable):
            self._inner = inner.hurried(total_s)
        self._clock = clock or SystemClock()
        self._sleep = sleep or self._clock.sleep
        self._rng = rng
        self._on_retry = on_retry

    @property
    def url(self) -> str:
        return self._inner.url

    def with_patience(self, patience: Patience) -> RetryingStore:
        """The same store, tried as *patience* says."""
        return self._with(patience=patience, sleep=self._sleep)

    def within(self, total_s: float) -> RetryingStore:
        """The same store, each call of which gives up after about *total_s* seconds."""
        return self.with_patience(replace(self._patience, total_s=total_s))

    def watched(self, step: Callable[[], None]) -> RetryingStore:
        """The same store; *step* is called often while it waits for the next try, and may end the call."""

        def sleep(seconds: float) -> None:
            while seconds > 0:
                step()
                self._sleep(min(seconds, WATCH_S))
                seconds -= WATCH_S
            step()

        return self._with(patience=self._patience, sleep=sleep)

    def _with(self, *, patience: Patience, sleep: Callable[[float], None]) -> RetryingStore:
        return RetryingStore(
            self._given,
            patience=patience,
            clock=self._clock,
            sleep=sleep,
            rng=self._rng,
            on_retry=self._on_retry,
        )

    def put(self, key: str, data: Buffer) -> None:
        tries = self._tries("put", key)
        self._run(tries, lambda: self._inner.put(key, data))

    def create(self, key: str, data: Buffer) -> None:
        """Create, and say rightly who won.

        Once a try has failed without an answer, "exists already" may speak of that
        very try.  Then the object is read back, and if it holds *data* the create was
        ours.  So *data* must be unlike what any other creator would write (the
        journal's batches carry a nonce).
        """
        tries = self._tries("create", key)

        def attempt() -> None:
            try:
                self._inner.create(key, data)
            except ObjectExists:
                if tries.failed == 0 or not self._holds(tries, key, data):
                    raise

        self._run(tries, attempt)

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        tries = self._tries("get", key)
        return self._run(tries, lambda: self._inner.get(key, start=start, length=length))

    def list(self, prefix: str = "", *, after: str = "") -> Iterator[ObjectInfo]:
        """As the port says; a failure part way goes on after the last key, with fresh patience."""
        return self._rows(self._inner.list(prefix, after=after), prefix, after)

    def _rows(self, rows: Iterator[ObjectInfo], prefix: str, after: str) -> Iterator[ObjectInfo]:
        tries = self._tries("list", prefix)
        while True:
            try:
                row = next(rows, None)
            except FsnapError as error:
                tries.wait_or_raise(error)
                rows = self._inner.list(prefix, after=after)
                continue
            if row is None:
                return
            yield row
            after = row.key
            tries = self._tries("list", prefix)

    def delete(self, key: str) -> None:
        tries = self._tries("delete", key)
        self._run(tries, lambda: self._inner.delete(key))

    def _holds(self, tries: _Tries, key: str, data: Buffer) -> bool:
        try:
            return self._run(tries, lambda: self._inner.get(key)) == bytes(data)
        except ObjectMissing:
            return False  # it was somebody's, and is deleted again

    def _tries(self, operation: str, key: str) -> _Tries:
        return _Tries(self._patience, self._clock, self._sleep, self._rng, self._on_retry, operation, key)

    def _run(self, tries: _Tries, call: Callable[[], _Result]) -> _Result:
        while True:
            try:
                return call()
            except FsnapError as error:
                tries.wait_or_raise(error)


class _Tries:
    """The tries of one call: how many have failed, and when it began."""

    def __init__(
        self,
        patience: Patience,
        clock: Clock,
        sleep: Callable[[float], None],
        rng: Callable[[], float],
        on_retry: OnRetry,
        operation: str,
        key: str,
    ) -> None:
        self.failed = 0
        self._patience = patience
        self._clock = clock
        self._sleep = sleep
        self._rng = rng
        self._on_retry = on_retry
        self._operation = operation
        self._key = key
        self._began_s = clock.mono_s()

    def wait_or_raise(self, error: FsnapError) -> None:
        """Count *error* as a failed try and wait for the next one; raise it when there is none."""
        self.failed += 1
        patience = self._patience
        if not error.retryable or self.failed >= patience.attempts:
            raise error
        step = min(self.failed - 1, 60)  # keeps the power finite; the cap rules long before
        wait_s = self._rng() * min(patience.cap_s, patience.base_s * 2.0**step)
        if patience.total_s is not None:
            elapsed_s = self._clock.mono_s() - self._began_s
            if elapsed_s + wait_s >= patience.total_s:
                raise error
        self._on_retry(
            Retry(operation=self._operation, key=self._key, attempt=self.failed, wait_s=wait_s, error=error)
        )
        self._sleep(wait_s)
