"""A world: the journal in the store, and the nodes with their journals, agents and capsules.

The store is one number, the task's state by the mirrored journal.  A node knows of the rest only relations
(is somebody else's record behind mine? is the recorded holder my capsule? has the heartbeat changed since I
read it?), so nodes have no names and worlds that differ by a renaming of them are one world.
"""

from __future__ import annotations

from typing import NamedTuple

from fsnap.core.effects import Effect

OTHER, CAPSULE, ENDED = "other", "capsule", "ended"
"""The recorded holder, as one node knows it: not of this machine; its present capsule; one that it had."""

# The tree of a capsule.
NO_TREE, RUNNING, DUMP_GATE, RESTORE_GATE, EXITED = "none", "running", "dump gate", "restore gate", "exited"

# Why the init has stopped the tree.
GOING, BY_LEASE, BY_GATE = 0, 1, 2

# A put whose answer was lost.
NO_PUT, FLYING, LANDED = 0, 1, 2

# What may be in the inbox beside the outcomes of jobs: a dump failed, said the recovery or the init.
RESTARTED, GATE_LOST = "agent-restarted", "criu-died"

# The notice of a machine.
NO_NOTICE, GIVEN, TAKEN, DEADLINE, GRACE, TAKEN_BACK = 0, 1, 2, 3, 4, 5


class Entry(NamedTuple):
    """A record that the node's journal has and the store may not."""

    state: int
    """The task's state after it."""
    holder: str
    mine: bool
    """It makes this node's capsule the holder."""


class Pc(NamedTuple):
    """Where the agent's main thread is."""

    at: str
    why: str = ""
    effects: tuple[Effect, ...] = ()


NO_AGENT = Pc("none")


class Job(NamedTuple):
    """The long effect under way, or its outcome waiting in the inbox."""

    kind: str
    snapshot: str = ""
    hold_ms: int = 0
    stage: int = 0


NO_JOB = Job("")


class Node(NamedTuple):
    """One machine."""

    # -- its journal
    base: int = -1
    """State of the mirrored prefix; -1: not read yet."""
    holder: str = OTHER
    """The holder by ``base``."""
    tail: tuple[Entry, ...] = ()
    kept: int = 0
    """So many of the tail's first records are in the object whose bytes are kept for the next put."""
    put: int = NO_PUT
    foreign: bool = False
    """The store has somebody else's record after what this node knows or has put."""
    store_holder: str = OTHER
    """The holder by the store."""
    ghost: int = -1
    """The state that a put of this slot's earlier, dead machine would make, if it lands."""
    # -- its cloud
    notice: int = NO_NOTICE
    # -- its agent
    pc: Pc = NO_AGENT
    fresh: bool = False
    attempt: int = 0
    crashed: bool = False
    """The agent died; whoever watches over it starts it again."""
    fenced: bool = False
    """The inbox has it that another node has the task."""
    good: int = 0
    """Ticks of lease left, by the agent."""
    beat: int = -1
    """Ticks since the renewal under way began; -1: none."""
    order: int = -1
    """Ticks of lease that were computed for the init and have not reached it; -1: none."""
    renewing: bool = False
    """The renewal's thread runs."""
    started: bool = False
    failed: bool = False
    """A dump failed since the notice."""
    timed: bool = False
    """The agent knows the notice's deadline."""
    look: bool = False
    """It has read the heartbeat."""
    same: bool = False
    """The heartbeat is as it was read last."""
    still: int = 0
    """Ticks since the heartbeat was first read as it is."""
    since_claim: int = -1
    """Ticks since the claim; -1: none carried out by this agent."""
    job: Job = NO_JOB
    inbox: str = ""
    """A failed dump that no job reports."""
    lost: bool = False
    """The inbox has it that the capsule is gone."""
    told: bool = False
    """The task's exit was taken out of the inbox."""
    # -- its capsule
    capsule: int = 0
    """0: none; 1: launched; 2: its init answers."""
    tree: str = NO_TREE
    stopped: int = GOING
    lease: int = -1
    """Ticks until the init stops the tree; -1: never."""
    ran: bool = False
    code: int = 0


BLANK = Node()


class Budget(NamedTuple):
    """What may still go wrong, and be asked for."""

    starts: int
    faults: int
    notices: int
    periods: int
    drift: int = 0
    """Ticks that the clocks of some machine may miss."""
    attempt: int = 0
    """The scheduler's last attempt number."""


