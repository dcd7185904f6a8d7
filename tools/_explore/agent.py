"""The agent that holds the claim: ``fsnap.agent.loop``, ``effects`` and ``lease``."""

from __future__ import annotations

from dataclasses import replace

from _explore.claims import NOTICE_EVENT, claims, judges, looks
from _explore.journal import acted, puts, recorded
from _explore.machine import Machine, Steps
from _explore.recovery import adopts
from _explore.rules import MINE, PARTIAL, WHOLE, Move, Refused
from _explore.tree import end_capsule, gate_rolled_back, goes, let_go, renewed, thawed, unjust_end
from _explore.world import (
    BEAT,
    BY_GATE,
    DEADLINE,
    DUMP_GATE,
    EXITED,
    FAULT,
    FREE,
    GIVEN,
    GRACE,
    NO_AGENT,
    NO_JOB,
    NO_NOTICE,
    PERIOD,
    RESTARTED,
    RUNNING,
    TAKEN,
    TAKEN_BACK,
    Node,
    Pc,
    Step,
    Store,
    settle,
    view,
)
from fsnap.core.effects import (
    Dump,
    Effect,
    Exit,
    Hold,
    Kill,
    Predump,
    Prune,
    Release,
    Resume,
    Rollback,
    Signal,
)
from fsnap.core.events import (
    CancelAsked,
    CapsuleLost,
    DumpFailed,
    Event,
    NoticeCancelled,
    RestoreFailed,
    RestoreReady,
    SnapshotSaved,
    TaskExited,
    Tick,
)
from fsnap.core.model import Basis, Facts, State

LEFT_MS = {TAKEN: 100_000, DEADLINE: 0, GRACE: -31_000}
LONG_MS = 10**12
AFTER_ITS_RECORD = Release | Resume | Kill | Exit
"""Invariant 5, whatever the effects themselves say that they need."""
OUTCOMES = ("ready", "restore failed", "dump failed", "saved final", "saved periodic", "saved files")
WAITS_FOR_EVER = ("commit", "unhold")
"""``loop.PATIENCE_S``: records whose effects wait for the store without end."""


def agent_steps(machine: Machine, node: Node, store: Store) -> Steps:
    """The next steps of the main thread and of the renewal's."""
    at = node.pc.at
    if at == "none":
        return
    if at == "seen":
        yield from judges(machine, node, store)
    elif at == "wait":
        yield from looks(machine, node, store)
    elif at == "adopt":
        yield from adopts(machine, node, store)
    elif at == "first":
        yield from _renews(machine, node, store)
    elif at == "claim":
        yield from claims(machine, node, Basis(node.pc.why))
    elif at == "ship":
        yield from _ships(machine, node, store)
    elif at == "go":
        yield _acts(machine, node, store)
    elif at == "act":
        if not (machine.lease and not node.good and isinstance(node.pc.effects[0], Release)):
            yield _acts(machine, node, store)
        elif not node.renewing:
            yield from _renews(machine, node, store)
    elif at == "loop":
        yield from _loop(machine, node, store)
    if node.renewing:
        yield from _renews(machine, node, store)


# -- the renewal


