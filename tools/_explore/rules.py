"""The project's own rules, asked and remembered: chart, planner, fold and claim rules, no copy of them.

Each is looked up where it lives at every question, so that a rule that was replaced there is the one asked.

Task states are numbered, so that a world is a few small numbers.  Two states that no rule can tell apart
get one number: what only people read, or what only counts (``seq``, digests, texts, clock readings), is
blanked.  Who the holder is belongs to the world, not to the numbered state: a record either names the
capsule of the node that writes it, or leaves the holder as it was.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from _explore.refusals import forbidden, refusals
from fsnap import charts
from fsnap.core import claim, drafting, effects, fold, guards, planner
from fsnap.core.chart import Chart
from fsnap.core.effects import Durability, Effect
from fsnap.core.events import CapsuleLost, DumpFailed, Event, TaskExited, Tick
from fsnap.core.model import (
    LIVE,
    TERMINAL,
    Attempt,
    Config,
    Facts,
    Holder,
    Pending,
    SnapshotRef,
    State,
    TaskState,
)
from fsnap.errors import FsnapError

TASK = "task"
WHOLE = "whole"
"""Manifest digest of a snapshot all of whose bytes are stored and verified."""

PARTIAL = "partial"
"""The manifest is there and some of the bytes that it names are not."""


MAY_COME_LATE = (CapsuleLost, DumpFailed, TaskExited, Tick)
"""What an agent may post when it means nothing any more: it is passed over, and no defect."""

DEFECTS = (FsnapError, AssertionError, AttributeError, LookupError, StopIteration, TypeError, ValueError)
"""What rules raise that can't answer."""


def _holder(instance: str) -> Holder:
    return Holder(node="node", instance=instance, boot_id="", pid_ns="", init_pid=1, init_start=1)


MINE = _holder("mine")
"""In an event: the capsule of the node that writes the record."""

SOMEBODY = _holder("somebody")
"""In a numbered state: whoever the world says."""


class Refused(NamedTuple):
    """The rules raised: nobody should have asked."""

    problem: str


