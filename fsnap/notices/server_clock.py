"""Seconds left by the server's clock, told from its ``Date`` headers.

A deadline given in wall time means the clock of whoever gave it; the local one may
be minutes off.  An answer's ``Date`` was read from the server's clock between the
request and the answer, and cut to whole seconds, so each exchange bounds what
server time minus local monotonic time can be.  Some dozens together, asked at uneven
moments, bound it to within a few hundredths of a second.
"""

from __future__ import annotations

from collections import deque
from datetime import datetime

KEPT = 64
"""Exchanges that count: few enough that no clock drifts by a millisecond among them."""

DATE_RESOLUTION_S = 1.0


class ServerClock:
    """Bounds on (server's wall clock - local monotonic clock), in seconds."""

    def __init__(self) -> None:
        self._bounds: deque[tuple[float, float]] = deque(maxlen=KEPT)

    def observe(self, date: datetime, sent_mono_s: float, received_mono_s: float) -> None:
        """Take in one exchange: *date* was read at some moment between the two others."""
        date_s = date.timestamp()
        newest = (date_s - received_mono_s, date_s + DATE_RESOLUTION_S - sent_mono_s)
        self._bounds.append(newest)
        if max(low for low, _ in self._bounds) > min(high for _, high in self._bounds):
            self._bounds.clear()  # the server's clock was set anew: what it said before is of no use
            self._bounds.append(newest)

    def mono_s_of(self, moment: datetime) -> float | None:
        """The earliest monotonic time when the server can read *moment*; ``None`` before any ``Date``."""
        if not self._bounds:
            return None
        return moment.timestamp() - min(high for _, high in self._bounds)
