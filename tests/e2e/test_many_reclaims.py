"""The same task reclaimed a dozen times: what goes wrong one time in ten shows here."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import MakeScenario
from tests.e2e.harness import CHECKPOINTED, WORKLOADS, Attempt, Scenario, assert_same

pytestmark = [pytest.mark.criu, pytest.mark.slow]

RECLAIMS = 12


def reclaim_often(task: Scenario, at: Callable[[Attempt], None]) -> int:
    """Reclaim at the same moment of each attempt until the task ends; how often it went on."""
    for number in itertools.count():
        attempt = task.start()
        if number < RECLAIMS:
            at(attempt)
            task.give_notice()
        if attempt.finish() != CHECKPOINTED:
            task.assert_clean()
            return number
    raise AssertionError


def printed_bytes(n_bytes: int) -> Callable[[Attempt], None]:
    return lambda attempt: attempt.wait("output", lambda: len(attempt.stdout.data) >= n_bytes)


@pytest.mark.parametrize("workload", ["script.sh", "heap.py", "pool.py", "details.py", "network.py"])
def test_soon_after_each_restore(scenario: MakeScenario, workload: str) -> None:
    program = WORKLOADS / workload
    task = scenario([sys.executable, program] if workload.endswith(".py") else [program])
    task.env["BLOCKS"] = "8"
    expected = task.baseline()
    assert reclaim_often(task, printed_bytes(1)) >= 3
    assert_same(task.result(), expected)


def test_java_soon_after_each_restore(scenario: MakeScenario, java_classes: Path) -> None:
    task = scenario(["java", "-Xmx256m", "-cp", java_classes, "Grow"])
    expected = task.baseline()
    assert reclaim_often(task, printed_bytes(1)) >= 3
    assert_same(task.result(), expected)


def test_a_full_pipe_at_each_freeze(scenario: MakeScenario, c_program: Callable[[str], Path]) -> None:
    task = scenario([c_program("lines"), "12000000"])
    expected = task.baseline()
    assert reclaim_often(task, printed_bytes(1)) >= 2
    assert_same(task.result(), expected)
