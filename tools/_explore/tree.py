"""The capsule and the long effects in it: ``fsnap.capsule.init``, ``agent.capture``, ``agent.restoring``."""

from __future__ import annotations

from _explore.machine import TICK_MS, Machine, Steps
from _explore.rules import PARTIAL, WHOLE
from _explore.world import (
    BY_GATE,
    BY_LEASE,
    CAPSULE,
    DUMP_GATE,
    EXITED,
    FAULT,
    FREE,
    GOING,
    NO_AGENT,
    NO_JOB,
    RESTORE_GATE,
    RUNNING,
    Job,
    Node,
    Step,
    Store,
    capsule_ended,
    makes_progress,
    overdue,
    settle,
    view,
)

SIGSEGV = 139
"""The exit code, as a shell says it."""


def unjust_end(machine: Machine, node: Node, store: Store) -> str:
    """What is broken when the agent ends its capsule now: a tree that could have gone on."""
    seen = machine.rules.seen[store.state]
    mine = node.store_holder == CAPSULE and seen.held and seen.live
    if mine and node.ran and node.tree in (RUNNING, DUMP_GATE):
        return "6: a tree that could have gone on is ended, and no mirrored record says so"
    return ""


def end_capsule(node: Node) -> Node:
    """``Capsules.end``."""
    return capsule_ended(node)._replace(job=NO_JOB)


def goes(machine: Machine, node: Node, store: Store, label: str, *, cost: str = "") -> Step:
    """The agent ends its capsule and itself: ``Service._settle``, ``Parts.close``."""
    wrong = unjust_end(machine, node, store) if node.capsule else ""
    gone = settle(end_capsule(node)._replace(pc=NO_AGENT))
    return Step(f"{label}: ends its capsule and goes", gone, cost=cost, wrong=wrong, good=not cost)


# -- what may run: the init's part


def let_go(machine: Machine, node: Node) -> Node:
    """The tree runs from now on, unless the init sees that its lease is over."""
    late = machine.shell.nothing_runs_without_lease and node.lease == 0
    return node._replace(tree=RUNNING, stopped=BY_LEASE if late else GOING)


def thawed(machine: Machine, node: Node) -> Node:
    """``Init.op_thaw``."""
    if node.tree != RUNNING or not node.stopped:
        return node
    if machine.shell.nothing_runs_without_lease and node.lease == 0:
        return node._replace(stopped=BY_LEASE)
    return node._replace(stopped=GOING)


def renewed(machine: Machine, node: Node, left: int) -> Node:
    """``Init.op_lease``: the lease ends *left* ticks from now."""
    node = node._replace(lease=left)
    if node.stopped == BY_GATE and machine.shell.gate_loss_outlasts_renewals:
        return node
    return thawed(machine, node)


def gate_rolled_back(machine: Machine, node: Node) -> Node:
    """CRIU lets the tree run on; one that has lost its CRIU is thawed."""
    return let_go(machine, node) if node.tree in (DUMP_GATE, RUNNING) else node


def init_steps(machine: Machine, node: Node) -> Steps:
    """The init's own look at the lease, and the task's own end."""
    if overdue(node) and machine.shell.init_stops_without_lease:
        yield Step("init: the lease is over: stops the tree", node._replace(stopped=BY_LEASE), good=True)
    if makes_progress(node):
        yield Step("the task ends well", node._replace(tree=EXITED, code=0), good=True)
        if machine.rules.states[view(node)[0]].restored:
            yield Step("the task dies of SIGSEGV", node._replace(tree=EXITED, code=SIGSEGV), cost=FAULT)
        yield Step("the task ends with 1", node._replace(tree=EXITED, code=1), cost=FAULT)


# -- jobs


def job_steps(machine: Machine, node: Node) -> Steps:
    """The next steps of the long effect under way."""
    job = node.job
    if job.kind == "start":
        yield from _starts(machine, node)
    elif job.kind == "restore":
        yield from _restores(machine, node)
    elif job.kind in ("predump", "dump"):
        yield from _captures(machine, node)
    elif job.kind == "files":
        yield Step("the ended task's files are stored", _saved(node, "files"), good=True)