class Move(NamedTuple):
    """A decision to be recorded."""

    trigger: str
    effects: tuple[Effect, ...]
    mirrored: bool
    """The effects wait for the mirrored record."""
    next: int
    """The number of the task's state after the record."""
    mine: bool
    """The record makes the writer's capsule the holder."""
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the world needs to know of a numbered state, taken out once."""

    state: State
    live: bool
    terminal: bool
    held: bool
    uploaded: bool
    finishing: bool
    waiting: bool
    """A notice stands."""
    epoch: int
    resumes: int
    """Committed resumes in this epoch."""
    hold_after: bool
    newest: str
    """The id of the newest committed snapshot."""
    whole: frozenset[str]
    """Ids of the snapshots that may be restored."""
    partial: bool
    """Some snapshot that counts as committed has not all of its bytes."""
    unrefused: str
    """What is broken by an event that the rules should have refused."""


class Rules:
    """The rules under one configuration of ``run``."""

    def __init__(self, config: Config, scheduler: str, *, one_job: bool) -> None:
        self.config = config
        self.scheduler = scheduler
        self.one_job = one_job
        self.chart: Chart = charts.task_chart()
        self.states: list[TaskState] = []
        self.seen: list[Seen] = []
        self._numbers: dict[tuple[Any, ...], int] = {}
        self._decided: dict[tuple[int, Event, Facts], Move | Refused | None] = {}
        self._judged: dict[tuple[int, int, bool, int], claim.Verdict | Refused] = {}
        self.new = self._number(TaskState(task=TASK, config=config), 0)

    def attempt(self, number: int) -> Attempt | None:
        """The scheduler's count; 0: it counts nothing."""
        job = TASK if self.one_job else f"job {number}"
        return Attempt(scheduler=self.scheduler, job=job, number=number) if number else None

    def decide(self, number: int, event: Event, facts: Facts) -> Move | Refused | None:
        """What ``core.planner.decide`` says, folded by ``core.fold``; ``None``: nothing follows."""
        key = (number, event, facts)
        if key not in self._decided:
            self._decided[key] = self._decide(number, event, facts)
        return self._decided[key]

    def _decide(self, number: int, event: Event, facts: Facts) -> Move | Refused | None:
        state = self.states[number]
        try:
            decision = planner.decide(self.chart, state, event, facts)
        except DEFECTS as problem:
            return Refused(f"{type(problem).__name__}: {problem}")
        if decision.trigger is None:
            return None
        record = drafting.draft(self.chart, state, event, facts, decision, node="", at="", mono_ms=0)
        try:
            after = fold.fold(state, record)
        except DEFECTS as problem:
            return Refused(f"fold: {type(problem).__name__}: {problem}")
        # A restored tree whose death is recorded counts no more: it is tried again in the same epoch.
        resumes = self.seen[number].resumes if after.epoch == state.epoch and state.restored else 0
        return Move(
            trigger=decision.trigger,
            effects=decision.effects,
            mirrored=effects.durability(decision.effects) is Durability.MIRRORED,
            next=self._number(after, resumes + (decision.trigger == "restored")),
            mine=after.holder == MINE,
            note=decision.note,
        )

    def judge(self, number: int, attempt: int, holder_gone: bool, still_ms: int) -> claim.Verdict | Refused:
        """What ``core.claim.judge`` says."""
        key = (number, attempt, holder_gone, still_ms)
        if key not in self._judged:
            sight = claim.Sight(
                attempt=self.attempt(attempt), holder_gone=holder_gone, heartbeat_still_ms=still_ms
            )
            try:
                self._judged[key] = claim.judge(self.states[number], sight)
            except DEFECTS as problem:
                self._judged[key] = Refused(f"{type(problem).__name__}: {problem}")
        return self._judged[key]

    def snapshot(self, number: int, snapshot_id: str, kind: str, manifest: str) -> SnapshotRef:
        """The reference that a capture reports."""
        return SnapshotRef(
            id=snapshot_id,
            manifest=manifest,
            epoch=self.states[number].epoch,
            kind=kind,
            bytes=0,
            new_bytes=0,
            stored_bytes=0,
            committed_at="",
            run_ms=0,
            stdout_bytes=0,
            stderr_bytes=0,
        )

    # -- numbering

    def _number(self, state: TaskState, resumes: int) -> int:
        plain = replace(
            state,
            # Only ids of snapshots are made of it, and they must differ from those that are committed.
            seq=len(state.snapshots),
            digest="",
            since="",
            note="",
            holder=SOMEBODY,
            command=(),
            command_digest="",
            cwd="",
            notices=(),
            standing=tuple(_blank(notice) for notice in state.standing),
            outcome=None,
            reclaims_survived=0,
            work_saved_ms=0,
            run_base_ms=0,
        )
        key = (*(_key(getattr(plain, name)) for name in TaskState.__slots__), resumes)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self.states)
            self.states.append(plain)
            self.seen.append(_see(plain, resumes, self._unrefused(plain)))
        return number

    def _unrefused(self, state: TaskState) -> str:
        """The first event of :mod:`_explore.refusals` of which something follows."""
        for event, wrong in refusals(state, MINE):
            try:
                decision = planner.decide(self.chart, state, event, Facts())
            except DEFECTS as problem:
                if isinstance(event, MAY_COME_LATE):
                    return f"{event.__class__.__name__} in {state.state.value} is met by {problem!r}"
                continue
            if decision.trigger is not None:
                return f"{wrong} ({decision.trigger})"
        for trigger, event, wrong in forbidden(state, MINE):
            if self._is_legal(state, trigger, event):
                return f"{wrong} ({trigger})"
        return ""

    def _is_legal(self, state: TaskState, trigger: str, event: Event) -> bool:
        try:
            self.chart.step(
                state.state.value, trigger, lambda name: bool(guards.TASK_GUARDS[name](state, event))
            )
        except DEFECTS:
            return False
        return True


def _blank(notice: Pending) -> Pending:
    return replace(notice, seen_at="", deadline_mono_ms=0, deadline_at="")


def _key(value: Any) -> Any:
    return tuple(sorted(value.items())) if isinstance(value, dict) else value


def _see(state: TaskState, resumes: int, unrefused: str) -> Seen:
    return Seen(
        state=state.state,
        live=state.state in LIVE,
        terminal=state.state in TERMINAL,
        held=state.held,
        uploaded=state.state is State.UPLOADED,
        finishing=state.finishing,
        waiting=state.pending is not None,
        epoch=state.epoch,
        resumes=resumes,
        hold_after=state.config.after_commit == "hold",
        newest=max((ref.id for ref in state.snapshots), default=""),
        whole=frozenset(ref.id for ref in state.usable if ref.manifest == WHOLE),
        partial=any(ref.manifest != WHOLE for ref in state.snapshots),
        unrefused=unrefused,
    )
