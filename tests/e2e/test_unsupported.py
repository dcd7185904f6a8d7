"""What CRIU can't save is said before the reclaim, and never costs the running task."""

from __future__ import annotations

import sys

import pytest

from tests.e2e.conftest import MakeScenario
from tests.e2e.harness import WORKLOADS, Attempt, Scenario

pytestmark = pytest.mark.criu

REASONS = {
    "io_uring": "io_uring",
    "userfaultfd": "userfaultfd",
    "mount-namespace": "mnt namespace",
}


def started(scenario: MakeScenario, what: str, steps: int) -> tuple[Scenario, Attempt]:
    task = scenario([sys.executable, WORKLOADS / "unsupported.py", what, str(steps)])
    attempt = task.start()
    attempt.wait_stdout("step 0")
    if b"refused" in attempt.stdout.data:
        pytest.skip(f"this kernel refuses {what}")
    attempt.wait_stderr(REASONS[what])
    return task, attempt


@pytest.mark.parametrize(
    "what", ["io_uring", "mount-namespace", pytest.param("userfaultfd", marks=pytest.mark.slow)]
)
def test_it_is_told_early_and_no_dump_is_tried(scenario: MakeScenario, what: str) -> None:
    task, attempt = started(scenario, what, 1000)
    task.give_notice(3)
    attempt.finish(175)
    assert "starts from nothing" in attempt.log.splitlines()[-1]
    task.assert_clean()
    assert not list(task.store.glob("tasks/*/snapshots/*/manifest.json"))


def test_a_task_that_ends_before_the_deadline_has_ended(scenario: MakeScenario) -> None:
    task, attempt = started(scenario, "mount-namespace", 40)
    task.give_notice(30)
    attempt.finish(0)
    assert attempt.stdout.data.endswith(b"step 39\n")
    task.assert_clean()
