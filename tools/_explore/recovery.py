"""An agent that finds a capsule of its task alive: ``fsnap.agent.recovery``."""

from __future__ import annotations

from _explore.journal import puts
from _explore.machine import Machine, Steps
from _explore.tree import end_capsule, gate_rolled_back, goes, thawed, unjust_end
from _explore.world import (
    CAPSULE,
    DUMP_GATE,
    EXITED,
    FAULT,
    NO_TREE,
    RESTARTED,
    RESTORE_GATE,
    Job,
    Node,
    Pc,
    Step,
    Store,
    view,
)
from fsnap.agent import recovery
from fsnap.core.effects import Exit, Kill, Release
from fsnap.core.model import State
from fsnap.core.planner import snapshot_id


def is_live_copy(machine: Machine, node: Node) -> bool:
    """Its living capsule is the one that its journal says is the holder's."""
    number, holder = view(node)
    seen = machine.rules.seen[number]
    return holder == CAPSULE and seen.held and seen.state is not State.RESTORING


def ends_stray(machine: Machine, node: Node, store: Store, label: str) -> Step:
    """``recovery._end_stray``; the agent goes on to claim."""
    wrong = unjust_end(machine, node, store)
    claimant = end_capsule(node)._replace(pc=Pc("seen"))
    return Step(f"{label}: ends a stray capsule", claimant, wrong=wrong, good=True)


def adopts(machine: Machine, node: Node, store: Store) -> Steps:
    """``recovery.take_over``: the tail is mirrored first where what follows needs it."""
    if node.tail and (_needs_the_store(machine, node) or not is_live_copy(machine, node)):
        yield from puts(machine, node, store)
        if not machine.shell.recovery_outlasts_the_store:
            yield goes(machine, node, store, "gets no answer from the store", cost=FAULT)
    elif is_live_copy(machine, node):
        yield _goes_on(machine, node)
    else:
        yield ends_stray(machine, node, store, "knows the end")


def _needs_the_store(machine: Machine, node: Node) -> bool:
    """The agent's own rule, asked with what the init would say."""
    seen = {
        "root_pid": 0 if node.tree == NO_TREE else 1000,
        "exit_code": node.code if node.tree == EXITED else None,
        "gate": {RESTORE_GATE: "post-restore", DUMP_GATE: "post-dump"}.get(node.tree),
    }
    return recovery._needs_the_store(machine.rules.states[view(node)[0]], seen)


def _goes_on(machine: Machine, node: Node) -> Step:
    """``recovery._go_on``."""
    number, _ = view(node)
    seen = machine.rules.seen[number]
    node = node._replace(since_claim=0, timed=seen.waiting, failed=seen.waiting)
    watches = node._replace(pc=Pc("first"))
    if seen.uploaded and not seen.hold_after:
        effects = (Kill(), Exit(exit_code=177, outcome="checkpointed"))
        return Step("finds the commit recorded", node._replace(pc=Pc("act", "adopted", effects)), good=True)
    if seen.uploaded:
        return Step("finds the commit recorded, and holds", watches, good=True)
    if not seen.live:
        ended = node._replace(pc=Pc("act", "adopted", (Kill(), Exit(exit_code=1, outcome="exited"))))
        return Step("finds the task ended", ended, good=True)
    if node.tree == RESTORE_GATE:
        if machine.shell.recovery_lets_resumed_trees_go:
            go = node._replace(pc=Pc("act", "adopted", (Release(),)))
            return Step("finds a resumed tree at its gate", go, good=True)
        killed = watches._replace(tree="none")
        wrong = "6: a tree that was recorded as resumed is killed by its agent's restart"
        return Step("refuses the gate of a resumed tree, which CRIU kills", killed, wrong=wrong)
    watches = gate_rolled_back(machine, watches) if node.tree == DUMP_GATE else thawed(machine, watches)
    posted = RESTARTED if seen.state in (State.DUMPING, State.PREDUMPING) else ""
    job = Job("files", snapshot_id(machine.rules.states[number])) if seen.finishing else node.job
    after = watches._replace(inbox=posted, job=job, started=True, told=seen.finishing)
    return Step("goes on with its tree", after, good=True)
