"""What befalls a node: notices, deaths, losses, and the passing of time."""

from __future__ import annotations

from collections.abc import Iterator

from _explore.claims import begins
from _explore.journal import lands
from _explore.machine import Machine, Steps
from _explore.tree import end_capsule
from _explore.world import (
    BLANK,
    BY_GATE,
    BY_LEASE,
    DEADLINE,
    DUMP_GATE,
    FAULT,
    FLYING,
    FREE,
    GATE_LOST,
    GIVEN,
    GRACE,
    NO_AGENT,
    NO_NOTICE,
    NOTICE,
    OVER,
    RUNNING,
    TAKEN,
    TAKEN_BACK,
    Budget,
    Job,
    Node,
    Step,
    Store,
    makes_progress,
    settle,
)


def outside_steps(machine: Machine, node: Node, store: Store) -> Steps:
    """What the cloud, the kernel and the network do."""
    yield from lands(node)
    yield from _cloud(node)
    if node.pc.at != "none":
        gone = node if node.capsule == 2 else end_capsule(node)
        gone = gone._replace(pc=NO_AGENT, crashed=True, job=Job(""), order=-1)
        yield Step("the agent dies", settle(gone), cost=FAULT)
    elif node.crashed:
        again = node._replace(crashed=False, fresh=False)
        yield from begins(machine, again, store, "the agent is started again")
    if node.capsule:
        yield Step("the init dies", settle(_without_init(node)), cost=FAULT)
    if node.tree == DUMP_GATE:
        heard = node.pc.at not in ("none", "seen", "wait", "claim", "adopt")
        stopped = node._replace(tree=RUNNING, stopped=BY_GATE, inbox=GATE_LOST if heard else node.inbox)
        yield Step("CRIU dies at its gate; the init stops the tree", stopped, cost=FAULT)


def _cloud(node: Node) -> Steps:
    if node.notice == NO_NOTICE and (node.pc.at != "none" or node.capsule):
        yield Step("the cloud gives notice", node._replace(notice=GIVEN), cost=NOTICE)
    if node.notice in (TAKEN, DEADLINE) and node.timed:
        later = (
            "the deadline passes" if node.notice == TAKEN else "the deadline is long over, and the node lives"
        )
        yield Step(later, node._replace(notice=DEADLINE if node.notice == TAKEN else GRACE), good=True)
    if node.notice in (TAKEN, DEADLINE, GRACE):
        yield Step("the notice is taken back", node._replace(notice=TAKEN_BACK), cost=FAULT)
    if node != BLANK:
        ghost = -1
        if node.put == FLYING and not node.foreign:
            ghost = node.tail[node.kept - 1].state
        cost = FREE if node.notice else FAULT
        yield Step("the node dies", BLANK._replace(ghost=ghost), cost=cost, good=node.notice >= DEADLINE)


def _without_init(node: Node) -> Node:
    if node.capsule == 1:  # nobody is connected yet: the start or the restore will find out
        return end_capsule(node)._replace(job=node.job)
    alive = node.pc.at != "none"
    job = node.job
    if job.kind in ("predump", "dump"):
        job = Job("dump failed")
    elif job.kind in ("start", "restore", "ready"):
        job = Job("")
    return end_capsule(node)._replace(job=job, lost=alive and node.pc.at not in ("seen", "wait", "claim"))


def starts(machine: Machine, node: Node, store: Store, budget: Budget) -> Iterator[tuple[Step, Budget]]:
    """The scheduler's starts on this node: a later attempt, the same again, or one with ``--fresh``."""
    if node.pc.at != "none" or not budget.starts or node.crashed:
        return
    left = budget._replace(starts=budget.starts - 1)
    later = left._replace(attempt=budget.attempt + 1)
    tells = OVER if machine.proves else 0
    kinds = [("", later.attempt, later, False)]
    if not machine.rules.one_job:
        kinds.append((" without a number", 0, left, False))
    elif budget.attempt and not machine.proves:
        kinds.append((" once more", budget.attempt, left, False))
    if budget.attempt and budget.faults:
        kinds.append((" with --fresh", later.attempt, later._replace(faults=budget.faults - 1), True))
    for what, attempt, after, fresh in kinds:
        begun = node._replace(attempt=attempt, fresh=fresh)
        for step in begins(machine, begun, store, f"attempt {attempt} is started{what}"):
            yield step._replace(tells=step.tells | tells), after


def ticked(machine: Machine, node: Node) -> Node:
    """*node* a tick later, by all of its clocks."""
    lease = machine.lease
    if not lease:
        return node
    left = max(0, node.lease - 1) if node.lease > 0 else node.lease
    after = node._replace(
        lease=left,
        good=max(0, node.good - 1),
        beat=min(lease, node.beat + 1) if node.beat >= 0 else -1,
        still=min(lease, node.still + 1) if node.look else 0,
        since_claim=min(lease, node.since_claim + 1) if node.since_claim >= 0 else -1,
    )
    if left == 0 and makes_progress(after) and machine.shell.init_stops_without_lease:
        after = after._replace(stopped=BY_LEASE)
    return after
