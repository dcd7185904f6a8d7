"""A node that is lost without a word costs the time since its last periodic checkpoint, and nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import MakeScenario
from tests.e2e.harness import NEW_NODE, OWN_NETWORK, WORKLOADS, Scenario, assert_same_bytes, printed

pytestmark = pytest.mark.criu


def committed(task: Scenario) -> int:
    """How many snapshots are in the store."""
    return len(list(task.store.glob("tasks/*/snapshots/*/manifest.json")))


@pytest.mark.parametrize(
    "node", [OWN_NETWORK, pytest.param(NEW_NODE, marks=pytest.mark.slow)], ids=["here", "own-namespaces"]
)
def test_a_killed_node(scenario: MakeScenario, tmp_path: Path, node: tuple[str, ...]) -> None:
    task = scenario([sys.executable, WORKLOADS / "heap.py"])
    task.env["BLOCKS"] = "8"
    expected = task.baseline()
    task.node = node
    out = tmp_path / "stdout"
    task.flags += ["--interval", "1", "--lease", "3", "--stdout", str(out)]
    for number in (1, 2):
        before = committed(task)
        attempt = task.start("--attempt", str(number))
        attempt.wait("a periodic checkpoint", lambda before=before: committed(task) > before)
        attempt.wait_file(task.state / "heap.txt", f"\n{12 * number} ")
        task.lose_node(attempt)
        assert attempt.exit_code != 0
        out.unlink()  # with its machine
    task.finish("--attempt", "3")
    assert "resumed from" in task.attempts[-1].log
    assert_same_bytes(out.read_bytes(), expected.stdout, "--stdout")
    assert task.result().files == expected.files


def test_after_a_periodic_checkpoint_the_task_is_what_it_was(scenario: MakeScenario) -> None:
    """Many checkpoints of a task that runs on: its output is that of one that had none."""
    task = scenario([sys.executable, WORKLOADS / "details.py"])
    expected = task.baseline()
    task.flags += ["--interval", "0.5"]
    task.start().finish(0)
    assert committed(task) >= 2
    result = task.result()
    assert_same_bytes(result.stdout, expected.stdout, "stdout")
    assert result.files == expected.files


def test_a_notice_after_periodic_checkpoints(scenario: MakeScenario) -> None:
    task = scenario([sys.executable, WORKLOADS / "heap.py"])
    task.env["BLOCKS"] = "8"
    expected = task.baseline()
    task.flags += ["--interval", "0.5"]
    result = task.run_through(printed("step 14 "), printed("step 26 "))
    assert committed(task) >= 4
    assert_same_bytes(result.stdout, expected.stdout, "stdout")
    assert result.files == expected.files