def _held_back(node: Node) -> bool:
    return node.since_claim * TICK_MS < node.job.hold_ms


def _starts(machine: Machine, node: Node) -> Steps:
    """``Executor._start``."""
    if machine.rules.states[view(node)[0]].cancelled:
        off = node._replace(capsule=2, tree=EXITED, code=1, started=True, job=NO_JOB)
        yield Step("starts nothing: the user has cancelled", off, good=True)
    if _held_back(node):
        return
    if not node.capsule:
        yield Step("can't start: the capsule is gone", node._replace(lost=True, job=NO_JOB), good=True)
        return
    early = any(entry.mine for entry in node.tail)
    wrong = "5: the task is started before its claim is mirrored" if early else ""
    lease = node.good if machine.lease else -1
    node = node._replace(capsule=2, lease=lease, ran=True, started=True, job=NO_JOB)
    yield Step("starts the task", let_go(machine, node), wrong=wrong, good=True)


def _restores(machine: Machine, node: Node) -> Steps:
    """``Restorer.restore``, up to the gate."""
    job = node.job
    if not _held_back(node) and node.capsule:
        wrong = ""
        if any(entry.mine for entry in node.tail):
            wrong = "5: a snapshot is restored before its claim is mirrored"
        if job.snapshot not in machine.rules.seen[view(node)[0]].whole:
            wrong = "3: a restore uses a snapshot that is not committed and whole"
        lease = node.good if machine.lease else -1
        at_gate = node._replace(capsule=2, tree=RESTORE_GATE, lease=lease, job=Job("ready", job.snapshot))
        yield Step(f"restores {job.snapshot} up to the gate", at_gate, wrong=wrong, good=True)
    again = end_capsule(node)._replace(capsule=1)
    failed = again._replace(job=Job("restore failed", job.snapshot))
    yield Step(
        f"can't restore {job.snapshot}", failed, cost=FAULT if node.capsule else FREE, good=not node.capsule
    )
    damaged = again._replace(job=Job("restore failed", job.snapshot, stage=1))
    yield Step(f"finds {job.snapshot} damaged", damaged, cost=FAULT)


def _captures(machine: Machine, node: Node) -> Steps:
    """``Capturer.final`` and ``Capturer.periodic``: freeze, copy or store, gate."""
    job = node.job
    failed = Job("dump failed")
    if job.stage == 0:
        if node.tree == RUNNING and not node.stopped:
            frozen = node._replace(tree=DUMP_GATE, job=job._replace(stage=1))
            yield Step(f"CRIU freezes the tree ({job.kind})", frozen, good=True)
        if node.tree == EXITED:
            yield Step("CRIU finds no tree", node._replace(job=failed), good=True)
        return
    if job.stage == 1 and node.tree != DUMP_GATE:
        yield Step("CRIU is gone from its gate", node._replace(job=failed), good=True)
        return
    if job.stage == 1 and job.kind == "predump":
        copied = let_go(machine, node)._replace(job=job._replace(stage=2))
        yield Step("has copied what changed, and lets the tree run on", copied, good=True)
    else:
        kind = "final" if job.kind == "dump" else "periodic"
        if machine.shell.packs_before_manifest:
            what = f"has stored and verified {job.snapshot} ({kind})"
            yield Step(what, _saved(node, kind), stored=job.snapshot, good=True)
        else:
            early = _saved(node, kind, PARTIAL)
            yield Step(f"has written the manifest of {job.snapshot} ({kind})", early, good=True)
    rolled = gate_rolled_back(machine, node) if job.stage == 1 else node
    yield Step(f"{job.kind} fails", rolled._replace(job=failed), cost=FAULT)


def _saved(node: Node, kind: str, manifest: str = WHOLE) -> Node:
    return node._replace(job=Job(f"saved {kind}", node.job.snapshot, stage=int(manifest == WHOLE)))
