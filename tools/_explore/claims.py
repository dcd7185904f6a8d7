"""From an agent's start to its claim: ``fsnap.agent.service``, ``claiming`` and ``adoption``."""

from __future__ import annotations

from _explore.journal import ADOPTION, acted, recorded
from _explore.machine import TICK_MS, Machine, Steps
from _explore.recovery import ends_stray, is_live_copy
from _explore.rules import MINE, WHOLE, Move, Refused
from _explore.tree import end_capsule, unjust_end
from _explore.world import (
    ENDED,
    EXITED,
    EXPIRED,
    GIVEN,
    NO_AGENT,
    NO_JOB,
    TAKEN,
    Node,
    Pc,
    Step,
    Store,
    pulled,
    settle,
    view,
)
from fsnap.core.effects import Exit
from fsnap.core.events import ClaimAsked, Notice, RenewAsked, SnapshotFound
from fsnap.core.model import Basis, Facts, State

NOTICE_EVENT = Notice(notice_id="notice", provider="cloud", window_ms=100_000)
BEFORE_START = Facts(started=False)


def begins(machine: Machine, node: Node, store: Store, label: str) -> Steps:
    """A started agent's first look at the store, and at what is here: ``Service._settle``."""
    node = pulled(node, store.state)
    if machine.rules.seen[view(node)[0]].state is State.COMPLETED and not node.fresh:
        yield from _ended_before(machine, node, store, label)
    elif node.capsule != 2:
        yield Step(f"{label}: pulls the journal", node._replace(pc=Pc("seen")), good=True)
    elif is_live_copy(machine, node) or (node.tail and machine.shell.tail_is_mirrored_before_a_stray_ends):
        yield Step(f"{label}: pulls, and finds its capsule alive", node._replace(pc=Pc("adopt")), good=True)
    else:
        yield ends_stray(machine, node, store, label)


def _ended_before(machine: Machine, node: Node, store: Store, label: str) -> Steps:
    """``Service._already_completed``."""
    wrong = ""
    if machine.shell.strays_end_with_the_task and node.capsule:
        wrong = unjust_end(machine, node, store)
        node = end_capsule(node)
    if node.capsule and node.tree != EXITED:
        wrong = "8: it leaves an older copy alive"
    if machine.shell.end_is_mirrored_before_its_code and node.tail:
        pc = Pc("ship", "end", (Exit(exit_code=0, outcome="exited"),))
        yield Step(
            f"{label}: the task has ended, which the store does not know", node._replace(pc=pc), good=True
        )
        return
    if node.tail:
        wrong = wrong or "5: it returns an exit code whose record is only here"
    gone = settle(node._replace(pc=NO_AGENT))
    yield Step(f"{label}: the task has ended: returns its code", gone, wrong=wrong, good=True)


# -- waiting for the claim


def looks(machine: Machine, node: Node, store: Store) -> Steps:
    """Pulls again while it waits: ``Claimant.wait``.  Nothing new is not worth a look."""
    if node.foreign or not node.same or node.still >= machine.lease:
        node = pulled(node, store.state)
        yield Step("pulls the journal again", node._replace(pc=Pc("seen", "again")), good=True)


def judges(machine: Machine, node: Node, store: Store) -> Steps:
    """Reads the heartbeat and judges; the claim's record, or an end, or more waiting."""
    number, holder = view(node)
    seen = machine.rules.seen[number]
    again = node.pc.why == "again"
    if seen.state is State.COMPLETED and machine.shell.wait_sees_the_end:
        yield from _ended_before(machine, node, store, "has waited")
        return
    if seen.state is State.FAILED and (not again or machine.shell.wait_sees_the_end):
        yield from _may_claim(machine, node, store, Basis.NEW)
        return
    still = node.still if node.look and node.same else 0
    node = node._replace(look=True, same=True, still=still)
    for age in (still,) if machine.shell.own_clock else (still, machine.lease):
        verdict = machine.rules.judge(number, node.attempt, holder == ENDED, age * TICK_MS)
        if isinstance(verdict, Refused):
            yield Step("judges", node, wrong=f"the rules refuse to judge: {verdict.problem}")
        elif wrong := _unjust(machine, node, verdict.basis, still):
            yield Step(f"claims ({verdict.basis})", node, wrong=wrong)
        elif verdict.basis is not None:
            expired = EXPIRED if verdict.basis is Basis.LEASE_EXPIRED and not node.foreign else 0
            for step in _may_claim(machine, node, store, verdict.basis):
                yield step._replace(tells=step.tells | expired)
        elif machine.lease:
            yield Step(f"may not claim: {verdict.reason}", node._replace(pc=Pc("wait")), good=True)
        else:
            yield Step(f"goes: {verdict.reason}", settle(node._replace(pc=NO_AGENT)), good=True)


