"""An agent that finds a capsule of its task alive: it looks, and goes on where the last one stopped.

The journal says what was intended, the init what became of it.  A closed gate is rolled
back unless the commit is recorded; a restored tree that was not released is killed and
claimed anew; everything else runs on under this agent, in the same epoch.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from loguru import logger

from fsnap.agent.home import RunDir
from fsnap.agent.job import CriuRun, Job
from fsnap.agent.loop import persist
from fsnap.agent.restart import restarted
from fsnap.agent.settings import RunSettings
from fsnap.capsule.control import Control
from fsnap.capsule.identity import start_ticks
from fsnap.core.effects import Exit, Hold, Kill, Release, SaveFiles, Start
from fsnap.core.events import DumpFailed, TaskExited
from fsnap.core.model import LIVE, Holder, State, TaskState
from fsnap.core.planner import snapshot_id
from fsnap.errors import EXIT_CHECKPOINTED, CapsuleError, Fenced
from fsnap.journal.local import Journal

if TYPE_CHECKING:
    from fsnap.agent.loop import TaskLoop
    from fsnap.agent.parts import Parts


def take_over(parts: Parts, loop: TaskLoop) -> bool:
    """Go on with the living capsule; false when it was not this task's live copy and has been ended."""
    state = parts.ledger.state
    holder = parts.capsules.last_here()
    ours = holder is not None and state.held and state.holder == holder and not parts.begins_anew
    if holder is None or not ours or state.state is State.RESTORING:
        _mirror_standing(parts, holder)
        end_stray(parts, holder)
        if state.held and state.holder != holder and holder is not None and state.epoch:
            logger.warning("an older capsule of this task was alive here and was stopped")
        return False
    try:
        control = parts.capsules.adopt(holder)
        seen = control.request("hello")
    except CapsuleError:
        end_stray(parts, holder)
        return False
    logger.info("takes over the task's living capsule (init {})", holder.init_pid)
    if _needs_the_store(state, seen):
        try:
            persist(
                parts.ledger.mirror, None, parts.clock
            )  # a store that is away is no reason to end the tree
        except Fenced:
            parts.capsules.end()
            raise
    parts.trees.load_baselines()
    _go_on(parts, loop, control, seen)
    return True


def lives_on(run_dir: RunDir, journal: Journal, settings: RunSettings) -> bool:
    """This node's journal says that it has the claim, and a capsule is alive here without an agent."""
    if settings.fresh and not restarted():
        return False
    fd = run_dir.lock_init()
    if fd is not None:
        os.close(fd)
        return False
    return journal.state(settings.task).held


def _needs_the_store(state: TaskState, seen: dict[str, Any]) -> bool:
    """What is to be done next follows a record that must be in the store; a tree that runs just runs on.

    A resumed tree at a gate was restored, or its commit was held: by the store it may be anybody's.
    """
    started = bool(seen["root_pid"]) or seen["exit_code"] is not None
    return state.state not in LIVE or not started or (bool(seen["gate"]) and state.state is State.RESUMED)


def _go_on(parts: Parts, loop: TaskLoop, control: Control, seen: dict[str, Any]) -> None:
    state = parts.ledger.state
    run = CriuRun(parts.capsules, Job("recovery", lambda job: None))
    run.at_gate = seen["gate"] is not None
    parts.lease.take_over(control, state.config.lease_ms)
    if state.pending is not None:
        parts.book.deadline_s = state.pending.deadline_mono_ms / 1000
        parts.book.failed_dumps = 1  # so that it is tried again
    if state.state is State.UPLOADED:
        parts.executor.take_gate(run, state)
        if state.config.after_commit == "hold":
            parts.executor.carry_out(Hold(), state)
            return
        parts.executor.carry_out(Kill(), state)
        parts.executor.carry_out(Exit(exit_code=EXIT_CHECKPOINTED, outcome="checkpointed"), state)
        return
    if state.state not in LIVE:
        parts.capsules.end()
        parts.executor.carry_out(
            Exit(exit_code=state.exit_code or 0, outcome=state.outcome or "exited"), state
        )
        return
    if not seen["root_pid"] and seen["exit_code"] is None:
        parts.executor.carry_out(Start(hold_ms=state.hold_ms), state)
        return
    if seen["gate"] == "post-restore" and state.state is State.RESUMED:
        parts.executor.take_gate(run, state)
        parts.executor.carry_out(Release(), state)
        return
    run.abandon()
    parts.executor.resume_watching(state, control)
    if state.state in (State.DUMPING, State.PREDUMPING):
        loop.post(DumpFailed(code="agent-restarted", message="the agent was restarted during the dump"))
    if state.finishing:
        parts.executor.carry_out(SaveFiles(snapshot_id=snapshot_id(state)), state)
    elif seen["exit_code"] is not None:
        loop.post(TaskExited(exit_code=int(seen["exit_code"])))


def _mirror_standing(parts: Parts, holder: Holder | None) -> None:
    """Records that say why the tree must end are the world's before it does; meanwhile it stands still."""
    if parts.ledger.mirrored:
        return
    if holder is not None:
        parts.capsules.pause(holder)
    try:
        persist(parts.ledger.mirror, None, parts.clock)
    except Fenced:
        end_stray(parts, holder)
        raise


def end_stray(parts: Parts, holder: Holder | None) -> None:
    """End a capsule that must not go on."""
    if holder is None or start_ticks(holder.init_pid) != holder.init_start:
        return
    try:
        parts.capsules.adopt(holder)
    except CapsuleError:
        return
    parts.capsules.end()
