"""One live copy: who may take a task over, when, and what becomes of the older copy."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.e2e.harness import Attempt
from tests.protocol.conftest import MakeTask
from tests.protocol.support import CHECKPOINTED, NOT_OURS, Task, kill_agent, stop_agent

pytestmark = pytest.mark.criu

ROUNDS = 10


def refused(attempt: Attempt) -> str:
    """The one line with which it was refused; it started nothing."""
    attempt.finish(NOT_OURS)
    assert attempt.stdout.data == b""
    (line,) = attempt.stderr.data.decode().splitlines()
    return line


def out_of(task: Task, node: str) -> str:
    return Path(task.root, f"D-{node}", "out").read_text()


def test_second_run_on_another_node_is_refused_at_once(make_task: MakeTask) -> None:
    task = make_task(20, 8)
    with task.on_node("a"):
        first = task.start(fresh=False)
        first.wait_stdout("line 8\n")
    began = time.monotonic()
    with task.on_node("b"):
        line = refused(task.start(fresh=False))
    assert time.monotonic() - began < 10
    assert "live in epoch 1 on " in line
    assert not Path(task.root, "D-b", "out").exists()
    task.go(8)
    first.finish(0)
    assert bytes(first.stdout.data) == task.expected_stdout()
    assert len(task.lives()) == 1


def test_second_run_with_the_same_home_is_refused(make_task: MakeTask) -> None:
    task = make_task(20, 8)
    first = task.start()
    first.wait_stdout("line 8\n")
    line = refused(task.start(fresh=False))
    assert str(first.process.pid) in line
    task.go(8)
    first.finish(0)
    task.assert_whole(first)


@pytest.mark.parametrize("attempt", ["1", "2"])
def test_an_equal_or_lower_attempt_is_refused(make_task: MakeTask, attempt: str) -> None:
    task = make_task(20, 8)
    with task.on_node("a"):
        first = task.start("--attempt", "2", fresh=False)
        first.wait_stdout("line 8\n")
    with task.on_node("b"):
        line = refused(task.start("--attempt", attempt, fresh=False))
    assert "attempt 2" in line
    task.go(8)
    first.finish(0)


def test_an_attempt_of_another_kind_proves_nothing(make_task: MakeTask) -> None:
    task = make_task(20, 8)
    with task.on_node("a"):
        first = task.start("--attempt", "2", fresh=False)
        first.wait_stdout("line 8\n")
    with task.on_node("b"):
        batch = {"AWS_BATCH_JOB_ID": "T", "AWS_BATCH_JOB_ATTEMPT": "7"}
        refused(task.start(fresh=False, env=batch))
    task.go(8)
    first.finish(0)


def test_a_later_attempt_fences_the_older_and_waits_for_its_end(make_task: MakeTask) -> None:
    task = make_task(30, 8, 16)
    with task.on_node("a"):
        first = task.start("--attempt", "1", "--lease", "2", "--interval", "0.5", fresh=False)
        first.wait_stdout("line 8\n")
        task.wait_record(first, "checkpointed")
    with task.on_node("b"):
        second = task.start("--attempt", "2", "--lease", "2", "--provider", "none", fresh=False)
    first.finish(NOT_OURS)
    assert first.stderr.data.decode().splitlines()[-1].startswith("fsnap: another node wrote record")
    task.go(8)
    task.go(16)
    second.finish(0)
    assert out_of(task, "b") == task.expected_file()
    task.assert_never_two()
    assert len(task.lives()) == 2


def test_a_partitioned_node_pauses_before_the_later_attempt_goes_on(make_task: MakeTask) -> None:
    """The older agent is stopped, so that it can't learn of its fence: its init alone must obey the lease."""
    task = make_task(60, 50)
    task.env["PACE"] = "0.1"
    with task.on_node("a"):
        first = task.start("--attempt", "1", "--lease", "2", "--interval", "0.5", fresh=False)
        task.wait_record(first, "checkpointed")
        agent = stop_agent(first)
    with task.on_node("b"):
        second = task.start("--attempt", "2", "--lease", "2", "--provider", "none", fresh=False)
        task.go(50)
        second.finish(0)
    agent.send_signal(signal.SIGCONT)
    first.finish(NOT_OURS)
    assert out_of(task, "b") == task.expected_file()
    task.assert_never_two()
    assert len(task.lives()) == 2


def test_a_silent_holder_loses_the_task_after_its_lease(make_task: MakeTask) -> None:
    task = make_task(60, 50)
    task.env["PACE"] = "0.1"
    with task.on_node("a"):
        first = task.start("--lease", "2", "--interval", "0.5", fresh=False)
        task.wait_record(first, "checkpointed")
        agent = stop_agent(first)
    with task.on_node("b"):
        second = task.start("--wait", "30", "--lease", "2", "--provider", "none", fresh=False)
        task.go(50)
        second.finish(0)
    agent.send_signal(signal.SIGCONT)
    first.finish(NOT_OURS)
    task.assert_never_two()


def test_a_dead_node_of_this_machine_is_known_to_be_dead(make_task: MakeTask) -> None:
    task = make_task(30, 8, 16)
    first = task.start("--interval", "0.5")
    first.wait_stdout("line 8\n")
    task.wait_record(first, "checkpointed")
    task.lose_node(first)
    task.go(8)
    task.go(16)
    second = task.finish()
    assert bytes(second.stdout.data).endswith(b"line 30\n")
    assert (task.state / "out").read_text() == task.expected_file()
    task.assert_never_two()


def test_of_two_claimants_exactly_one_wins(make_task: MakeTask) -> None:
    task = make_task(4 * ROUNDS, *range(4, 4 * ROUNDS, 4))
    first = task.start()
    first.wait_stdout("line 4\n")
    task.give_notice()
    first.finish(CHECKPOINTED)
    parts = [bytes(first.stdout.data)]
    for number in range(1, ROUNDS):
        task.notice_path.unlink()
        racers = []
        for name in (f"a{number}", f"b{number}"):
            with task.on_node(name):
                racers.append(task.start(fresh=False))
        ended: list[Attempt] = []
        while not ended:
            ended = [racer for racer in racers if racer.process.poll() is not None]
            time.sleep(0.01)
        (loser,) = ended
        loser.finish(NOT_OURS)
        assert loser.stdout.data == b""
        (winner,) = [racer for racer in racers if racer is not loser]
        task.go(4 * number)
        if number < ROUNDS - 1:
            winner.wait_stdout(f"line {4 * number + 4}\n")
            task.give_notice()
            winner.finish(CHECKPOINTED)
        else:
            task.go(4 * number + 4)
            winner.finish(0)
        parts.append(bytes(winner.stdout.data))
    assert b"".join(parts) == task.expected_stdout()
    task.assert_never_two()


def test_an_agent_that_comes_back_to_a_fenced_capsule_ends_it(make_task: MakeTask) -> None:
    task = make_task(40, 8)
    with task.on_node("b"):
        pass
    first = task.start("--attempt", "1", "--lease", "2", "--interval", "0.5")
    first.wait_stdout("line 8\n")
    task.wait_record(first, "checkpointed")
    kill_agent(first)
    with task.on_node("b"):
        second = task.start("--attempt", "2", "--lease", "2", "--provider", "none", fresh=False)
        second.wait_stderr("resumed from snapshot")
    lives = len(task.lives())
    back = task.start("--attempt", "1", "--lease", "2", fresh=False)
    back.finish(NOT_OURS)
    assert not back.stdout.data
    task.go(8)
    second.finish(0)
    assert out_of(task, "b") == task.expected_file()
    assert lives <= len(task.lives()) == 2
    task.assert_never_two()
