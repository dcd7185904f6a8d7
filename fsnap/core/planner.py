"""``decide``: what follows from an event.  Pure; the chart says whether it may.

A decision without a trigger is not recorded: nothing followed.  ``replay`` calls the
same function on recorded events and facts, so it may use nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from fsnap.core.budget import DUMPS_PER_NOTICE, interval_ms, plan_evacuation
from fsnap.core.chart import Chart
from fsnap.core.claim import hold_ms
from fsnap.core.effects import (
    ClaimAgain,
    Dump,
    Effect,
    Exit,
    Hold,
    Kill,
    Predump,
    Prune,
    Release,
    Restore,
    Resume,
    Rollback,
    SaveFiles,
    Signal,
    Start,
)
from fsnap.core.events import (
    CancelAsked,
    CapsuleLost,
    CheckpointAsked,
    ClaimAsked,
    CollectAsked,
    DumpFailed,
    Event,
    Notice,
    NoticeCancelled,
    RenewAsked,
    RestoreFailed,
    RestoreReady,
    SnapshotFound,
    SnapshotSaved,
    TaskExited,
    Tick,
)
from fsnap.core.guards import TASK_GUARDS
from fsnap.core.model import LIVE, TERMINAL, Facts, State, TaskState
from fsnap.core.poison import LOST_EPOCHS, as_claimed, between_tries, exhausted, failed_once, fatal_soon
from fsnap.core.retention import collectable, prunable
from fsnap.errors import EXIT_CHECKPOINTED, EXIT_RECLAIMED_UNSAVED, EXIT_RESTORE_FAILED

HOLD_GRACE_MS = 30_000
"""After the deadline has passed by this much on a living node, the notice was false."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to record and what to do."""

    trigger: str | None = None
    next_state: State
    effects: tuple[Effect, ...] = ()
    note: str = ""
    """For people: why."""


def decide(chart: Chart, state: TaskState, event: Event, facts: Facts) -> Decision:
    """The decision on *event* in *state*; :class:`IllegalTransition` if the chart forbids it."""
    wanted = _RULES[type(event)](state, event, facts)
    if wanted.trigger is None:
        return wanted
    dest = chart.step(state.state.value, wanted.trigger, lambda name: TASK_GUARDS[name](state, event))
    return Decision(trigger=wanted.trigger, next_state=State(dest), effects=wanted.effects, note=wanted.note)


def snapshot_id(state: TaskState) -> str:
    """The id of the snapshot that the next record orders: no two epochs share one."""
    return f"{state.epoch:06d}-{state.seq + 1:010d}"


def _do(state: TaskState, trigger: str, *effects: Effect, note: str = "") -> Decision:
    return Decision(trigger=trigger, next_state=state.state, effects=effects, note=note)


def _nothing(state: TaskState, note: str = "") -> Decision:
    return Decision(next_state=state.state, note=note)


def _live(state: TaskState) -> bool:
    return state.state in (State.RUNNING, State.RESUMED) and not state.finishing


def _claim_asked(state: TaskState, event: Event, facts: Facts) -> Decision:
    assert isinstance(event, ClaimAsked)
    if state.state is State.NEW:
        return _do(state, "begin", Start(hold_ms=state.hold_ms), note="started")
    found, wait_ms = as_claimed(state, event), hold_ms(state, event)
    if exhausted(found):
        chosen = found.usable[0]
        return _do(
            state,
            "claim",
            Exit(exit_code=EXIT_RESTORE_FAILED, outcome="restore-failed"),
            note=f"{found.lost_epochs[chosen.id]} attempts restored snapshot {chosen.id} and were lost, with"
            " nothing saved: this start does not try again, the next one does",
        )
    if found.usable:
        chosen = found.usable[0]
        return _do(
            state,
            "claim",
            Restore(snapshot_id=chosen.id, hold_ms=wait_ms),
            note=f"restores snapshot {chosen.id} ({event.basis.value}){_passed_over(state, found)}",
        )
    return _do(
        state,
        "claim_bare",
        Start(hold_ms=wait_ms),
        note=f"no committed snapshot: starts from nothing ({event.basis.value}){_passed_over(state, found)}",
    )