def _renews(machine: Machine, node: Node, store: Store) -> Steps:
    """``Lease.renew``: heartbeat, a look for newer records, then the init's timer."""
    first = node.pc.at == "first"
    if node.order >= 0:
        yield Step(
            "init: hears of the lease", renewed(machine, node, node.order)._replace(order=-1), good=True
        )
        return
    if first and not machine.shell.first_beat_may_fail:
        yield goes(machine, node, store, "the first renewal fails", cost=FAULT)
    if machine.lease and node.beat < 0:
        if first or node.good < machine.lease:
            yield Step("renews: puts the heartbeat", node._replace(beat=0), tells=BEAT, good=True)
        return
    if not machine.shell.renewal_looks_for_the_fence:
        node = node._replace(good=machine.lease, beat=-1, renewing=True, pc=Pc("loop") if first else node.pc)
        thawed_on = renewed(machine, node, machine.lease) if node.capsule == 2 else node
        yield Step("renews without a look", thawed_on, good=True)
    elif node.foreign and first:
        yield goes(machine, node, store, "renews: sees another node's record")
    elif node.foreign:
        fenced = node._replace(fenced=True, renewing=False, beat=-1)
        yield Step("renews: sees another node's record", fenced, good=True)
    elif machine.lease:
        left = machine.lease - (node.beat if machine.shell.lease_counts_from_its_beginning else 0)
        node = node._replace(good=left, beat=-1, renewing=True, pc=Pc("loop") if first else node.pc)
        if node.capsule == 2:
            node = (
                renewed(machine, node, left)
                if machine.shell.lease_end_is_absolute
                else node._replace(order=left)
            )
        yield Step(f"renews: no newer record, {left} tick(s) of lease", node, good=True)
    elif first:
        yield Step("sees no newer record", node._replace(renewing=True, pc=Pc("loop")), good=True)


# -- deciding


def handled(machine: Machine, node: Node, event: Event, facts: Facts, label: str, cost: str = FREE) -> Steps:
    """``TaskLoop.handle``; *node* has taken the event out of its inbox."""
    move = machine.rules.decide(view(node)[0], event, facts)
    if move is None:
        yield Step(f"{label}: nothing follows", node, cost=cost, good=True)
        return
    if isinstance(move, Refused):
        yield Step(label, node, wrong=f"illegal: {move.problem}")
        return
    wrong = _unjust(node, event, facts, move)
    if not isinstance(event, Tick):
        node = node._replace(failed=isinstance(event, DumpFailed) or (node.failed and event != NOTICE_EVENT))
    node = recorded(node, move)._replace(timed=machine.rules.seen[move.next].waiting)
    gives_up = move.trigger != "commit" and any(isinstance(effect, Kill) for effect in move.effects)
    if gives_up and machine.shell.stopped_before_giving_up:
        node = node._replace(stopped=BY_GATE if node.tree == RUNNING else node.stopped, job=NO_JOB)
    waits = move.mirrored and machine.shell.effects_wait_for_their_record
    if waits or any(isinstance(effect, Release | Resume | Kill | Exit) for effect in move.effects):
        node = node._replace(pc=Pc("ship" if waits else "act", move.trigger, move.effects))
    else:
        for effect in move.effects:
            node = done(machine, node, effect)
        if isinstance(event, DumpFailed):
            node = done(machine, node, Rollback())  # ``TaskLoop._after``
    yield Step(f"{label}: {move.trigger} ({move.note})", node, cost=cost, wrong=wrong, good=cost == FREE)


def _unjust(node: Node, event: Event, facts: Facts, move: Move) -> str:
    """What is broken when *move* follows from *event*."""
    kills = any(isinstance(effect, Kill) for effect in move.effects)
    late = facts.left_ms is not None and facts.left_ms <= 0
    if isinstance(event, SnapshotSaved):
        if event.ref.manifest != WHOLE:
            return f"2: {move.trigger} is recorded before every byte is stored and verified"
    elif kills and node.ran and node.tree in (RUNNING, DUMP_GATE) and not late:
        return f"6: a tree that could have gone on is ended ({move.trigger})"
    return ""


LONG_RUN_MS = 10**9


def _facts(node: Node) -> Facts:
    left = LEFT_MS.get(node.notice) if node.timed else None
    # No tree dies soon after its release here: the claim that follows such a death is one like any other.
    return Facts(left_ms=left, started=node.started, failed_dumps=int(node.failed), run_ms=LONG_RUN_MS)


