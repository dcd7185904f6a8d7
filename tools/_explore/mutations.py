"""Rules and duties broken on purpose: the exploration must find each.

Every duty of :class:`~_explore.shell.Shell` can be left out, under its name; the others patch the
project's own rules while a search runs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import PropertyMock, patch

from _explore.scenarios import Run
from _explore.shell import Shell
from fsnap import charts
from fsnap.agent import recovery
from fsnap.core import claim, effects, guards, model, planner
from fsnap.core.chart import Arrow, Chart
from fsnap.core.events import DumpFailed, Event, SnapshotSaved
from fsnap.core.model import Attempt, Facts, State, TaskState

Patch = Callable[[ExitStack], None]

QUICK = Run(scenario="lease", starts=2)
FAULTY = Run(scenario="lease", starts=2, faults=1)
NOTICED = Run(scenario="lease", starts=2, notices=1, depth=16)
ALONE = Run(scenario="hold", nodes=1, starts=2, faults=2, notices=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """One rule or duty broken."""

    name: str
    about: str
    duty: str = ""
    """The field of ``Shell`` that it turns off."""
    patches: Patch = lambda stack: None
    found_by: Run | None = QUICK
    """A small search that finds it; ``None``: nobody knows."""

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The rules are patched."""
        with ExitStack() as stack:
            self.patches(stack)
            yield

    def left(self, shell: Shell) -> Shell:
        """The duties of *shell* without the one that this mutation leaves out."""
        return dataclasses.replace(shell, **({self.duty: False} if self.duty else {}))


def _release_before_its_record(stack: ExitStack) -> None:
    stack.enter_context(patch.object(effects.Release, "durability", effects.Durability.LOCAL))


def _start_before_its_record(stack: ExitStack) -> None:
    stack.enter_context(patch.object(effects.Start, "durability", effects.Durability.LOCAL))


def _lease_ignored(stack: ExitStack) -> None:
    real = claim.judge

    def judge(state: TaskState, sight: claim.Sight) -> claim.Verdict:
        return real(state, dataclasses.replace(sight, heartbeat_still_ms=state.config.lease_ms))

    stack.enter_context(patch.object(claim, "judge", judge))


def _every_attempt_proves(stack: ExitStack) -> None:
    proves = PropertyMock(return_value=True)
    stack.enter_context(patch.object(model.Attempt, "proves_end", proves))


def _uploaded_for_a_periodic_commit(stack: ExitStack) -> None:
    real = planner._RULES[SnapshotSaved]

    def saved(state: TaskState, event: Event, facts: Facts) -> planner.Decision:
        if state.state is State.PREDUMPING:
            return real(dataclasses.replace(state, state=State.DUMPING), event, facts)
        return real(state, event, facts)

    chart = charts.task_chart()
    arrow = Arrow(trigger="commit", source="predumping", dest="uploaded", conditions=(), unless=())
    wider: Chart = dataclasses.replace(chart, arrows=(*chart.arrows, arrow))
    stack.enter_context(patch.dict(planner._RULES, {SnapshotSaved: saved}))
    stack.enter_context(patch.dict(guards.TASK_GUARDS, {"is_final": lambda state, event: True}))
    stack.enter_context(patch.object(charts, "task_chart", lambda: wider))


def _kill_before_its_record(stack: ExitStack) -> None:
    for kind in (effects.Kill, effects.Exit):
        stack.enter_context(patch.object(kind, "durability", effects.Durability.LOCAL))


def _equal_attempt_takes_over(stack: ExitStack) -> None:
    real = claim._later

    def later(recorded: Attempt | None, mine: Attempt | None) -> bool:
        return real(recorded, mine) or (recorded is not None and recorded == mine)

    stack.enter_context(patch.object(claim, "_later", later))


def _completed_runs_again(stack: ExitStack) -> None:
    stack.enter_context(patch.dict(guards.TASK_GUARDS, {"renewal_is_due": lambda state, event: True}))


def _unpinned_manifest(stack: ExitStack) -> None:
    stack.enter_context(patch.dict(guards.TASK_GUARDS, {"is_verified": lambda state, event: True}))


def _rollback_after_uploaded(stack: ExitStack) -> None:
    def failed(state: TaskState, event: Event, facts: Facts) -> planner.Decision:
        return planner.Decision(trigger="rollback", next_state=state.state)

    chart = charts.task_chart()
    arrow = Arrow(trigger="rollback", source="uploaded", dest="running", conditions=(), unless=())
    wider: Chart = dataclasses.replace(chart, arrows=(*chart.arrows, arrow))
    stack.enter_context(patch.object(charts, "task_chart", lambda: wider))
    stack.enter_context(patch.dict(planner._RULES, {DumpFailed: failed}))


