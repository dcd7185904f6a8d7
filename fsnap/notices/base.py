"""What a notice source is: it reports what it saw, and never acts.

A source runs in threads of its own between ``start`` and ``stop``.  It calls
``post(event, seen_mono_s)`` with a :class:`~fsnap.core.events.Notice` or a
:class:`~fsnap.core.events.NoticeCancelled`; ``window_ms`` counts from
``seen_mono_s`` on the monotonic clock.  The same notice may be posted any number
of times: it carries an id, and the journal drops what it has already.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from fsnap.core.events import Notice, NoticeCancelled

Post = Callable[[Notice | NoticeCancelled, float], None]


class NoticeSource(Protocol):
    """One provider's way to say that the node goes."""

    @property
    def name(self) -> str:
        """The provider's name as in ``--provider``."""
        ...

    def start(self, post: Post) -> None:
        """Begin to watch; returns at once."""
        ...

    def stop(self) -> None:
        """End all threads; no post follows."""
        ...
