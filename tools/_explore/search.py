"""Breadth-first search over worlds: the first violation that is found has the shortest path."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from _explore.agent import agent_steps
from _explore.machine import Machine
from _explore.outside import outside_steps, starts, ticked
from _explore.tree import init_steps, job_steps
from _explore.world import (
    BLANK,
    CAPSULE,
    DRIFT,
    EXPIRED,
    Budget,
    Node,
    Step,
    Store,
    hears,
    makes_progress,
    overdue,
    settle,
)

BITS = 24
"""Of a node's number in a world's key."""

MASK = (1 << BITS) - 1

READERS = ("seen", "wait", "claim")

World = tuple[int, ...]
"""Store state, budget, node, node, …: all numbers."""


class Edge(NamedTuple):
    """A node's step, in numbers."""

    node: int
    store: int
    """-1: as it was."""
    tells: int
    wrong: str
    label: str
    good: bool
    budget: int = -1
    """The budget after it; -1: as it was."""


TICK = Edge(-1, -1, 0, "", "a tick of the clocks", True)
SLOW = Edge(-1, -1, 0, "", "its clocks miss a tick of the others", False)


@dataclass(slots=True)
class Found:
    """What a search came to."""

    states: int = 0
    steps: int = 0
    depth: int = 0
    seconds: float = 0.0
    exhausted: bool = False
    """Every world was seen."""
    cut: bool = False
    """There were too many."""
    wrong: str = ""
    path: list[tuple[int, str, World]] = field(default_factory=list)
    """Node (its place in the world before the step; -1: none), label, world after it."""


