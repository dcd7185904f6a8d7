"""Exit codes, and what a start does after the task has ended."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.e2e import folder
from tests.e2e.conftest import MakeScenario
from tests.e2e.harness import WORKLOADS, Scenario, assert_same, printed

pytestmark = pytest.mark.criu

CODES = {"3": 3, "-9": 137, "-15": 143, "0": 0}


def ending(scenario: MakeScenario, var_tmp: Path, end: str) -> Scenario:
    task = scenario([sys.executable, WORKLOADS / "ends.py", end])
    task.env["RAN"] = str(var_tmp / "ran")
    return task


def times_started(task: Scenario) -> int:
    path = Path(task.env["RAN"])
    return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.mark.parametrize("end", ["3", "-9"])
def test_the_tasks_own_code(scenario: MakeScenario, var_tmp: Path, end: str) -> None:
    task = ending(scenario, var_tmp, end)
    expected = task.baseline()
    task.env["PACE"] = "0"
    task.finish(expected=CODES[end])
    assert_same(task.result(), expected)


@pytest.mark.parametrize("end", ["3", "-15"])
def test_the_tasks_own_code_after_a_restore(scenario: MakeScenario, var_tmp: Path, end: str) -> None:
    task = ending(scenario, var_tmp, end)
    expected = task.baseline(lambda: Path(task.env["RAN"]).unlink())
    result = task.run_through(printed("step 2"), printed("step 5"), expected=CODES[end])
    assert_same(result, expected)
    assert times_started(task) == 1


@pytest.mark.parametrize("command", ["/no/such/command", "no-such-command"])
def test_a_command_that_is_not_there(scenario: MakeScenario, command: str) -> None:
    task = scenario([command])
    attempt = task.finish(expected=127)
    assert [line for line in attempt.log.splitlines() if command in line] == [attempt.log]


@pytest.mark.parametrize("kind", ["not executable", "a directory", "not a program"])
def test_a_command_that_cannot_be_executed(scenario: MakeScenario, tmp_path: Path, kind: str) -> None:
    command = tmp_path / "command"
    if kind == "a directory":
        command.mkdir()
    else:
        command.write_text("nothing that a kernel knows\n")
        command.chmod(0o755 if kind == "not a program" else 0o644)
    attempt = scenario([command]).finish(expected=126)
    assert str(command) in attempt.log


def test_a_script_without_its_interpreter(scenario: MakeScenario, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    task = scenario([script])
    task.finish(expected=127)


def test_a_completed_task_is_not_run_again(scenario: MakeScenario, var_tmp: Path) -> None:
    task = ending(scenario, var_tmp, "0")
    task.env["PACE"] = "0"
    task.finish()
    files = folder.describe(task.state)
    again = task.start()
    again.finish(0)
    assert times_started(task) == 1
    assert again.stdout.data == b""
    assert folder.describe(task.state) == files != {}
    task.assert_clean()


def test_a_failed_task_starts_anew(scenario: MakeScenario, var_tmp: Path) -> None:
    task = ending(scenario, var_tmp, "3")
    task.env["PACE"] = "0"
    first = task.finish(expected=3)
    second = task.finish(expected=3)
    assert times_started(task) == 2
    assert second.stdout.data == first.stdout.data != b""
    assert (task.state / "steps.txt").read_text().splitlines() == [str(n) for n in range(10)]


def test_a_task_that_failed_after_a_restore_starts_from_nothing(
    scenario: MakeScenario, var_tmp: Path
) -> None:
    task = ending(scenario, var_tmp, "3")
    task.reclaim(printed("step 2"))
    task.finish(expected=3)
    task.env["PACE"] = "0"
    again = task.finish(expected=3)
    assert again.stdout.data.startswith(b"step 0\n")
    assert times_started(task) == 2


def test_another_command_under_the_same_id_is_refused(scenario: MakeScenario, var_tmp: Path) -> None:
    task = ending(scenario, var_tmp, "0")
    task.reclaim(printed("step 2"))
    other = task.start(command=["true"])
    other.finish(2)
    assert "belongs to another command" in other.log
    task.finish()