def _passed_over(before: TaskState, found: TaskState) -> str:
    if len(found.quarantined) <= len(before.quarantined):
        return ""
    return f"; {LOST_EPOCHS} attempts with snapshot {found.quarantined[-1]} were lost and saved nothing"


def _renew_asked(state: TaskState, event: Event, facts: Facts) -> Decision:
    assert isinstance(event, RenewAsked)
    if state.state is State.NEW:
        return _nothing(state)
    return _do(state, "renew", note=f"begins anew ({event.reason})")


def _notice(state: TaskState, event: Event, facts: Facts) -> Decision:
    assert isinstance(event, Notice)
    if event.notice_id in state.notices or state.state in TERMINAL:
        return _nothing(state)
    if event.action == "rebalance":
        if _live(state) and facts.started and not facts.unsupported:
            return _do(
                state, "predump", Predump(snapshot_id=snapshot_id(state)), note="rebalance recommended"
            )
        return _do(state, "note", note="rebalance recommended")
    if between_tries(state):
        exits = Exit(exit_code=EXIT_CHECKPOINTED, outcome="checkpointed")
        return _do(state, "note", exits, note="reclaimed before the next try")
    if not facts.started and (state.state in (State.NEW, State.UPLOADED) or not state.held):
        return _do(state, "note", note="reclaimed before anything was started")
    if state.state is State.RESTORING or (_live(state) and not facts.started):
        stands = "the earlier snapshot stands" if state.usable else "nothing had been started"
        return _do(
            state,
            "give_up",
            Kill(),
            Exit(exit_code=EXIT_CHECKPOINTED, outcome="checkpointed"),
            note=f"reclaimed before the task ran: {stands}",
        )
    if state.pending is not None or state.finishing or state.state in (State.DUMPING, State.UPLOADED):
        return _do(state, "note", note="one more notice")
    return _evacuate(state, facts, event.window_ms - facts.notice_age_ms, first=True)


def _evacuate(state: TaskState, facts: Facts, left_ms: int, *, first: bool) -> Decision:
    """Dump if it can be worth it; on a notice (*first*) the refusal is recorded too."""
    if facts.unsupported:
        reason = f"can't be checkpointed: {facts.unsupported}"
    elif not (plan := plan_evacuation(facts, left_ms)).go:
        reason = f"the dump would take {plan.commit_ms} ms of the {plan.left_ms} ms left"
    else:
        return _do(
            state,
            "dump",
            Dump(snapshot_id=snapshot_id(state)),
            note=f"dumps, margin {plan.margin_ms} ms",
        )
    if not first:
        return _nothing(state)
    return _do(state, "note", note=f"no dump, the task runs on to the deadline: {reason}")


def _notice_cancelled(state: TaskState, event: Event, facts: Facts) -> Decision:
    assert isinstance(event, NoticeCancelled)
    left = [notice for notice in state.standing if notice.notice_id != event.notice_id]
    if len(left) == len(state.standing):
        return _nothing(state)
    if left:
        return _do(state, "note", note="the notice was taken back; another one stands")
    if state.state is State.DUMPING:
        return _do(state, "rollback", Rollback(), note="the notice was taken back")
    if state.state is State.UPLOADED and state.config.after_commit == "hold":
        return _do(state, "unhold", Resume(), note="the notice was taken back")
    return _do(state, "note", note="the notice was taken back")


