"""How hard to compress: as hard as the slower of processor and store allows.

Each time a pack is full the packs that are still on their way tell which of the two
waits for the other.  With none there the store is the faster one, and chunks take less
time each; with every connection busy it is the slower one, and they are made smaller.

The levels are zstd's; at *measured* speeds, one core, memory that shrinks to 40 %: level 3
411 MiB/s, 1 474 MiB/s, -1 651 MiB/s, -3 956 MiB/s.  Below -3 memory grows faster than time
shrinks.  What cannot be shrunk needs no test of its own: zstd itself passes over it at
5 GiB/s and more, at each of these levels.
"""

from __future__ import annotations

LEVELS = (-3, -1, 1, 3)
FASTEST, USUAL = LEVELS[0], 1


class Pace:
    """The level for the next chunks; lives longer than one capture.  Safe to read from any thread."""

    def __init__(self, level: int = USUAL, *, adapts: bool = True) -> None:
        """Begin with *level*, one of ``LEVELS``; it stays unless this *adapts*."""
        self._step = LEVELS.index(level)
        self._adapts = adapts

    @property
    def level(self) -> int:
        """Of zstd."""
        return LEVELS[self._step]

    def pack_is_full(self, *, on_their_way: int, connections: int) -> None:
        """A pack is full while *on_their_way* others are not in the store yet.  One thread at a time."""
        if not self._adapts:
            return
        if on_their_way >= connections:
            self._step = min(self._step + 1, len(LEVELS) - 1)
        elif on_their_way <= 1:
            self._step = max(self._step - 1, 0)
