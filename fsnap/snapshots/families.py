"""Deltas and what they rest on: which belong together, and in which order they are decoded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from fsnap.snapshots.tables import NONE, Table

MAX_GAP_BYTES = 64 << 10
"""Between two deltas up to this is read along."""


class Families:
    """The wanted chunks of one index, with everything that they rest on."""

    def __init__(self, table: Table, numbers: npt.NDArray[np.int64]) -> None:
        """*table* is the index's chunks, checked; *numbers* those that are wanted, none of them zeros."""
        self._stored = table["stored_bytes"]
        self._parents = parents = table["parent"].astype(np.int64)
        self.wanted = frozenset(numbers.tolist())
        needed = set(self.wanted)
        above = numbers
        while len(above):
            above = parents[above]
            above = np.unique(above[above != NONE])
            needed.update(above.tolist())
        everything = np.array(sorted(needed), np.int64)
        self.bases = everything[parents[everything] == NONE]
        """Those that are no deltas."""
        self._children: dict[int, list[int]] = {}
        deltas = everything[parents[everything] != NONE]
        order = np.lexsort((table["offset"][deltas], table["pack"][deltas]))
        for number in deltas[order].tolist():
            self._children.setdefault(int(parents[number]), []).append(number)

    def order(self, bases: Iterable[int]) -> list[int]:
        """*bases* and the deltas upon them, each chunk right after the line that it rests on."""
        found = []
        rest = list(reversed(list(bases)))
        while rest:
            number = rest.pop()
            found.append(number)
            rest.extend(reversed(self._children.get(number, [])))
        return found

    def batch(self, order: list[int], first: int, most_bytes: int) -> list[int]:
        """Deltas of *order* from its place *first* on that are read together, one at least."""
        found: list[int] = []
        total = 0
        for number in order[first:]:
            if self._parents[number] == NONE:
                continue
            total += int(self._stored[number])
            if found and total > most_bytes:
                break
            found.append(number)
        return found


def stretches(table: Table, numbers: Iterable[int]) -> Iterator[tuple[int, int, int, list[int]]]:
    """Pack, first byte, the one after the last, and the chunks of each read that brings *numbers*."""
    wanted = np.array(list(numbers), np.int64)
    order = np.lexsort((table["offset"][wanted], table["pack"][wanted]))
    pack, start, end = -1, 0, 0
    run: list[int] = []
    for number in wanted[order].tolist():
        offset = int(table["offset"][number])
        if run and (int(table["pack"][number]) != pack or offset - end > MAX_GAP_BYTES):
            yield pack, start, end, run
            run = []
        if not run:
            pack, start, end = int(table["pack"][number]), offset, offset
        end = max(end, offset + int(table["stored_bytes"][number]))
        run.append(number)
    if run:
        yield pack, start, end, run