def _loop(machine: Machine, node: Node, store: Store) -> Steps:
    """``TaskLoop.run``: one thing out of the inbox, in any order; the background mirror meanwhile."""
    if node.tail:
        yield from puts(machine, node, store)
    if node.inbox:
        event = DumpFailed(code=node.inbox, message="")
        yield from handled(
            machine, node._replace(inbox=""), event, _facts(node), f"dump failed ({node.inbox})"
        )
        if node.inbox == RESTARTED:
            return  # the recovery posts before anything else can
    if node.fenced:
        yield goes(machine, node, store, "reads the fence")
        return
    if node.job.kind in OUTCOMES:
        yield from _outcome(machine, node)
    if node.lost:
        lost = CapsuleLost(message="the init died")
        yield from handled(machine, node._replace(lost=False), lost, _facts(node), "the capsule is lost")
    if node.tree == EXITED and not node.told:
        label, exited = f"the task ended with {node.code}", TaskExited(exit_code=node.code)
        yield from handled(machine, node._replace(told=True), exited, _facts(node), label)
    yield from _notices(machine, node)
    yield from _ticks(machine, node)


def _outcome(machine: Machine, node: Node) -> Steps:
    job, after = node.job, node._replace(job=NO_JOB)
    facts = _facts(node)
    if job.kind == "ready":
        yield from handled(
            machine, after, RestoreReady(snapshot_id=job.snapshot, holder=MINE), facts, "restored"
        )
    elif job.kind == "restore failed":
        event = RestoreFailed(
            snapshot_id=job.snapshot, code="", message="", corrupt=bool(job.stage), holder=MINE
        )
        yield from handled(machine, after, event, facts, "the restore failed")
    elif job.kind == "dump failed":
        yield from handled(machine, after, DumpFailed(code="", message=""), facts, "the dump failed")
    else:
        kind = job.kind.removeprefix("saved ")
        ref = machine.rules.snapshot(view(node)[0], job.snapshot, kind, WHOLE if job.stage else PARTIAL)
        yield from handled(machine, after, SnapshotSaved(ref=ref), facts, f"{job.snapshot} is stored")


def _notices(machine: Machine, node: Node) -> Steps:
    if node.notice == GIVEN:
        taken = node._replace(notice=TAKEN)
        fits, not_fits = _facts(taken), replace(_facts(taken), commit_bps=1, tree_bytes=LONG_MS)
        for step in handled(machine, taken, NOTICE_EVENT, fits, "a notice"):
            yield step._replace(wrong=step.wrong or _unanswered(machine, node, fits))
        if machine.rules.decide(view(node)[0], NOTICE_EVENT, fits) != machine.rules.decide(
            view(node)[0], NOTICE_EVENT, not_fits
        ):
            yield from handled(machine, taken, NOTICE_EVENT, not_fits, "a notice, and no dump fits")
    if node.notice == TAKEN_BACK:
        event = NoticeCancelled(notice_id=NOTICE_EVENT.notice_id)
        yield from handled(
            machine, node._replace(notice=NO_NOTICE), event, _facts(node), "the notice is taken back"
        )


def _unanswered(machine: Machine, node: Node, facts: Facts) -> str:
    """What is broken when a first notice finds the tree running, and time for a dump, and none is made."""
    number = view(node)[0]
    seen = machine.rules.seen[number]
    move = machine.rules.decide(number, NOTICE_EVENT, facts)
    if seen.terminal or isinstance(move, Refused):
        return ""
    if move is None:
        return "6: a notice is passed over"
    runs = seen.state in (State.RUNNING, State.RESUMED) and not seen.finishing and facts.started
    if runs and not seen.waiting and not any(isinstance(effect, Dump) for effect in move.effects):
        return "6: a notice leaves time for a dump, and none is made"
    return ""


def _overdue(machine: Machine, node: Node, facts: Facts) -> str:
    """What is broken when time has passed and nothing is decided."""
    seen = machine.rules.seen[view(node)[0]]
    runs = seen.state in (State.RUNNING, State.RESUMED) and not seen.finishing and seen.held
    if runs and seen.waiting and facts.left_ms is not None and facts.left_ms <= 0:
        return "6: the deadline has passed, and the claim is not given back"
    if runs and not seen.waiting and facts.started and facts.since_snapshot_ms >= LONG_MS:
        return "6: a checkpoint is due, and none is made"
    return ""


