"""A clock that tests move, and a place where posted events arrive."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from fsnap.core.events import Notice, NoticeCancelled

PATIENCE_S = 20.0
"""How long a test waits for what must come; reached only when it fails."""


@dataclass
class FakeClock:
    """Time stands still until ``pass_s``."""

    mono: float = 1000.0
    now: datetime = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)

    def mono_s(self) -> float:
        return self.mono

    def boot_s(self) -> float:
        return self.mono

    def wall(self) -> datetime:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pass_s(seconds)

    def pass_s(self, seconds: float) -> None:
        self.mono += seconds
        self.now += timedelta(seconds=seconds)


@dataclass
class Inbox:
    """Collects what a source posts."""

    events: list[Notice | NoticeCancelled] = field(default_factory=list)
    seen_s: list[float] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def post(self, event: Notice | NoticeCancelled, seen_mono_s: float) -> None:
        with self.changed:
            self.events.append(event)
            self.seen_s.append(seen_mono_s)
            self.changed.notify_all()

    def wait(self, count: int) -> list[Notice | NoticeCancelled]:
        """Wait for *count* events in all."""
        limit = time.monotonic() + PATIENCE_S
        with self.changed:
            while len(self.events) < count:
                assert self.changed.wait(limit - time.monotonic()), f"only {self.events}"
            return list(self.events)

    def notice(self, index: int) -> Notice:
        event = self.events[index]
        assert isinstance(event, Notice)
        return event


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def log() -> list[str]:
    """Messages that were logged at WARNING or above during the test."""
    return []


@pytest.fixture(autouse=True)
def _catch_log(log: list[str]) -> object:
    from loguru import logger

    sink = logger.add(lambda message: log.append(message.record["message"]), level="WARNING")
    yield
    logger.remove(sink)