def _tick(state: TaskState, event: Event, facts: Facts) -> Decision:
    if state.state is State.UPLOADED:
        if (
            state.config.after_commit == "hold"
            and facts.left_ms is not None
            and facts.left_ms < -HOLD_GRACE_MS
        ):
            return _do(
                state, "unhold", Resume(), note="the deadline passed and the node lives: a false notice"
            )
        return _nothing(state)
    if state.state is State.DUMPING and facts.left_ms is not None and facts.left_ms <= 0:
        return _reclaimed_unsaved(state)
    if not _live(state):
        return _nothing(state)
    if state.pending is not None and facts.left_ms is not None:
        if facts.left_ms <= 0:
            return _reclaimed_unsaved(state)
        if facts.failed_dumps and facts.failed_dumps < DUMPS_PER_NOTICE:
            return _evacuate(state, facts, facts.left_ms, first=False)
        return _nothing(state)
    if facts.started and (dropped := prunable(state)):
        note = f"{len(dropped)} older snapshots are not needed any longer"
        return _do(state, "prune", Prune(snapshot_ids=dropped), note=note)
    if not facts.started or facts.unsupported or facts.since_snapshot_ms < interval_ms(state.config, facts):
        return _nothing(state)
    return _do(state, "predump", Predump(snapshot_id=snapshot_id(state)), note="periodic checkpoint")


def _reclaimed_unsaved(state: TaskState, why: str = "reclaimed without the final commit") -> Decision:
    usable = replace(state, held=False).usable
    best = usable[0].id if usable else None
    note = f"a retry resumes from snapshot {best}" if best else "a retry starts from nothing"
    return _do(
        state,
        "give_up",
        Kill(),
        Exit(exit_code=EXIT_RECLAIMED_UNSAVED, outcome="reclaimed"),
        note=f"{why}: {note}",
    )


def _checkpoint_asked(state: TaskState, event: Event, facts: Facts) -> Decision:
    assert isinstance(event, CheckpointAsked)
    if not _live(state) or not facts.started or state.pending is not None:
        return _nothing(state)
    return _do(state, "predump", Predump(snapshot_id=snapshot_id(state)), note=event.reason)


def _snapshot_saved(state: TaskState, event: Event, facts: Facts) -> Decision:
    assert isinstance(event, SnapshotSaved)
    if state.finishing != (event.ref.kind == "files"):
        return _nothing(state)
    if state.finishing:
        return _ended(state, state.exit_code or 0)
    if state.state is State.PREDUMPING:
        return _do(state, "checkpointed")
    if state.config.after_commit == "hold":
        return _do(state, "commit", Hold(), note="committed; holds until the host goes")
    return _do(
        state,
        "commit",
        Kill(),
        Exit(exit_code=EXIT_CHECKPOINTED, outcome="checkpointed"),
        note="committed",
    )


def _snapshot_found(state: TaskState, event: Event, facts: Facts) -> Decision:
    assert isinstance(event, SnapshotFound)
    if state.state not in LIVE or state.finishing or event.ref.id in {ref.id for ref in state.snapshots}:
        return _nothing(state)
    return _do(state, "adopt", note=f"snapshot {event.ref.id} was whole when its node died")


def _dump_failed(state: TaskState, event: Event, facts: Facts) -> Decision:
    assert isinstance(event, DumpFailed)
    if state.state in (State.DUMPING, State.PREDUMPING):
        return _do(state, "rollback", note=f"{event.code}: {event.message}"[:400])
    return _nothing(state)


def _restore_ready(state: TaskState, event: Event, facts: Facts) -> Decision:
    assert isinstance(event, RestoreReady)
    return _do(state, "restored", Release(), note=f"resumed from snapshot {event.snapshot_id}")


def _restore_failed(state: TaskState, event: Event, facts: Facts) -> Decision:
    assert isinstance(event, RestoreFailed)
    why = f"snapshot {event.snapshot_id}: {event.message}"[:400]
    return _instead(state, failed_once(state, event.snapshot_id, corrupt=event.corrupt), why)


def _harmed(state: TaskState, harm: str) -> Decision:
    """The next try is a claim of its own: an epoch releases one tree."""
    tried = state.restoring_from
    assert tried is not None
    after = failed_once(state, tried)
    if not after.usable:
        return _instead(state, after, f"snapshot {tried}: {harm}")
    note = f"snapshot {tried}: {harm}; tries {after.usable[0].id}"
    return _do(state, "give_up", Kill(), ClaimAgain(), note=note)