def _unjust(machine: Machine, node: Node, basis: Basis | None, still: int) -> str:
    """What is broken when the rules answer with *basis*: who may claim is said once more here."""
    number, holder = view(node)
    seen = machine.rules.seen[number]
    recorded = machine.rules.states[number].attempt
    comparable = machine.rules.one_job and recorded is not None and node.attempt > 0
    later = node.attempt - recorded.number if recorded is not None and comparable else 0
    if not seen.live or not seen.held:
        grounds = {
            Basis.NEW if seen.state is State.NEW else Basis.UPLOADED if seen.uploaded else Basis.GAVE_UP
        }
    else:
        grounds = {Basis.HOLDER_GONE} if holder == ENDED else set()
        grounds |= {Basis.LATER_ATTEMPT} if later > 0 else set()
        grounds |= {Basis.LEASE_EXPIRED} if machine.lease and still >= machine.lease and later >= 0 else set()
    if basis is None and grounds:
        return f"6: a claim is refused for which there are grounds ({', '.join(grounds)})"
    if basis is not None and basis not in grounds:
        return f"8: a holder is superseded ({basis.value}) that has not lost its lease, attempt or capsule"
    return ""


def _may_claim(machine: Machine, node: Node, store: Store, basis: Basis) -> Steps:
    """``Service._claim``, up to the claim itself."""
    number, _ = view(node)
    if node.notice == GIVEN:
        yield from _reclaimed_before_start(machine, node, number)
        return
    if store.found and not node.fresh:
        ref = machine.rules.snapshot(number, store.found, "periodic", WHOLE)
        move = machine.rules.decide(number, SnapshotFound(ref=ref), BEFORE_START)
        if isinstance(move, Refused):
            yield Step(f"adopts {store.found}", node, wrong=f"illegal: {move.problem}")
            return
        if move is not None:
            node = recorded(node, move)
            if not machine.shell.adoption_goes_with_the_claim:
                pc = Pc("ship", ADOPTION + basis.value)
                yield Step(f"adopts {store.found}: {move.note}", node._replace(pc=pc), good=True)
                return
    yield from claims(machine, node, basis)


def claims(machine: Machine, node: Node, basis: Basis) -> Steps:
    """The claim's record, and before it, where it is due, that of a new life."""
    number, _ = view(node)
    label = f"claims ({basis.value})"
    if node.fresh or machine.rules.seen[number].state is State.FAILED:
        renewal = RenewAsked(reason="fresh" if node.fresh else "it had failed")
        move = machine.rules.decide(number, renewal, BEFORE_START)
        if isinstance(move, Refused):
            yield Step(label, node, wrong=f"illegal: {move.problem}")
            return
        if move is not None:
            node = recorded(node, move)
            number, basis, label = move.next, Basis.NEW, f"claims for a new life ({basis.value})"
    event = ClaimAsked(
        basis=basis, holder=MINE, attempt=machine.rules.attempt(node.attempt), config=machine.rules.config
    )
    move = machine.rules.decide(number, event, BEFORE_START)
    if not isinstance(move, Move):
        yield Step(label, node, wrong=f"illegal: {move}")
        return
    claimed = recorded(node._replace(capsule=1), move)._replace(
        pc=Pc("ship", move.trigger, move.effects),
        since_claim=-1 if machine.shell.hold_counts_from_the_record else 0,
        look=False,
        same=False,
        still=0,
    )
    if not (move.mirrored and machine.shell.effects_wait_for_their_record):
        claimed = acted(machine, claimed._replace(job=machine.job(move.effects[0]) or NO_JOB))
    yield Step(f"{label}: {move.trigger} ({move.note})", claimed, good=True)


def _reclaimed_before_start(machine: Machine, node: Node, number: int) -> Steps:
    """``Service._reclaimed_before_start``: the machine goes before anything was claimed."""
    label = "was reclaimed before it claimed: "
    seen = machine.rules.seen[number]
    node = node._replace(notice=TAKEN)
    silent = machine.shell.writes_only_as_holder and seen.held
    move = None if silent or seen.terminal else machine.rules.decide(number, NOTICE_EVENT, BEFORE_START)
    if isinstance(move, Refused):
        yield Step(label, node, wrong=f"illegal: {move.problem}")
    elif move is None:
        yield Step(f"{label}goes", settle(node._replace(pc=NO_AGENT)), good=True)
    else:
        pc = Pc("ship", "early", (Exit(exit_code=177, outcome="checkpointed"),))
        yield Step(f"{label}records {move.trigger}", recorded(node, move)._replace(pc=pc), good=True)
