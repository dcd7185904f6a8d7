"""No world is a dead end: from each of a sample some continuation without faults completes the task.

Such a continuation takes only steps that are no fault; the scheduler starts the task as often as it takes,
and a machine whose deadline has passed may go.
"""

from __future__ import annotations

from _explore.search import Search, World
from _explore.world import Budget
from fsnap.core.model import State

ENOUGH = Budget(starts=6, faults=0, notices=0, periods=0)
MOST_WORLDS = 20_000
"""Looked at from one world before it is called a dead end."""


class Completion:
    """Finds continuations; what is known to complete is remembered from one world to the next."""

    def __init__(self, search: Search) -> None:
        self._search = search
        self._good: set[World] = set()

    def completes(self, world: World) -> bool:
        """Some continuation of *world* without faults ends with the task completed."""
        search = self._search
        attempt = search.budgets[world[1]].attempt
        start = search.canonical(
            (world[0], search.budget_number(ENOUGH._replace(attempt=attempt)), *world[2:])
        )
        parents: dict[World, World | None] = {start: None}
        stack = [start]
        while stack and len(parents) < MOST_WORLDS:
            now = stack.pop()
            if now in self._good or self._completed(now):
                step: World | None = now
                while step is not None:
                    self._good.add(step)
                    step = parents[step]
                return True
            following = []
            for _, edge, after in search.successors(now):
                after = search.canonical(after)
                if edge.good and after not in parents:
                    parents[after] = now
                    following.append(after)
            stack.extend(reversed(following))
        return False

    def _completed(self, world: World) -> bool:
        state = self._search.stores[world[0]].state
        return self._search.machine.rules.seen[state].state is State.COMPLETED