# What a step costs.
FREE, FAULT, NOTICE, PERIOD, DRIFT = "", "faults", "notices", "periods", "drift"

# What a step tells the other nodes.
WROTE, CLAIMED, BEAT, OVER, EXPIRED = 1, 2, 4, 8, 16
"""A record; a record with a new holder; a heartbeat; a later attempt, which nothing of an earlier one
survives; that the holder's lease is held to be over."""


class Store(NamedTuple):
    """What the store has."""

    state: int
    """The task's state by the mirrored journal."""
    found: str = ""
    """The newest whole snapshot of the last epoch that the journal lacks."""


class Step(NamedTuple):
    """One step of one node."""

    label: str
    node: Node
    state: int = -1
    """The task's state by the store, after it; -1: as it was."""
    stored: str = ""
    """The snapshot that is whole in the store from now on."""
    tells: int = 0
    cost: str = FREE
    wrong: str = ""
    """The invariant that the step itself breaks."""
    good: bool = False
    """It may be counted on: no fault, and it leads on."""


def view(node: Node) -> tuple[int, str]:
    """The task's state and its holder by the node's own journal."""
    return (node.tail[-1].state, node.tail[-1].holder) if node.tail else (node.base, node.holder)


def makes_progress(node: Node) -> bool:
    """Its copy of the task runs."""
    return node.tree == RUNNING and not node.stopped


def overdue(node: Node) -> bool:
    """Its copy runs though its lease is over: the init's next look will stop it."""
    return node.lease == 0 and makes_progress(node)


def settle(node: Node) -> Node:
    """*node* without what it can't use any more, so that nodes that will do the same are the same."""
    if node.tree != RUNNING and node.tree != DUMP_GATE:
        if node.lease != -1 or node.stopped or node.ran or (node.told and node.code):
            node = node._replace(stopped=GOING, lease=-1, ran=False, code=0 if node.told else node.code)
    if node.notice <= GIVEN and (node.failed or node.timed):
        node = node._replace(failed=False, timed=False)
    if node.pc.at != "none":
        return node
    tail, kept, put = node.tail, node.kept, node.put
    if put == LANDED:
        tail, kept, put = tail[kept:], 0, NO_PUT
    if node.foreign:
        tail, kept, put = (), 0, NO_PUT
    return Node(
        tail=tail,
        kept=kept,
        put=put,
        store_holder=node.store_holder,
        ghost=node.ghost,
        notice=node.notice if node.notice in (NO_NOTICE, GIVEN) else TAKEN,
        attempt=node.attempt if node.crashed else 0,
        crashed=node.crashed,
        capsule=node.capsule,
        tree=node.tree,
        stopped=node.stopped,
        lease=node.lease,
        ran=node.ran,
        code=node.code,
    )


def hears(node: Node, tells: int) -> Node:
    """*node* after another one's step."""
    if tells & WROTE:
        holder = OTHER if tells & CLAIMED else node.store_holder
        if not node.foreign or node.ghost != -1 or holder != node.store_holder:
            node = node._replace(foreign=True, ghost=-1, store_holder=holder)
    if tells & OVER and node.crashed:
        node = node._replace(crashed=False)
    if tells & BEAT and node.look:
        node = node._replace(same=False)
    return settle(node)


def capsule_ended(node: Node) -> Node:
    """*node* without its capsule."""

    def after(holder: str) -> str:
        return ENDED if holder == CAPSULE else holder

    return node._replace(
        holder=after(node.holder),
        store_holder=after(node.store_holder),
        tail=tuple(entry._replace(holder=after(entry.holder)) for entry in node.tail),
        capsule=0,
        tree=NO_TREE,
        stopped=GOING,
        lease=-1,
        order=-1,
        ran=False,
        code=0,
    )


def pulled(node: Node, state: int) -> Node:
    """*node* after a pull: ``fsnap.journal.mirror.Mirror.pull``."""
    tail, kept, put = node.tail, node.kept, node.put
    if node.foreign:
        tail, kept, put = (), 0, NO_PUT
    elif put == LANDED:
        tail, kept, put = tail[kept:], 0, NO_PUT
    return node._replace(
        base=state, holder=node.store_holder, tail=tail, kept=kept, put=put, foreign=False, fenced=False
    )
