"""Values of the core for tests, and lives of tasks made of them."""

from __future__ import annotations

from dataclasses import replace

from fsnap.charts import task_chart
from fsnap.core.drafting import draft
from fsnap.core.effects import Start
from fsnap.core.events import ClaimAsked, Event, Notice, RestoreFailed, SnapshotSaved
from fsnap.core.fold import fold
from fsnap.core.model import Attempt, Basis, Config, Facts, Holder, Pending, SnapshotRef, State, TaskState
from fsnap.core.planner import Decision, decide, snapshot_id
from fsnap.core.records import Record, seal

AT = "2026-11-21T22:09:52.123Z"
HOLDER = Holder(node="node-a", instance="i-1", boot_id="b1", pid_ns="4026", init_pid=900, init_start=77)
OTHER = replace(HOLDER, node="node-b", instance="i-2", boot_id="b2")
AWS = Attempt(scheduler="aws-batch", job="j", number=1)
SLURM = Attempt(scheduler="slurm", job="j", number=1)
HOUR_MS = 3_600_000


def ref(name: str = "000001-0000000003", kind: str = "periodic", *, run_ms: int = 60_000) -> SnapshotRef:
    return SnapshotRef(
        id=name,
        manifest="ab" * 32,
        epoch=1,
        kind=kind,
        bytes=1000,
        new_bytes=500,
        stored_bytes=250,
        committed_at=AT,
        run_ms=run_ms,
        stdout_bytes=10,
        stderr_bytes=0,
    )


def pending(notice_id: str = "n1") -> Pending:
    return Pending(
        notice_id=notice_id,
        provider="aws",
        window_ms=120_000,
        seen_at=AT,
        deadline_mono_ms=121_000,
        deadline_at="",
    )


def held(state: State, *snapshots: SnapshotRef, config: Config | None = None) -> TaskState:
    """A task in *state* that this node has, as the journal could have it."""
    return TaskState(
        task="t",
        state=state,
        seq=7,
        epoch=2,
        digest="d" * 64,
        since=AT,
        held=state not in (State.NEW, State.COMPLETED, State.FAILED),
        holder=None if state is State.NEW else HOLDER,
        attempt=None if state is State.NEW else SLURM,
        config=config or Config(),
        command=("cmd",),
        snapshots=snapshots,
        restored=state is State.RESUMED,
        restoring_from=snapshots[-1].id if state in (State.RESTORING, State.RESUMED) and snapshots else None,
    )


def claim(
    basis: Basis = Basis.NEW, *, config: Config | None = None, attempt: Attempt | None = None
) -> ClaimAsked:
    return ClaimAsked(
        basis=basis,
        holder=HOLDER,
        attempt=attempt,
        config=config or Config(),
        command=("cmd", "é"),
        command_digest="cd",
        cwd="/data",
    )


def choose(state: TaskState, event: Event, facts: Facts | None = None) -> Decision:
    return decide(task_chart(), state, event, facts or Facts())


class Life:
    """A task's records as the agent makes them: decided, recorded, folded."""

    def __init__(self, state: TaskState | None = None) -> None:
        self.first = self.state = state or TaskState(task="t")
        self.records: list[Record] = []

    def happens(self, event: Event, facts: Facts | None = None) -> Decision:
        """*event* comes; what was decided is recorded."""
        facts = facts or Facts()
        decision = choose(self.state, event, facts)
        if decision.trigger is None:
            return decision
        chart = task_chart()
        record = seal(draft(chart, self.state, event, facts, decision, node="node-a", at=AT, mono_ms=5))
        self.records.append(record)
        self.state = fold(self.state, record)
        return decision


NOTICE = Notice(notice_id="n1", provider="aws", window_ms=120_000)
HOLD = Config(after_commit="hold")


def started(config: Config | None = None) -> Life:
    life = Life()
    decision = life.happens(claim(config=config, attempt=SLURM), Facts(started=False))
    assert decision.effects == (Start(),)
    return life


def evacuated(config: Config | None = None) -> Life:
    life = started(config)
    life.happens(NOTICE)
    life.happens(SnapshotSaved(ref=ref(snapshot_id(life.state), "final")))
    return life


def saved(life: Life, kind: str = "periodic", run_ms: int = 60_000) -> str:
    """A snapshot ordered by the state before is committed; its id."""
    name = f"{life.state.epoch:06d}-{life.state.seq:010d}"
    life.happens(SnapshotSaved(ref=ref(name, kind, run_ms=run_ms)))
    return name


def failed(life: Life, *, corrupt: bool = False) -> RestoreFailed:
    assert life.state.restoring_from is not None
    return RestoreFailed(
        snapshot_id=life.state.restoring_from, code="criu", message="why", corrupt=corrupt, holder=OTHER
    )
