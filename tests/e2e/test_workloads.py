"""Output of a task that was reclaimed any number of times equals the output of one that was not."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import MakeScenario
from tests.e2e.harness import NEW_NODE, WORKLOADS, assert_same, printed

pytestmark = pytest.mark.criu

PYTHON = sys.executable


@pytest.mark.parametrize("node", [(), NEW_NODE], ids=["here", "own-namespaces"])
def test_big_changing_heap(scenario: MakeScenario, node: tuple[str, ...]) -> None:
    task = scenario([PYTHON, WORKLOADS / "heap.py"])
    expected = task.baseline()
    task.node = node
    assert_same(task.run_through(printed("step 6 "), printed("step 18 ")), expected)


def test_big_heap_below_var_tmp(scenario: MakeScenario, var_tmp: Path) -> None:
    task = scenario([PYTHON, WORKLOADS / "heap.py"], root=var_tmp)
    task.env["BLOCKS"] = "20"
    expected = task.baseline()
    assert_same(task.run_through(printed("step 6 "), printed("step 18 ")), expected)