class Search:
    """The worlds of one scenario."""

    def __init__(self, machine: Machine, nodes: int, budget: Budget) -> None:
        self.machine = machine
        self.nodes: list[Node] = []
        self._numbers: dict[Node, int] = {}
        self.budgets: list[Budget] = []
        self._budget_numbers: dict[Budget, int] = {}
        self._steps: dict[tuple[int, int], tuple[tuple[Edge, ...], tuple[Step, ...]]] = {}
        self._costly: dict[tuple[int, int, int], tuple[Edge, ...]] = {}
        self._hears: dict[tuple[int, int], int] = {}
        self._ticked: dict[int, int] = {}
        self.stores: list[Store] = []
        self._store_numbers: dict[Store, int] = {}
        self._starts: dict[tuple[int, int, int], tuple[Edge, ...]] = {}
        self._spends: dict[tuple[int, str], int] = {}
        self._kinds: list[int] = []
        self._kind_numbers: dict[tuple[bool, bool], int] = {}
        self.reads: list[bool] = []
        self.runs: list[bool] = []
        self.busy: list[bool] = []
        self.late: list[bool] = []
        self.leased: list[bool] = []
        self.first = (
            self._store_number(Store(machine.rules.new)),
            self.budget_number(budget),
            *[self._number(BLANK)] * nodes,
        )
        self.parents: dict[World, World | None] = {self.canonical(self.first): None}

    # -- numbering

    def _number(self, node: Node) -> int:
        number = self._numbers.get(node)
        if number is None:
            number = self._numbers[node] = len(self.nodes)
            self.nodes.append(node)
            self.reads.append(node.pc.at in READERS or node.crashed or node.job.kind in ("dump", "predump"))
            self.runs.append(makes_progress(node))
            self.busy.append(node.pc.at != "none" or node.capsule > 0)
            self.leased.append(node.good > 0 and node.store_holder == CAPSULE)
            self.late.append(overdue(node) and self.machine.shell.init_stops_without_lease)
        return number

    def budget_number(self, budget: Budget) -> int:
        number = self._budget_numbers.get(budget)
        if number is None:
            number = self._budget_numbers[budget] = len(self.budgets)
            self.budgets.append(budget)
        return number

    def _store_number(self, store: Store) -> int:
        seen = self.machine.rules.seen[store.state]
        if store.found and (store.found <= seen.newest or not store.found.startswith(f"{seen.epoch:06d}-")):
            store = store._replace(found="")
        number = self._store_numbers.get(store)
        if number is None:
            number = self._store_numbers[store] = len(self.stores)
            self.stores.append(store)
            kind = (seen.held and seen.live, seen.uploaded)
            self._kinds.append(number if store.found else self._kind_numbers.setdefault(kind, number))
        return number

    # -- a node's steps, remembered

    def _local(self, node: int, store: int, budget: int) -> tuple[Edge, ...]:
        """The steps of *node*.  Only a node that reads can tell all stores apart."""
        store = store if self.reads[node] else self._kinds[store]
        found = self._costly.get((node, store, budget))
        if found is None:
            known = self._steps.get((node, store))
            if known is None:
                steps = tuple(self._all_steps(self.nodes[node], self.stores[store]))
                free = self._edges(node, (step for step in steps if not step.cost), store)
                known = self._steps[node, store] = (free, tuple(step for step in steps if step.cost))
            costly = (step for step in known[1] if self._spend(budget, step.cost) >= 0)
            found = self._costly[node, store, budget] = known[0] + self._edges(node, costly, store, budget)
        return found

    def _edges(self, node: int, steps: Iterable[Step], store: int, budget: int = -1) -> tuple[Edge, ...]:
        before = self.stores[store]
        edges = [
            self._edge(step, before, self._spend(budget, step.cost) if step.cost else -1) for step in steps
        ]
        changes = (edge for edge in edges if edge.node != node or edge.store >= 0 or edge.tells or edge.wrong)
        return tuple(dict.fromkeys(changes))

    def _all_steps(self, node: Node, store: Store) -> Iterator[Step]:
        yield from agent_steps(self.machine, node, store)
        yield from job_steps(self.machine, node)
        yield from init_steps(self.machine, node)
        yield from outside_steps(self.machine, node, store)

    def _edge(self, step: Step, before: Store, budget: int = -1) -> Edge:
        after = Store(before.state if step.state < 0 else step.state, max(before.found, step.stored))
        wrong = step.wrong or self._judged(step, after)
        return Edge(
            self._number(settle(step.node)),
            -1 if after == before else self._store_number(after),
            step.tells,
            wrong,
            step.label,
            step.good,
            budget,
        )

    def _judged(self, step: Step, store: Store) -> str:
        """The invariants of one node and the store."""
        seen = self.machine.rules.seen[store.state]
        if seen.resumes > 1:
            return "1: two resumes are committed in one epoch"
        if seen.unrefused:
            return seen.unrefused
        if seen.partial:
            return "2: a snapshot counts as committed and not all of it is stored"
        if seen.uploaded and step.node.store_holder == CAPSULE and makes_progress(step.node):
            return "2: uploaded is recorded and its tree runs"
        return ""

    def _spend(self, budget: int, cost: str) -> int:
        """The budget after *cost*; -1: it is not there."""
        key = (budget, cost)
        found = self._spends.get(key)
        if found is None:
            before = self.budgets[budget]
            left = getattr(before, cost)
            found = self._spends[key] = (
                self.budget_number(before._replace(**{cost: left - 1})) if left else -1
            )
        return found

    def _heard(self, node: int, tells: int) -> int:
        key = (node, tells)
        found = self._hears.get(key)
        if found is None:
            found = self._hears[key] = self._number(hears(self.nodes[node], tells))
        return found

    def _started(self, node: int, store: int, budget: int) -> tuple[Edge, ...]:
        key = (node, store, budget)
        found = self._starts.get(key)
        if found is None:
            before = self.stores[store]
            found = self._starts[key] = tuple(
                self._edge(step, before, self.budget_number(left))
                for step, left in starts(self.machine, self.nodes[node], before, self.budgets[budget])
            )
        return found

    # -- a world's steps

    def successors(self, world: World) -> Iterator[tuple[int, Edge, World]]:
        """Place of the node (-1: a tick), edge, and the world after it, the nodes in their old places."""
        store, budget, *nodes = world
        may_start = self.budgets[budget].starts
        for place, node in enumerate(nodes):
            edges = self._local(node, store, budget)
            if may_start and self._is_free(nodes, place):
                edges += self._started(node, store, budget)
            for edge in edges:
                left = edge.budget if edge.budget >= 0 else budget
                after = [self._heard(other, edge.tells) for other in nodes] if edge.tells else list(nodes)
                after[place] = edge.node
                yield place, edge, (store if edge.store < 0 else edge.store, left, *after)
        if self.machine.lease and not any(self.late[node] for node in nodes):
            after = [self._tick(node) for node in nodes]
            if after != nodes:
                yield -1, TICK, (store, budget, *after)
            if (left := self._spend(budget, DRIFT)) >= 0:
                for place, node in enumerate(nodes):
                    yield place, SLOW, (store, left, *after[:place], node, *after[place + 1 :])

    def _is_free(self, nodes: list[int], place: int) -> bool:
        """A scheduler whose attempts prove the end of the earlier ones starts none beside them."""
        return not self.machine.proves or not any(self.busy[node] for node in nodes)

    def _tick(self, node: int) -> int:
        found = self._ticked.get(node)
        if found is None:
            found = self._ticked[node] = self._number(ticked(self.machine, self.nodes[node]))
        return found

    def wrong(self, edge: Edge, world: World) -> str:
        """The invariant over all nodes that *edge* breaks on its way to *world*."""
        if edge.tells & EXPIRED and any(self.leased[node] for node in world[2:]):
            return "6: a lease that runs is taken for expired"
        if sum(self.runs[node] for node in world[2:]) > 1:
            return "1: two live copies make progress"
        return ""

    @staticmethod
    def canonical(world: World) -> World:
        """The one world for all that differ by a renaming of the nodes."""
        return (*world[:2], *sorted(world[2:]))

    # -- the search

    def run(self, *, depth: int, max_states: int) -> Found:
        """Every world up to *depth* steps away, *max_states* at most; ends at the first violation."""
        began = time.monotonic()
        found = Found()
        layer = list(self.parents)
        while layer and found.depth < depth and not found.cut and not found.wrong:
            layer = self._following(layer, max_states, found)
            found.depth += not found.cut and bool(layer or found.wrong)
        found.exhausted = not layer and not found.wrong
        found.states = len(self.parents)
        found.seconds = time.monotonic() - began
        return found

    def _following(self, layer: list[World], max_states: int, found: Found) -> list[World]:
        """The new worlds one step from *layer*; a violation, or that there were too many, goes to *found*."""
        parents = self.parents
        following: list[World] = []
        for world in layer:
            for _, edge, reached in self.successors(world):
                found.steps += 1
                after = (*reached[:2], *sorted(reached[2:]))
                if not edge.wrong and after in parents and not edge.tells & EXPIRED:
                    continue
                found.wrong = edge.wrong or self.wrong(edge, after)
                if found.wrong:
                    found.path = self._path(world, after)
                    return following
                if after not in parents:
                    parents[after] = world
                    following.append(after)
            if len(parents) >= max_states:
                found.cut = True
                return following
        return following

    def state_name(self, world: World) -> str:
        """The task's state in *world*, by the store."""
        return self.machine.rules.states[self.stores[world[0]].state].state.value

    def path_to(self, world: World) -> list[tuple[int, str, World]]:
        """The steps to *world*."""
        before = self.parents[world]
        return [] if before is None else self._path(before, world)

    def _path(self, last: World, after: World) -> list[tuple[int, str, World]]:
        """The steps from the first world on, with every node in one place throughout."""
        worlds = [after, last]
        while (before := self.parents[worlds[-1]]) is not None:
            worlds.append(before)
        worlds.reverse()
        now = self.first
        path = []
        for target in worlds[1:]:
            steps = [step for step in self.successors(now) if self.canonical(step[2]) == target]
            wrong = [step for step in steps if step[1].wrong or self.wrong(step[1], step[2])]
            place, edge, now = (wrong if wrong and target is after else steps)[0]
            path.append((place, edge.label, now))
        return path
