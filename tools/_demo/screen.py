"""Lines for people: a timeline on stdout, colours and a moving last line on a terminal alone."""

from __future__ import annotations

import os
import sys
import time

NODE_WIDTH = 6
RED, GREEN, YELLOW, BOLD, DIM = "31", "32", "33", "1", "2"


class Screen:
    """Writes the timeline; seconds count from the last :meth:`zero`."""

    def __init__(self) -> None:
        self._tty = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._colours = self._tty and "NO_COLOR" not in os.environ
        self._passing = False
        self._zero_s = time.time()

    def zero(self) -> float:
        """Start the clock anew; the wall time that it counts from."""
        self._zero_s = time.time()
        return self._zero_s

    def paint(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colours else text

    def line(self, text: str = "") -> None:
        """One line, for good."""
        self._clear()
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    def title(self, text: str) -> None:
        self.line(f"\n{self.paint(text, BOLD)}")

    def event(self, node: str, text: str, colour: str = "", at_s: float | None = None) -> None:
        """Something happened on *node*, at wall time *at_s* or now."""
        seconds = (time.time() if at_s is None else at_s) - self._zero_s
        told = self.paint(text, colour) if colour else text
        self.line(f"{max(0.0, seconds):7.1f} s  {node:<{NODE_WIDTH}}  {told}")

    def passing(self, node: str, text: str) -> None:
        """Something that the next line replaces; only where it can be."""
        if not self._tty:
            return
        self._clear()
        seconds = time.time() - self._zero_s
        sys.stdout.write(self.paint(f"{seconds:7.1f} s  {node:<{NODE_WIDTH}}  {text}", DIM))
        sys.stdout.flush()
        self._passing = True

    def _clear(self) -> None:
        if self._passing:
            sys.stdout.write("\r\x1b[K")
            self._passing = False


def size(count: int) -> str:
    """*count* bytes for people."""
    return f"{count / (1 << 20):.1f} MiB" if count >= 1 << 20 else f"{count / 1024:.1f} KiB"
