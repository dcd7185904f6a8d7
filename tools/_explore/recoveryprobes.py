"""Probes of an agent that finds a capsule alive, or the task ended: the real recovery and service."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from _explore.doubles import NOTICE, TASK, Capsules, Hands, Stage, holder
from fsnap.agent import recovery, service
from fsnap.core.events import TaskExited, Tick
from fsnap.core.model import Config, Facts, State, TaskState
from fsnap.errors import StoreError

CODE = 3
"""The exit code of the task in these probes."""


def _any(**attributes: Any) -> Any:
    return SimpleNamespace(**attributes)


def _found(stage: Stage) -> tuple[Any, Capsules, Hands]:
    capsules, hands = Capsules(stage.store, holder()), Hands(stage.store)
    parts = _any(
        ledger=stage.ledger,
        capsules=capsules,
        executor=hands,
        clock=stage.clock,
        begins_anew=False,
        trees=_any(load_baselines=lambda: None),
        lease=_any(attach=lambda control: None, take_over=lambda control, lease_ms: None),
        book=_any(deadline_s=None, failed_dumps=0),
        restorer=_any(restore_completed=lambda ref: None),
    )
    return parts, capsules, hands


def _alive() -> Any:
    return patch.object(recovery, "start_ticks", lambda pid: holder().init_start)


def tail_is_mirrored_before_a_stray_ends(folder: Path) -> bool:
    """A claim that was given back here alone: the tree stands, the record is put, then it ends."""
    stage = Stage(folder)
    stage.live()
    stage.take(NOTICE)
    stage.take(Tick(), Facts(left_ms=0))
    records = stage.store.records()
    stage.store.away = 2
    parts, capsules, _ = _found(stage)
    with _alive():
        try:
            recovery.take_over(parts, _any(post=lambda event: None))
        except StoreError:
            return False
    return capsules.done == [("freeze", records), ("end", records + 1)]


def recovery_outlasts_the_store(folder: Path) -> bool:
    """A store that is away for a while ends no living capsule."""
    stage = Stage(folder)
    stage.live()
    stage.take(NOTICE)
    stage.store.away = 200
    parts, capsules, hands = _found(stage)
    capsules.root_pid = 0  # what was to be started was not: that needs the store
    with _alive():
        try:
            taken = recovery.take_over(parts, _any(post=lambda event: None))
        except StoreError:
            return False
    return taken and ("end", 1) not in capsules.done and hands.done == [("Start", 2)]


def recovery_lets_resumed_trees_go(folder: Path) -> bool:
    """A restored tree at its gate whose resume is recorded is released."""
    resumed = TaskState(task=TASK, state=State.RESUMED, epoch=2, held=True, holder=holder(), restored=True)
    stage = Stage(folder)
    stage.ledger.state = resumed
    parts, capsules, hands = _found(stage)
    seen = {"gate": "post-restore", "root_pid": 1000, "exit_code": None, "helpers": {}, "boot_s": 0.0}
    recovery._go_on(parts, _any(post=lambda event: None), capsules.control, seen)
    return [what for what, _ in hands.done] == ["take gate", "Release"]


def _ended(stage: Stage) -> None:
    stage.live()
    stage.take(TaskExited(exit_code=CODE))
    assert stage.ledger.state.state is State.FAILED


def _answered(stage: Stage, capsules: Capsules, parts: Any) -> bool:
    settings = _any(config=Config(), task=TASK)
    with _alive():
        outcome = service.Service._already_completed(_any(_settings=settings), parts, stage.ledger.state)
    return outcome.exit_code == CODE


def end_is_mirrored_before_its_code(folder: Path) -> bool:
    """The code of a task that ended here alone is given back after its record is put, or not at all."""
    stage = Stage(folder)
    _ended(stage)
    records = stage.store.records()
    parts, capsules, _ = _found(stage)
    answered = _answered(stage, capsules, parts) and stage.store.records() == records + 1
    away = Stage(folder)
    _ended(away)
    away.store.away = 1000
    parts, capsules, _ = _found(away)
    try:
        _answered(away, capsules, parts)
    except StoreError:
        return answered
    return False


def strays_end_with_the_task(folder: Path) -> bool:
    """A capsule that is alive when the task has ended is ended."""
    stage = Stage(folder)
    _ended(stage)
    parts, capsules, _ = _found(stage)
    return _answered(stage, capsules, parts) and [what for what, _ in capsules.done] == ["end"]


RECOVERY_PROBES: dict[str, Callable[[Path], bool]] = {
    probe.__name__: probe
    for probe in (
        tail_is_mirrored_before_a_stray_ends,
        recovery_outlasts_the_store,
        recovery_lets_resumed_trees_go,
        end_is_mirrored_before_its_code,
        strays_end_with_the_task,
    )
}
"""By the name of the duty."""
