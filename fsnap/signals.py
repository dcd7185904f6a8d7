"""Signals that come while ``run`` still imports its parts.

Python's own answer to SIGINT is an exception in whatever runs at that moment, and some code of
libraries, run at import, swallows it.  So they are kept until somebody can answer them.
"""

from __future__ import annotations

import signal

ANSWERED = (signal.SIGTERM, signal.SIGINT)
_held: list[int] = []


def hold() -> None:
    """From now on keep SIGTERM and SIGINT; for the main thread."""
    for number in ANSWERED:
        signal.signal(number, lambda number, frame: _held.append(number))


def release() -> list[int]:
    """What was kept, in its order; the caller has handlers of its own by now."""
    taken = _held[:]
    _held.clear()
    return taken
