"""What no rule may follow, whatever led there: events that are late, doubled, or not what they say.

The agent never makes them in the states that are named here, so no path has them.  Chart and planner must not
record anything of them all the same: each is asked once for every state of a task that a search reaches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from fsnap.core.events import (
    CapsuleLost,
    ClaimAsked,
    DumpFailed,
    Event,
    RenewAsked,
    RestoreReady,
    SnapshotFound,
    SnapshotSaved,
    TaskExited,
    Tick,
)
from fsnap.core.model import LIVE, TERMINAL, Basis, Config, Holder, SnapshotRef, State, TaskState
from fsnap.core.planner import snapshot_id


def refusals(state: TaskState, holder: Holder) -> Iterator[tuple[Event, str]]:
    """Events of which nothing may follow in *state*, each with the invariant that it would break."""
    name = state.state.value
    if not state.finishing:
        yield _saved(state, "final", ""), f"2: in {name} a snapshot without a manifest is committed"
    yield (
        SnapshotFound(ref=_ref(state, "periodic", "")),
        f"3: in {name} a snapshot without a manifest is adopted",
    )
    if state.state is State.DUMPING:
        yield _saved(state, "periodic", "whole"), "2: uploaded is recorded for a periodic commit"
    if state.state is not State.FAILED and state.state is not State.NEW:
        yield (
            RenewAsked(reason="it had failed"),
            f"6: in {name} the task is begun anew, and nobody asked for it",
        )
    if state.state is not State.RESTORING or not state.held:
        yield _ready(state, holder), f"1: in {name} a second resume is recorded"
    if state.finishing:
        late = SnapshotSaved(ref=replace(_ref(state, "", "whole"), kind="periodic"))
        yield late, "2: a snapshot of the tree ends a task whose files are not saved"
    elif state.state in LIVE:
        yield _saved(state, "files", "whole"), f"2: in {name} a snapshot without a tree is committed"
    if state.state is State.RESTORING:
        yield TaskExited(exit_code=1), "6: the end of a restored tree that was never released ends the task"
    if state.state is State.UPLOADED:
        yield DumpFailed(code="late", message=""), "1: a dump is rolled back after its commit"
        yield CapsuleLost(message="late"), "5: a commit is given up after its record"
        yield TaskExited(exit_code=0), "1: a tree that was stopped for good ends the task"
    if state.state in TERMINAL:
        yield _claim(holder), f"6: in {name} the task is claimed and run again"
        yield TaskExited(exit_code=1), f"5: in {name} another exit code is recorded"
        yield Tick(), f"5: in {name} something is decided after the end"


def forbidden(state: TaskState, holder: Holder) -> Iterator[tuple[str, Event, str]]:
    """What the chart must refuse in *state*: trigger, event, and the invariant that is broken otherwise."""
    name = state.state.value
    if not state.held:
        yield "give_up", Tick(), f"8: in {name} a claim is given back that nobody has"
        yield "unhold", Tick(), f"1: in {name} a tree goes on that nobody holds"
        yield "restored", _ready(state, holder), f"1: in {name} a resume is recorded by nobody's claim"
    if state.usable:
        yield "claim_bare", Tick(), f"6: in {name} a start from nothing passes over a committed snapshot"
    else:
        yield "claim", Tick(), f"3: in {name} a snapshot is restored that may not be"
        yield "retry_restore", Tick(), f"3: in {name} a snapshot is restored that may not be"
    for trigger in ("commit", "checkpointed"):
        yield trigger, _saved(state, "final", ""), f"2: in {name} a snapshot without a manifest is committed"
    yield "commit", _saved(state, "periodic", "whole"), "2: uploaded is recorded for a periodic commit"
    yield (
        "adopt",
        SnapshotFound(ref=_ref(state, "periodic", "")),
        f"3: in {name} an unverified snapshot is adopted",
    )
    if state.state is not State.FAILED:
        yield (
            "renew",
            RenewAsked(reason="it had failed"),
            f"6: in {name} a new life begins that nobody asked for",
        )


def _ready(state: TaskState, holder: Holder) -> RestoreReady:
    newest = state.snapshots[-1].id if state.snapshots else ""
    return RestoreReady(snapshot_id=newest, holder=holder)


def _ref(state: TaskState, kind: str, manifest: str) -> SnapshotRef:
    return SnapshotRef(
        id=snapshot_id(state),
        manifest=manifest,
        epoch=state.epoch,
        kind="files" if state.finishing else kind,
        bytes=0,
        new_bytes=0,
        stored_bytes=0,
        committed_at="",
        run_ms=0,
        stdout_bytes=0,
        stderr_bytes=0,
    )


def _saved(state: TaskState, kind: str, manifest: str) -> SnapshotSaved:
    return SnapshotSaved(ref=_ref(state, kind, manifest))


def _claim(holder: Holder) -> ClaimAsked:
    return ClaimAsked(basis=Basis.HOLDER_GONE, holder=holder, attempt=None, config=Config())