def _ticks(machine: Machine, node: Node) -> Steps:
    number = view(node)[0]
    facts = _facts(node)
    due = replace(facts, since_snapshot_ms=LONG_MS)
    if machine.rules.decide(number, Tick(), facts) is not None:
        yield from handled(machine, node, Tick(), facts, "time has passed")
    elif machine.rules.decide(number, Tick(), due) is None:
        if wrong := _overdue(machine, node, due):
            yield Step("time has passed", node, wrong=wrong)
    else:
        yield from handled(machine, node, Tick(), due, "a checkpoint is due", PERIOD)
    if node.notice != TAKEN_BACK and machine.rules.decide(number, CancelAsked(signal=2), facts) is not None:
        yield from handled(machine, node, CancelAsked(signal=2), facts, "the user cancels", FAULT)


# -- doing


def _ships(machine: Machine, node: Node, store: Store) -> Steps:
    """``TaskLoop._make_durable``."""
    yield from puts(machine, node, store)
    trigger = node.pc.why
    if trigger == "give_up":
        alone = node._replace(pc=node.pc._replace(at="act", why="give_up unmirrored"))
        yield Step("the store does not answer, and the node goes", alone, cost=FAULT)
    elif trigger not in WAITS_FOR_EVER:
        yield goes(machine, node, store, "the store does not answer for too long", cost=FAULT)


def _acts(machine: Machine, node: Node, store: Store) -> Step:
    """Carries out the next effect: ``Executor.carry_out``."""
    effect, rest = node.pc.effects[0], node.pc.effects[1:]
    label, wrong = type(effect).__name__, ""
    if isinstance(effect, AFTER_ITS_RECORD) and node.tail and node.pc.why != "give_up unmirrored":
        wrong = f"5: {label} is carried out before its record is mirrored"
    if isinstance(effect, Exit):
        if node.capsule and node.tree != EXITED:
            wrong = wrong or unjust_end(machine, node, store)
        return Step(
            f"ends with {effect.exit_code}",
            settle(end_capsule(node)._replace(pc=NO_AGENT)),
            wrong=wrong,
            good=True,
        )
    if isinstance(effect, Kill):
        if node.pc.why != "give_up unmirrored":
            wrong = wrong or unjust_end(machine, node, store)
        node = end_capsule(node)
    elif isinstance(effect, Release | Resume) and (node.lost or not node.capsule):
        rest = ()
    elif isinstance(effect, Release):
        if node.pc.at == "act":
            node = node._replace(lease=node.good if machine.lease else -1)
            if not machine.shell.nothing_runs_without_lease:
                return Step(
                    "has lease left", node._replace(pc=node.pc._replace(at="go")), wrong=wrong, good=True
                )
        node = let_go(machine, node)._replace(ran=True, started=True)
    else:
        node = done(machine, node, effect)
    if rest:
        node = node._replace(pc=node.pc._replace(effects=rest))
    else:
        node = acted(machine, node)
    return Step(label, node, wrong=wrong, good=True)


def done(machine: Machine, node: Node, effect: Effect) -> Node:
    """*effect* begun, or done if it is short and needs no lease."""
    if isinstance(effect, Predump | Dump):
        node = _called_off(machine, node)
    job = machine.job(effect)
    if job is not None:
        return node._replace(job=job)
    if isinstance(effect, Rollback):
        return thawed(machine, _called_off(machine, node))
    if isinstance(effect, Resume):
        return gate_rolled_back(machine, node)
    assert isinstance(effect, Hold | Signal | Prune)
    return node


def _called_off(machine: Machine, node: Node) -> Node:
    """The job before is cancelled and joined: its gate is rolled back."""
    node = node._replace(job=NO_JOB)
    return gate_rolled_back(machine, node) if node.tree == DUMP_GATE else node
