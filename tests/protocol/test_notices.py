"""Notices at every moment: the attempt ends with 177 and the outputs joined are the whole."""

from __future__ import annotations

import json
import random
import time

import pytest

from tests.protocol.conftest import MakeTask
from tests.protocol.support import CHECKPOINTED, Task, wait_until

pytestmark = pytest.mark.criu

SEED = 20260
START_SPAN_S = 1.2
RESTORE_SPAN_S = 1.6


def sweep(task: Task, delays: list[float]) -> None:
    """One attempt per delay on a node of its own, reclaimed that long after its start; then the end.

    The task must not end before: it has to pause at its last step.
    """
    for delay_s in delays:
        attempt = task.start()
        time.sleep(delay_s)
        task.give_notice()
        attempt.finish(CHECKPOINTED)
        task.assert_clean()
    task.go(task.steps)
    task.finish()
    task.assert_whole()


def random_delays(seed: int, count: int, span_s: float) -> list[float]:
    return [random.Random(seed + n).uniform(0.0, span_s) for n in range(count)]


def test_notice_that_is_there_before_the_start(make_task: MakeTask) -> None:
    task = make_task(10)
    task.fresh_node()
    task.give_notice()
    first = task.start(fresh=False)
    first.finish(CHECKPOINTED)
    assert first.stdout.data == b""
    assert not task.lives()
    again = task.start(fresh=False)
    again.finish(0)
    task.assert_whole()


def test_a_notice_file_that_was_left_does_not_stop_a_later_start(make_task: MakeTask) -> None:
    task = make_task(20, 8)
    first = task.start()
    first.wait_stdout("line 8\n")
    task.give_notice()
    first.finish(CHECKPOINTED)
    task.go(8)
    task.start(fresh=False).finish(0)
    task.assert_whole()


def test_notices_soon_after_the_start_and_during_restores(make_task: MakeTask) -> None:
    task = make_task(200, 200)
    sweep(task, [0.0, *random_delays(SEED, 4, START_SPAN_S), *random_delays(SEED + 50, 4, RESTORE_SPAN_S)])


@pytest.mark.slow
def test_notices_during_restores_of_a_task_that_had_begun(make_task: MakeTask) -> None:
    task = make_task(200, 5, 200)
    first = task.start()
    first.wait_stdout("line 5\n")
    task.give_notice()
    first.finish(CHECKPOINTED)
    task.go(5)
    sweep(task, [0.05, *random_delays(SEED + 100, 7, RESTORE_SPAN_S)])


@pytest.mark.slow
def test_many_notices(make_task: MakeTask) -> None:
    seed = time.time_ns() % 1_000_000
    print("seed", seed)
    task = make_task(1000, 1000)
    sweep(task, random_delays(seed, 60, RESTORE_SPAN_S))


def test_notice_taken_back_before_the_commit(make_task: MakeTask) -> None:
    task = make_task(30, 8)
    task.env["BALLAST_MIB"] = "200"
    attempt = task.start()
    attempt.wait_stdout("line 8\n")
    task.give_notice()
    attempt.wait("a pack", lambda: bool(task.objects("packs")))
    task.notice_path.unlink()
    attempt.wait_stderr("the notice was taken back")
    task.wait_alive(attempt)
    task.go(8)
    attempt.finish(0)
    task.assert_whole()
    assert "commit" not in task.triggers()
    task.assert_clean()


def test_notice_taken_back_while_the_store_is_down(make_task: MakeTask) -> None:
    task = make_task(30, 8)
    attempt = task.start()
    attempt.wait_stdout("line 8\n")
    task.break_store()
    task.give_notice()
    attempt.wait("pause", lambda: task.still(0.3))
    task.notice_path.unlink()
    task.wait_alive(attempt)
    task.mend_store()
    task.go(8)
    attempt.finish(0)
    task.assert_whole()


def test_a_second_notice_during_the_dump_changes_nothing(make_task: MakeTask) -> None:
    task = make_task(30, 8)
    task.env["BALLAST_MIB"] = "100"
    attempt = task.start()
    attempt.wait_stdout("line 8\n")
    task.give_notice()
    attempt.wait_stderr("dumping: ")
    task.give_notice()
    attempt.finish(CHECKPOINTED)
    task.go(8)
    task.finish()
    task.assert_whole()
    assert task.triggers().count("dump") == 1


def test_hold_goes_on_when_the_notice_is_taken_back(make_task: MakeTask) -> None:
    task = make_task(20, 8)
    attempt = task.start("--after-commit", "hold")
    attempt.wait_stdout("line 8\n")
    task.give_notice()
    attempt.wait_stderr("uploaded: committed; holds")
    task.go(8)
    assert task.still(0.5)
    task.notice_path.unlink()
    attempt.finish(0)
    task.assert_whole()
    assert task.triggers()[-4:] == ["commit", "unhold", "finish", "complete"]


def test_hold_ends_when_another_node_goes_on(make_task: MakeTask) -> None:
    task = make_task(20, 8)
    with task.on_node("a"):
        first = task.start("--after-commit", "hold", "--lease", "2", fresh=False)
        first.wait_stdout("line 8\n")
        task.give_notice()
        first.wait_stderr("uploaded: committed; holds")
    task.go(8)
    with task.on_node("b"):
        second = task.start("--provider", "none", fresh=False)
        second.finish(0)
        out = (task.root / "D-b" / "out").read_text()
    assert first.finish() == 178
    assert out == task.expected_file()
    assert bytes(first.stdout.data + second.stdout.data) == task.expected_stdout()
    task.assert_never_two()


def test_notice_with_a_short_window_and_a_past_deadline(make_task: MakeTask) -> None:
    task = make_task(20, 8)
    attempt = task.start()
    attempt.wait_stdout("line 8\n")
    task.give_notice(0.0)
    attempt.finish(175)
    assert "a retry starts from nothing" in attempt.log
    task.go(8)
    second = task.start()
    second.finish(0)
    task.assert_whole(second)


def test_a_notice_while_the_task_ends_does_not_hide_its_exit_code(make_task: MakeTask) -> None:
    task = make_task(5, 5)
    task.env["PACE"] = "0"
    attempt = task.start()
    attempt.wait_stdout("line 5\n")
    task.go(5)
    wait_until("the end of the task", lambda: "finish" in task.triggers())
    task.give_notice()
    attempt.finish(0)
    task.assert_whole()


def test_result_file_says_where_a_retry_resumes(make_task: MakeTask) -> None:
    task = make_task(20, 8)
    result = task.root / "result.json"
    first = task.start("--result-file", str(result))
    first.wait_stdout("line 8\n")
    task.give_notice()
    first.finish(CHECKPOINTED)
    told = json.loads(result.read_text())
    commit = next(record for record in task.records() if record.trigger == "commit")
    assert told == {
        "schema": 1,
        "outcome": "checkpointed",
        "exit_code": 177,
        "resume_from": commit.event.ref.id,
    }
    task.go(8)
    task.start("--result-file", str(result)).finish(0)
    assert json.loads(result.read_text()) == {
        "schema": 1,
        "outcome": "exited",
        "exit_code": 0,
        "resume_from": None,
    }