def _orphans_go_on_at_any_gate(stack: ExitStack) -> None:
    real = recovery._needs_the_store

    def needs(state: TaskState, seen: dict[str, Any]) -> bool:
        return real(state, {**seen, "gate": None})

    stack.enter_context(patch.object(recovery, "_needs_the_store", needs))


NONE = Mutation(name="none", about="the rules and duties as they are", found_by=None)


def from_file(path: Path) -> Mutation:
    """Whatever the Python file *path* does to the project's modules when it is run.

    What it enters into ``stack``, a :class:`contextlib.ExitStack`, is undone at the end.
    """
    source = compile(path.read_text(encoding="utf-8"), str(path), "exec")

    def run(stack: ExitStack) -> None:
        exec(source, {"__name__": "mutation", "__file__": str(path), "stack": stack})

    return Mutation(name=path.stem, about=f"what {path} does", patches=run, found_by=None)


_OF_RULES = (
    Mutation(
        name="start-before-its-record",
        about="a claimed task is started before the create of the claim is answered",
        patches=_start_before_its_record,
    ),
    Mutation(
        name="release-before-its-record",
        about="a restored tree is released before the create of 'resumed' is answered",
        patches=_release_before_its_record,
        found_by=Run(scenario="lease", nodes=1, starts=2, notices=1),
    ),
    Mutation(
        name="lease-ignored",
        about="a claim is taken over whatever the holder's lease",
        patches=_lease_ignored,
    ),
    Mutation(
        name="kill-before-its-record",
        about="a dumped tree is killed before the create of 'commit' is answered",
        patches=_kill_before_its_record,
        found_by=NOTICED,
    ),
    Mutation(
        name="equal-attempt-takes-over",
        about="an attempt with the holder's own number counts as a later one",
        patches=_equal_attempt_takes_over,
    ),
    Mutation(
        name="completed-runs-again",
        about="a task that has completed is begun anew without --fresh",
        patches=_completed_runs_again,
    ),
    Mutation(
        name="unpinned-manifest",
        about="a snapshot counts as committed, or is adopted, without its manifest's digest",
        patches=_unpinned_manifest,
    ),
    Mutation(
        name="rollback-after-uploaded",
        about="the gate of a committed dump is rolled back on a late failure",
        patches=_rollback_after_uploaded,
        found_by=NOTICED,
    ),
    Mutation(
        name="restarted-agent-opens-any-gate",
        about="an agent started again in an outage opens a held gate whose release is recorded here alone",
        patches=_orphans_go_on_at_any_gate,
        found_by=Run(scenario="proof", nodes=1, starts=2, faults=1, notices=1, depth=20),
    ),
    Mutation(
        name="every-attempt-proves",
        about="any later attempt counts as proof that the earlier host is gone",
        patches=_every_attempt_proves,
    ),
    Mutation(
        name="uploaded-for-a-periodic-commit",
        about="a periodic checkpoint is recorded as the final dump",
        patches=_uploaded_for_a_periodic_commit,
        found_by=Run(scenario="lease", starts=2, checkpoints=1, depth=20),
    ),
)

_DUTIES = {
    "effects_wait_for_their_record": QUICK,
    "conditional_create": QUICK,
    "lease_counts_from_its_beginning": QUICK,
    "renewal_looks_for_the_fence": QUICK,
    "packs_before_manifest": NOTICED,
    "init_stops_without_lease": QUICK,
    "nothing_runs_without_lease": QUICK,
    "lease_end_is_absolute": QUICK,
    "own_clock": QUICK,
    "wait_sees_the_end": QUICK,
    "hold_counts_from_the_record": QUICK,
    "writes_only_as_holder": Run(scenario="lease", starts=2, notices=2, depth=16),
    "adoption_goes_with_the_claim": NOTICED,
    "stopped_before_giving_up": Run(scenario="lease", starts=2, notices=1, depth=16),
    "tail_is_mirrored_before_a_stray_ends": ALONE,
    "gate_loss_outlasts_renewals": Run(scenario="lease", nodes=1, starts=2, faults=1, notices=1, depth=18),
    "end_is_mirrored_before_its_code": ALONE,
    "strays_end_with_the_task": FAULTY,
    "recovery_lets_resumed_trees_go": Run(scenario="proof", nodes=1, starts=2, faults=1, notices=1),
    "recovery_outlasts_the_store": ALONE,
    "first_beat_may_fail": ALONE,
}
"""Every duty, with a search that finds that it is left out."""

MUTATIONS = {
    mutation.name: mutation
    for mutation in (
        *_OF_RULES,
        *(
            Mutation(
                name=f"not-{duty.replace('_', '-')}",
                about=f"this duty of the shell is left out: {duty.replace('_', ' ')}",
                duty=duty,
                found_by=run,
            )
            for duty, run in _DUTIES.items()
        ),
    )
}
