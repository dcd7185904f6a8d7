"""Steps, new lives under an old id, retries of what has ended, shared state dirs."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.protocol.conftest import MakeTask
from tests.protocol.support import CHECKPOINTED, kill_agent

pytestmark = pytest.mark.criu


def test_retry_of_a_completed_task_brings_its_files_and_runs_nothing(make_task: MakeTask) -> None:
    task = make_task(10)
    task.start().finish(0)
    lives = task.lives()
    second = task.start()
    second.finish(0)
    assert task.lives() == lives
    assert second.stdout.data == b""
    assert (task.state / "out").read_text() == task.expected_file()


def test_a_task_that_failed_by_itself_starts_anew(make_task: MakeTask) -> None:
    task = make_task()
    command = ["sh", "-c", 'echo try; test -e "$CONTROL/mended"']
    task.start(command=command).finish(1)
    task.start(command=command).finish(1)
    (task.control / "mended").touch()
    last = task.start(command=command)
    last.finish(0)
    assert last.stdout.data == b"try\n"
    assert task.triggers().count("renew") == 2
    assert [record.epoch for record in task.records()][-1] == 3


def test_another_command_under_the_same_id(make_task: MakeTask) -> None:
    task = make_task(20, 8)
    first = task.start()
    first.wait_stdout("line 8\n")
    task.give_notice()
    first.finish(CHECKPOINTED)
    other = task.start(command=["touch", "started"])
    other.finish(2)
    (line,) = other.stderr.data.decode().splitlines()
    assert "belongs to another command" in line
    assert "ticker.py" in line
    assert not (task.state / "started").exists()
    fresh = task.start("--fresh", command=["touch", "started"])
    fresh.finish(0)
    assert (task.state / "started").exists()


def test_fresh_forgets_a_snapshot(make_task: MakeTask) -> None:
    task = make_task(20, 8)
    first = task.start()
    first.wait_stdout("line 8\n")
    task.give_notice()
    first.finish(CHECKPOINTED)
    task.go(8)
    second = task.start("--fresh")
    second.finish(0)
    task.assert_whole(second)


def test_fresh_after_completion(make_task: MakeTask) -> None:
    task = make_task(5)
    task.start().finish(0)
    second = task.start("--fresh")
    second.finish(0)
    task.assert_whole(second)


def test_fresh_does_not_take_a_live_task(make_task: MakeTask) -> None:
    task = make_task(20, 8)
    with task.on_node("a"):
        first = task.start(fresh=False)
        first.wait_stdout("line 8\n")
    with task.on_node("b"):
        task.start("--fresh", fresh=False).finish(178)
    task.go(8)
    first.finish(0)
    assert len(task.lives()) == 1


@pytest.mark.parametrize("fresh", [True, False])
def test_another_command_does_not_take_over_a_living_capsule(make_task: MakeTask, fresh: bool) -> None:
    task = make_task(20, 8)
    first = task.start("--lease", "2")
    first.wait_stdout("line 8\n")
    kill_agent(first)
    other = task.start(*(["--fresh"] if fresh else []), command=["touch", "started"], fresh=False)
    other.finish(0 if fresh else 2)
    assert (task.state / "started").exists() is fresh
    assert other.stdout.data == b""
    if fresh:
        task.assert_clean()
    else:
        task.go(8)
        task.start(fresh=False).finish(0)


def test_steps_of_one_task_are_apart(make_task: MakeTask) -> None:
    task = make_task()
    one = task.start("--name", "one", command=["sh", "-c", "echo 1"])
    one.finish(0)
    two = task.start("--name", "two", command=["sh", "-c", "echo 2"])
    two.finish(0)
    assert (one.stdout.data, two.stdout.data) == (b"1\n", b"2\n")
    again = task.start("--name", "one", command=["sh", "-c", "echo 1"])
    again.finish(0)
    assert again.stdout.data == b""
    assert len(list((task.store / "tasks").iterdir())) == 2


def test_shared_state_dirs_are_not_stored_at_the_end(make_task: MakeTask) -> None:
    task = make_task(10)
    task.start("--shared-state").finish(0)
    assert not task.objects("packs")
    assert task.triggers() == ["begin", "complete"]
    (task.state / "out").unlink()
    task.start("--shared-state", fresh=False).finish(0)
    assert not (task.state / "out").exists()


def test_dry_run_does_nothing(make_task: MakeTask) -> None:
    task = make_task(5)
    attempt = task.start("--dry-run")
    attempt.finish(0)
    assert b"would" in attempt.stdout.data
    assert not task.store.exists()
    assert not task.lives()
    assert not list(Path(task.env["FSNAP_HOME"]).iterdir())


def test_unprotected_runs_without_criu(make_task: MakeTask) -> None:
    task = make_task(5)
    attempt = task.start("--unprotected-ok", env={"FSNAP_CRIU": "/nonexistent/criu"})
    attempt.finish(0)
    assert bytes(attempt.stdout.data) == task.expected_stdout()
    assert b"UNPROTECTED" in attempt.stderr.data
    assert not task.store.exists()


def test_unprotected_passes_signals_and_codes_on(make_task: MakeTask) -> None:
    task = make_task(50, 8)
    attempt = task.start("--unprotected-ok", env={"FSNAP_CRIU": "/nonexistent/criu"})
    attempt.wait_stdout("line 8\n")
    attempt.process.send_signal(signal.SIGTERM)
    attempt.finish(143)
    assert task.still(0.2)


@pytest.mark.parametrize(
    "point",
    [
        "fsnap.agent.loop!TaskLoop._take@12",
        "fsnap.agent.recheck!Rechecker.run",
        "fsnap.agent.recheck?Rechecker.run",
        "fsnap.agent.capture!Capturer.periodic",
    ],
)
def test_defect_of_the_agent_costs_nothing(point: str, make_task: MakeTask) -> None:
    task = make_task(40, 8, 20)
    with task.crashing(point):
        first = task.start("--interval", "1")
    first.wait_stdout("line 8\n")
    first.wait_stderr("the agent starts again")
    first.wait_stderr("takes over")
    task.go(8)
    first.wait_stdout("line 20\n")
    task.give_notice()
    first.finish(CHECKPOINTED)
    task.go(20)
    task.finish()
    task.assert_whole()
