"""A snapshot whose tree dies as soon as it runs: tried once more, then passed over, then given up."""

from __future__ import annotations

import json

import pytest

from fsnap.core.poison import LOST_EPOCHS
from tests.e2e.harness import Attempt
from tests.protocol.conftest import MakeTask
from tests.protocol.support import CHECKPOINTED, Task, fsnap

pytestmark = pytest.mark.criu

RESTORE_FAILED = 176


def waiting_at(task: Task, pause: int, *flags: str) -> Attempt:
    """Reclaimed where it waits, so that a copy restored from there lives until it is told otherwise."""
    task.notice_path.unlink(missing_ok=True)
    attempt = task.start(*flags)
    attempt.wait_stdout(f"line {pause}\n")
    task.give_notice()
    attempt.finish(CHECKPOINTED)
    return attempt


def doom(task: Task, copies: int) -> None:
    """So many copies die as soon as they run."""
    (task.control / "fatal").write_text(str(copies))


def status(task: Task) -> tuple[int, dict[str, object]]:
    done = fsnap("status", "T", "--store", f"file://{task.store}", "--json", cwd=task.root)
    (view,) = json.loads(done.stdout)["tasks"]
    return done.returncode, view


def test_one_death_is_tried_again_in_a_fresh_capsule(make_task: MakeTask) -> None:
    task = make_task(20, 8)
    first = waiting_at(task, 8)
    doom(task, 1)
    second = task.start()
    second.wait_stderr("died of SIGSEGV")
    task.wait_record(second, "restored", 2)
    task.go(8)
    second.finish(0)
    task.assert_clean()
    task.assert_whole(first, second)
    resumed = [record.epoch for record in task.records() if record.trigger == "restored"]
    assert resumed == [2, 3], "an epoch resumes once"


def test_a_second_death_falls_back_to_the_older_snapshot(make_task: MakeTask) -> None:
    task = make_task(24, 8, 16)
    first = waiting_at(task, 8)
    task.go(8)
    waiting_at(task, 16)
    doom(task, 2)
    third = task.start()
    task.wait_record(third, "restored", 4)
    code, view = status(task)
    assert code == 2
    assert "quarantined" in str(view["warnings"])
    task.go(16)
    third.finish(0)
    task.assert_clean()
    assert third.stdout.data.startswith(b"line 9\n")
    task.assert_whole(first, third)


def test_with_no_other_snapshot_it_gives_up_and_a_retry_has_another_chance(make_task: MakeTask) -> None:
    task = make_task(20, 8)
    first = waiting_at(task, 8)
    doom(task, 2)
    second = task.start()
    second.finish(RESTORE_FAILED)
    task.assert_clean()
    assert second.log.splitlines()[-1].count("SIGSEGV") == 1
    code, view = status(task)
    assert code == 2
    assert view["snapshot"] is not None, "the next start tries it again"
    task.go(8)
    third = task.finish()
    task.assert_whole(first, third)
    assert status(task)[0] == 0


def test_with_no_other_snapshot_the_user_may_begin_anew(make_task: MakeTask) -> None:
    task = make_task(20, 8)
    waiting_at(task, 8)
    doom(task, 2)
    second = task.start("--on-restore-failure", "restart")
    second.wait_stderr("STARTS FROM NOTHING")
    task.go(8)
    second.finish(0)
    task.assert_clean()
    assert bytes(second.stdout.data) == task.expected_stdout()
    task.assert_never_two()


def test_an_agent_killed_while_it_restores_again(make_task: MakeTask) -> None:
    """The death was recorded; its successor begins with the next try."""
    task = make_task(20, 8)
    first = waiting_at(task, 8)
    doom(task, 1)
    with task.crashing("fsnap.agent.restoring:Restorer.restore@2"):
        task.start().finish(-9)
    task.go(8)
    third = task.finish(fresh=False)
    assert task.triggers().count("give_up") == 1
    task.assert_whole(first, third)


@pytest.mark.slow
def test_a_snapshot_whose_nodes_are_all_lost_is_passed_over(make_task: MakeTask) -> None:
    """Each node dies while it restores; nobody is left to say why."""
    task = make_task(24, 8, 16)
    first = waiting_at(task, 8)
    task.go(8)
    waiting_at(task, 16)
    with task.crashing("fsnap.agent.restoring:Restorer._run_criu"):
        for number in range(LOST_EPOCHS):
            attempt = task.start("--attempt", str(number + 2))
            attempt.finish(-9)
            task.lose_node(attempt)
    task.go(16)
    last = task.finish("--attempt", str(LOST_EPOCHS + 2))
    assert f"{LOST_EPOCHS} attempts with snapshot" in last.log
    assert last.stdout.data.startswith(b"line 9\n")
    task.assert_whole(first, last)


@pytest.mark.slow
def test_the_only_snapshot_is_kept_when_its_nodes_are_all_lost(make_task: MakeTask) -> None:
    task = make_task(20, 8)
    first = waiting_at(task, 8)
    with task.crashing("fsnap.agent.restoring:Restorer._run_criu"):
        for _ in range(LOST_EPOCHS):
            attempt = task.start()
            attempt.finish(-9)
            task.lose_node(attempt)
    told = task.start()
    told.finish(RESTORE_FAILED)
    assert "were lost, with nothing saved" in told.log
    task.go(8)
    last = task.finish()
    task.assert_whole(first, last)
