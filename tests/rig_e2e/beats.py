"""Which copies of the task make progress, and when: each says all the time what time it is.

They say so to a directory that all nodes see; the wall clock is one on all nodes of a rig.
"""

from __future__ import annotations

import time
from pathlib import Path

from tests.rig_e2e.cloud import Machine
from tests.rig_e2e.relay import BEAT_S


class Beats:
    """When each node's copy said that it makes progress."""

    def __init__(self, shared: Path) -> None:
        self._folder = shared / "beats"
        self._folder.mkdir()
        self.env = {"BEATS": str(self._folder)}

    def of(self, machine: Machine) -> list[int]:
        """Nanoseconds of the wall clock, in order; a line that is being written does not count."""
        path = self._folder / machine.node.name
        return [int(line) for line in path.read_text().split("\n")[:-1]] if path.exists() else []

    def assert_apart(self, first: Machine, second: Machine) -> None:
        """The second copy began after the last that the first one did."""
        begun = self.of(second)[0]
        time.sleep(10 * BEAT_S)
        last = self.of(first)[-1]
        assert last < begun, f"both made progress for {(last - begun) / 1e9:.3f} s"


def states(machine: Machine) -> set[str]:
    """The states (proc(5)) of the task's processes on *machine*."""
    found = set()
    for entry in machine.path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if entry.name.isdecimal() and b"relay.py" in b" ".join(words) and b"run" not in words:
                found.add((entry / "stat").read_text().rpartition(")")[2].split()[0])
        except OSError:
            continue
    return found
