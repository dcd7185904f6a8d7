"""A node that can't restore a task says so and leaves the task as it is, for the next one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import MakeScenario
from tests.e2e.harness import WORKLOADS, assert_same, printed

pytestmark = pytest.mark.criu


def test_a_file_outside_is_missing(scenario: MakeScenario, var_tmp: Path) -> None:
    """CRIU fails when half of the tree is there: that is no end of the task."""
    held = var_tmp / "held.txt"
    held.write_text("".join(f"line {number}\n" for number in range(1000)))
    task = scenario([sys.executable, WORKLOADS / "holds.py", held])
    expected = task.baseline()
    task.reclaim(printed("step 3 "))
    held.rename(var_tmp / "elsewhere")
    refused = task.start()
    refused.finish(176)
    assert str(held).lstrip("/") in refused.log.splitlines()[-1]
    task.assert_clean()
    (var_tmp / "elsewhere").rename(held)
    task.finish()
    assert_same(task.result(), expected)
