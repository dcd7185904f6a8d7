"""The feeder: bytes into buffers, cut, into the sink.

The stream is made of segments; each is cut by itself, so a segment's chunks depend on
its own bytes alone.  Small files share a segment.
"""

from __future__ import annotations

from collections.abc import Callable

from fsnap.snapshots.cut import Cutter
from fsnap.snapshots.errors import CaptureFailed
from fsnap.snapshots.rooms import Room
from fsnap.snapshots.sink import BUFFER_BYTES, ChunkSink

Fill = Callable[[memoryview], int]
"""Fills a buffer from the front, at least one byte; 0 says that there is nothing left."""


class Feeder:
    """Writes one stream into a sink.  For one thread."""

    def __init__(self, sink: ChunkSink) -> None:
        self._sink = sink
        self._buffer: Room | None = None
        self._used = 0
        self._cutter: Cutter | None = None
        self.position = 0
        """Bytes in the stream so far; where the next byte goes."""

    def begin(self, cutter: Cutter) -> None:
        """Start a segment."""
        if self._cutter is not None:
            raise CaptureFailed("an earlier part of this capture failed")
        self._cutter = cutter

    def feed(self, fill: Fill, length: int) -> int:
        """Take *length* bytes into the segment; how many there were."""
        left = length
        while left:
            if self._buffer is None:
                self._buffer = self._sink.take_buffer()
            room = min(left, BUFFER_BYTES - self._used)
            count = fill(memoryview(self._buffer)[self._used : self._used + room])
            if count == 0:
                break
            self._used += count
            self.position += count
            left -= count
            if self._used == BUFFER_BYTES:
                self._pass_on()
        return length - left

    def end(self) -> None:
        """Finish the segment."""
        assert self._cutter is not None, "no segment is open"
        if self._buffer is not None:
            buffer, self._buffer = self._buffer, None
            if self._used:
                self._sink.submit(buffer, self._cutter.ends(memoryview(buffer)[: self._used], final=True))
            else:
                self._sink.give_back(buffer)
        self._used = 0
        self._cutter = None

    def end_if_begun(self) -> None:
        """Finish the segment if there is one, whatever it holds."""
        if self._cutter is not None:
            self.end()

    def skip_to(self, position: int) -> None:
        """The stream was extended past this feeder, between segments."""
        assert self._cutter is None, "a segment is open"
        self.position = position

    def _pass_on(self) -> None:
        """Hand the full buffer on and keep what comes after its last boundary."""
        assert self._cutter is not None
        assert self._buffer is not None
        full = self._buffer
        ends = self._cutter.ends(memoryview(full), final=False)
        rest = bytes(memoryview(full)[ends[-1] :])
        self._buffer = None
        self._sink.submit(full, ends)
        if rest:
            self._buffer = self._sink.take_buffer()
            self._buffer[: len(rest)] = rest
        self._used = len(rest)