def _instead(state: TaskState, after: TaskState, why: str) -> Decision:
    """What follows when a restore came to nothing; *after* has it counted."""
    if after.usable:
        chosen = after.usable[0].id
        return _do(
            state,
            "retry_restore",
            Restore(snapshot_id=chosen, hold_ms=state.hold_ms),
            note=f"{why}; tries {chosen}",
        )
    intact = [ref for ref in after.snapshots if ref.kind != "files" and ref.id not in after.damaged]
    if state.config.on_restore_failure == "restart" or not intact:
        return _do(
            state,
            "restart",
            Start(hold_ms=state.hold_ms),
            note=f"{why}; no snapshot is left: STARTS FROM NOTHING",
        )
    return _do(
        state,
        "give_up",
        Kill(),
        Exit(exit_code=EXIT_RESTORE_FAILED, outcome="restore-failed"),
        note=why,
    )


def _capsule_lost(state: TaskState, event: Event, facts: Facts) -> Decision:
    assert isinstance(event, CapsuleLost)
    if state.finishing or not state.held or state.state in (State.UPLOADED, State.NEW, *TERMINAL):
        return _nothing(state)
    return _reclaimed_unsaved(state, why=event.message)


def _task_exited(state: TaskState, event: Event, facts: Facts) -> Decision:
    assert isinstance(event, TaskExited)
    if state.state in (State.UPLOADED, State.COMPLETED, State.FAILED):
        return _nothing(state)
    if state.state is State.RESTORING:
        return _nothing(state)  # CRIU's own doing: what it restored was never released
    if state.pending is None and (harm := fatal_soon(state, event.exit_code, facts)) is not None:
        return _harmed(state, harm)
    if event.exit_code == 0 and not state.config.shared_state:
        return _do(state, "finish", SaveFiles(snapshot_id=snapshot_id(state)), note="ended; saves its files")
    if state.state in (State.PREDUMPING, State.DUMPING) and event.exit_code == 0:
        return _do(state, "finish", SaveFiles(snapshot_id=snapshot_id(state)), note="ended during a dump")
    return _ended(state, event.exit_code)


def _ended(state: TaskState, code: int) -> Decision:
    outcome = "cancelled" if state.cancelled else "exited"
    trigger = "complete" if code == 0 else "fail"
    return _do(state, trigger, Exit(exit_code=code, outcome=outcome), note=f"{outcome} with {code}")


def _cancel_asked(state: TaskState, event: Event, facts: Facts) -> Decision:
    assert isinstance(event, CancelAsked)
    if between_tries(state):
        code = 128 + event.signal
        return _do(state, "fail", Kill(), Exit(exit_code=code, outcome="cancelled"), note="cancelled")
    if state.state in (State.RUNNING, State.RESUMED, State.PREDUMPING):
        return _do(state, "note", Signal(signal=event.signal), note="cancelled: the signal went to the task")
    if state.state is State.DUMPING:
        return _do(state, "rollback", Rollback(), Signal(signal=event.signal), note="cancelled during a dump")
    if state.state is State.RESTORING:
        code = 128 + event.signal
        return _do(state, "fail", Kill(), Exit(exit_code=code, outcome="cancelled"), note="cancelled")
    return _nothing(state)


def _collect_asked(state: TaskState, event: Event, facts: Facts) -> Decision:
    assert isinstance(event, CollectAsked)
    if not collectable(state, force=True):
        return _nothing(state)
    trigger = "collect" if state.state in TERMINAL else "abandon"
    return _do(state, trigger, note=f"its snapshots are deleted: {event.reason}")


_RULES: dict[type[Event], Callable[[TaskState, Event, Facts], Decision]] = {
    ClaimAsked: _claim_asked,
    RenewAsked: _renew_asked,
    Notice: _notice,
    NoticeCancelled: _notice_cancelled,
    Tick: _tick,
    CheckpointAsked: _checkpoint_asked,
    SnapshotSaved: _snapshot_saved,
    SnapshotFound: _snapshot_found,
    DumpFailed: _dump_failed,
    RestoreReady: _restore_ready,
    RestoreFailed: _restore_failed,
    TaskExited: _task_exited,
    CapsuleLost: _capsule_lost,
    CancelAsked: _cancel_asked,
    CollectAsked: _collect_asked,
}
