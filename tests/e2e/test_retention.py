"""Older snapshots go while the task runs, and all of them once nobody needs the task any longer."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fsnap.core.retention import KEPT, PRUNED_FROM
from tests.e2e.conftest import MakeScenario
from tests.e2e.harness import CHECKPOINTED, FSNAP, WORKLOADS, Scenario, assert_same, damage

pytestmark = pytest.mark.criu


def fsnap(task: Scenario, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [FSNAP, *words, "--store", f"file://{task.store}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def stored(task: Scenario) -> set[str]:
    """The snapshots that have a manifest."""
    return {path.parent.name for path in (task.store / "tasks").glob("*/snapshots/*/manifest.json")}


def test_a_task_of_many_checkpoints_goes_on_from_the_last(scenario: MakeScenario) -> None:
    task = scenario([sys.executable, WORKLOADS / "heap.py"])
    task.env |= {"BLOCKS": "30"}
    expected = task.baseline()
    seen: set[str] = set()

    def many() -> bool:
        seen.update(stored(task))
        return len(seen) > PRUNED_FROM + 2

    attempt = task.start("--interval", "0.3", env={"PACE": "0.4"})
    attempt.wait("many checkpoints", many)
    task.give_notice()
    attempt.finish(CHECKPOINTED)
    seen.update(stored(task))
    assert KEPT <= len(stored(task)) < len(seen)
    checked = fsnap(task, "verify", task.task_id)
    assert checked.returncode == 0, checked.stdout
    assert checked.stdout.count(": whole (") >= KEPT
    task.finish()
    assert_same(task.result(), expected)

    collected = fsnap(task, "gc", "--older-than", "0")
    assert (collected.returncode, collected.stderr) == (0, "")
    assert not stored(task)
    assert not list((task.store / "tasks").glob("*/packs/*"))
    again = task.finish()
    assert bytes(again.stdout.data) == expected.stdout


def test_a_pack_that_rots_spoils_no_later_snapshot(scenario: MakeScenario) -> None:
    task = scenario([sys.executable, WORKLOADS / "heap.py"])
    task.env |= {"BLOCKS": "30"}
    expected = task.baseline()
    attempt = task.start("--interval", "0.5", env={"PACE": "0.3"})
    attempt.wait("a checkpoint", lambda: len(stored(task)) >= 1)
    pack = max((task.store / "tasks").glob("*/packs/*"), key=lambda path: path.stat().st_size)
    damage(pack)
    attempt.wait_stderr("is damaged: the next checkpoint stores its content again")
    told_at = len(stored(task))
    attempt.wait("one more", lambda: len(stored(task)) > told_at)
    task.give_notice()
    attempt.finish(CHECKPOINTED)
    last = task.finish()
    assert_same(task.result(), expected)
    assert "can't be restored" not in last.log
