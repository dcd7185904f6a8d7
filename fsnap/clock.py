"""The clock, the only module that reads time; everything else is given one.

Budgets are counted on the monotonic clock, records carry wall time for people,
leases run on ``CLOCK_BOOTTIME`` because it goes on while a machine sleeps.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What fsnap asks of time."""

    def mono_s(self) -> float:
        """Seconds on the monotonic clock."""
        ...

    def boot_s(self) -> float:
        """Seconds since boot, suspended time included."""
        ...

    def wall(self) -> datetime:
        """Now, in UTC."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class SystemClock:
    """The machine's clocks."""

    def mono_s(self) -> float:
        return time.monotonic()

    def boot_s(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def wall(self) -> datetime:
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        time.sleep(max(0.0, seconds))


def rfc3339(moment: datetime) -> str:
    """*moment* as ``2026-11-21T22:09:52.123Z``; millisecond precision, always UTC."""
    utc = moment.astimezone(UTC)
    return utc.strftime("%Y-%m-%dT%H:%M:%S.") + f"{utc.microsecond // 1000:03d}Z"


def parse_rfc3339(text: str) -> datetime:
    """The moment that *text* names; ``ValueError`` when it is not RFC 3339 with a zone."""
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    if moment.tzinfo is None:
        raise ValueError(f"no time zone in {text!r}")
    return moment.astimezone(UTC)
