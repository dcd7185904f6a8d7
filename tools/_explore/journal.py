"""The node's journal and the store's: ``fsnap.journal.mirror`` and ``fsnap.agent.ledger``."""

from __future__ import annotations

from _explore.machine import Machine, Steps
from _explore.rules import Move
from _explore.tree import end_capsule, goes
from _explore.world import (
    CAPSULE,
    CLAIMED,
    EXITED,
    FAULT,
    FLYING,
    LANDED,
    NO_PUT,
    WROTE,
    Entry,
    Node,
    Pc,
    Step,
    Store,
    view,
)
from fsnap.core.effects import Hold, Restore, Signal, Start
from fsnap.core.model import Basis

ADOPTION = "adoption "
BEFORE_THE_CLAIM = ("begin", "claim", "claim_bare", "early", *(ADOPTION + basis.value for basis in Basis))
"""Records whose refusal sends a claimant back to look: ``Service._claim_until_won``."""


def recorded(node: Node, move: Move) -> Node:
    """*node* with the record of *move* in its own journal: ``Ledger.commit``."""
    holder = CAPSULE if move.mine else view(node)[1]
    return node._replace(tail=(*node.tail, Entry(move.next, holder, move.mine)))


def puts(machine: Machine, node: Node, store: Store) -> Steps:
    """One try to put the kept object: ``Mirror._put``.  Only with something to put."""
    if node.put == LANDED:
        first = node.tail[node.kept - 1]
        found = node._replace(base=first.state, holder=first.holder, tail=node.tail[node.kept :])
        shipped = _shipped(machine, found._replace(kept=0, put=NO_PUT))
        yield Step("finds in the store what it had put", shipped, good=True)
        return
    if node.foreign and machine.shell.conditional_create:
        yield _refused(machine, node, store)
        return
    kept = node.kept or len(node.tail)
    last = node.tail[kept - 1]
    tells = WROTE | (CLAIMED if any(entry.mine for entry in node.tail[:kept]) else 0)
    what = f"puts {kept} record{'s' * (kept > 1)}"
    there = node._replace(
        base=last.state,
        holder=last.holder,
        store_holder=last.holder,
        tail=node.tail[kept:],
        kept=0,
        put=NO_PUT,
        foreign=False,
        ghost=-1,
    )
    yield Step(what, _shipped(machine, there), state=last.state, tells=tells, good=True)
    if node.put != FLYING:
        flying = node._replace(kept=kept, put=FLYING)
        yield Step(f"{what}; no answer, and it lands later or never", flying, cost=FAULT)


def _refused(machine: Machine, node: Node, store: Store) -> Step:
    """:class:`~fsnap.errors.Fenced`: raised to the main thread that waits, else left in its inbox."""
    label = "is refused: another node's record is there"
    node = node._replace(tail=(), kept=0, put=NO_PUT)
    if node.pc.at == "ship" and node.pc.why in BEFORE_THE_CLAIM:
        again = end_capsule(node)._replace(pc=Pc("wait"), look=False, same=False, still=0)
        return Step(f"{label}: it looks again", again, good=True)
    if node.pc.at in ("ship", "adopt"):
        return goes(machine, node, store, label)
    return Step(label, node._replace(fenced=True, renewing=False), good=True)


def lands(node: Node) -> Steps:
    """A put that was given up on reaches the store after all, from a dead machine too."""
    if node.ghost >= 0:
        dead = node._replace(ghost=-1)
        yield Step("a put of the dead machine lands", dead, state=node.ghost, tells=WROTE | CLAIMED)
    if node.put == FLYING and not node.foreign:
        last = node.tail[node.kept - 1]
        tells = WROTE | (CLAIMED if any(entry.mine for entry in node.tail[: node.kept]) else 0)
        landed = node._replace(put=LANDED, store_holder=last.holder, ghost=-1)
        yield Step("a put without an answer lands", landed, state=last.state, tells=tells)


def _shipped(machine: Machine, node: Node) -> Node:
    """The main thread goes on once all its records are the world's.

    Effects that only begin something here are begun at once: nobody else can tell.
    """
    if node.pc.at != "ship" or node.tail:
        return node
    if node.pc.why.startswith(ADOPTION):
        return node._replace(pc=Pc("claim", node.pc.why.removeprefix(ADOPTION)))
    effects = node.pc.effects
    if not effects or not isinstance(effects[0], Start | Restore | Hold | Signal):
        return node._replace(pc=node.pc._replace(at="act"))
    assert len(effects) == 1
    if node.tree == EXITED:  # ``Executor._drop_harmed_tree``
        node = end_capsule(node)._replace(capsule=1, told=False, started=False)
    return acted(machine, node)._replace(job=machine.job(effects[0]) or node.job)


def acted(machine: Machine, node: Node) -> Node:
    """The main thread after a record's last effect; the claim's wait counts from its first one."""
    hold = machine.rules.states[view(node)[0]].hold_ms
    if node.since_claim < 0 or not hold:
        node = node._replace(since_claim=0 if hold else machine.lease)
    return node._replace(fresh=False, pc=Pc("loop") if node.renewing else Pc("first"))
