"""The store fails: nothing that could go on is ended, and nothing is claimed that was not stored."""

from __future__ import annotations

import signal
import time

import pytest

from tests.e2e.harness import Attempt, damage
from tests.protocol.conftest import MakeTask
from tests.protocol.support import CHECKPOINTED, STORE, UNSAVED, Process, Task, kill_agent

pytestmark = pytest.mark.criu


def reclaimed_at(task: Task, pause: int) -> Attempt:
    """An attempt on a fresh node that is reclaimed while the task pauses at *pause*."""
    attempt = task.start()
    attempt.wait_stdout(f"line {pause}\n")
    task.give_notice()
    attempt.finish(CHECKPOINTED)
    task.go(pause)
    return attempt


# -- unreachable


def test_store_that_is_down_at_the_start(make_task: MakeTask) -> None:
    task = make_task(5)
    task.root.mkdir(exist_ok=True)
    task.store.touch()
    attempt = task.start()
    attempt.finish(STORE)
    assert not task.lives()
    assert len(attempt.stderr.data.decode().splitlines()) == 1
    task.assert_clean()


def test_store_that_is_gone_for_a_while(make_task: MakeTask) -> None:
    task = make_task(20, 5, 8, 12)
    attempt = task.start()
    attempt.wait_stdout("line 5\n")
    task.break_store()
    task.go(5)
    attempt.wait_stdout("line 8\n")
    task.mend_store()
    task.go(8)
    attempt.wait_stdout("line 12\n")
    task.give_notice()
    attempt.finish(CHECKPOINTED)
    task.go(12)
    task.finish()
    task.assert_whole()


def test_store_that_is_down_when_the_task_ends(make_task: MakeTask) -> None:
    task = make_task(10, 5)
    attempt = task.start()
    attempt.wait_stdout("line 5\n")
    task.break_store()
    task.go(5)
    attempt.wait("end of the task", lambda: task.local_triggers()[-1:] == ["finish"])
    time.sleep(1.0)
    task.mend_store()
    attempt.finish(0)
    task.assert_whole()
    assert task.triggers()[-1] == "complete"


def test_store_that_is_down_when_the_task_fails(make_task: MakeTask) -> None:
    task = make_task(10, 5)
    attempt = task.start(command=["sh", "-c", f"{' '.join(task.command)}; exit 9"])
    attempt.wait_stdout("line 5\n")
    task.break_store()
    task.go(5)
    attempt.wait("end of the task", lambda: task.local_triggers()[-1:] == ["fail"])
    time.sleep(1.0)
    task.mend_store()
    attempt.finish(9)
    assert task.triggers()[-1] == "fail"


def test_store_that_comes_back_within_the_window(make_task: MakeTask) -> None:
    task = make_task(20, 8)
    attempt = task.start()
    attempt.wait_stdout("line 8\n")
    task.break_store()
    task.give_notice()
    attempt.wait_stderr("dumping: ")
    time.sleep(1.0)
    task.mend_store()
    attempt.finish(CHECKPOINTED)
    task.go(8)
    task.finish()
    task.assert_whole()


def test_store_that_is_down_during_the_whole_window(make_task: MakeTask) -> None:
    task = make_task(30, 8, 14)
    reclaimed_at(task, 8)
    second = task.start()
    second.wait_stdout("line 14\n")
    task.break_store()
    task.give_notice(4.0)
    second.finish(UNSAVED)
    assert "a retry resumes from snapshot 000001-" in second.log
    assert b"fsnap: reclaimed: " in second.stderr.data
    task.mend_store()
    task.go(14)
    third = task.finish("--attempt", "2")
    assert bytes(third.stdout.data).startswith(b"line 9\n")
    task.assert_whole(task.attempts[0], third)


def test_lease_that_can_not_be_renewed_pauses_the_task(make_task: MakeTask) -> None:
    task = make_task(20, 8)
    attempt = task.start("--lease", "2")
    attempt.wait_stdout("line 8\n")
    task.break_store()
    attempt.wait("pause", lambda: task.still(0.5))
    task.mend_store()
    task.go(8)
    attempt.finish(0)
    task.assert_whole()


def test_notice_to_a_task_that_its_lease_has_paused(make_task: MakeTask) -> None:
    task = make_task(20, 8)
    attempt = task.start("--lease", "2")
    attempt.wait_stdout("line 8\n")
    task.break_store()
    attempt.wait("pause", lambda: task.still(0.5))
    task.give_notice()
    attempt.wait_stderr("dumping: ")
    time.sleep(1.0)
    task.mend_store()
    attempt.finish(CHECKPOINTED)
    task.go(8)
    task.finish()
    task.assert_whole()


def test_a_dump_that_is_called_off_past_the_lease_lets_nothing_run(make_task: MakeTask) -> None:
    """CRIU holds the tree while the lease ends; when it lets go, the store has not been heard of since."""
    task = make_task(20, 8)
    attempt = task.start("--lease", "2")
    attempt.wait_stdout("line 8\n")
    task.break_store()
    task.give_notice(60.0)
    attempt.wait_stderr("dumping: ")
    attempt.wait("freeze", lambda: task.still(2.5))
    before = task.lives()
    task.notice_path.unlink()
    attempt.wait_stderr("the notice was taken back")
    time.sleep(2.0)
    assert task.lives() == before
    task.mend_store()
    task.go(8)
    attempt.finish(0)
    task.assert_whole()


# -- damaged


@pytest.mark.parametrize("kind", ["packs", "snapshots/*/index", "snapshots/*/manifest.json"])
def test_damage_falls_back_to_the_older_snapshot(make_task: MakeTask, kind: str) -> None:
    task = make_task(30, 8, 16)
    first = reclaimed_at(task, 8)
    before = set(task.objects(kind))
    reclaimed_at(task, 16)
    (fresh,) = set(task.objects(kind)) - before
    damage(fresh)
    third = task.finish()
    assert "can't be restored" in third.log
    assert bytes(third.stdout.data).startswith(b"line 9\n")
    task.assert_whole(first, third)


def test_damage_of_everything_starts_from_nothing_and_says_so(make_task: MakeTask) -> None:
    task = make_task(30, 8)
    reclaimed_at(task, 8)
    for path in task.objects("packs"):
        damage(path)
    second = task.finish()
    assert "STARTS FROM NOTHING" in second.log
    task.assert_whole(second)


def test_damaged_journal_starts_nothing(make_task: MakeTask) -> None:
    task = make_task(30, 8)
    reclaimed_at(task, 8)
    lives = task.lives()
    for path in task.objects("journal")[:1]:
        damage(path)
    second = task.start()
    code = second.finish()
    assert code == 176
    lines = second.stderr.data.decode().splitlines()
    assert len(lines) == 1
    assert "journal/" in lines[0]
    assert task.lives() == lives
    assert second.stdout.data == b""


def test_missing_pack_falls_back_too(make_task: MakeTask) -> None:
    task = make_task(30, 8, 16)
    first = reclaimed_at(task, 8)
    before = set(task.objects("packs"))
    reclaimed_at(task, 16)
    (fresh,) = set(task.objects("packs")) - before
    fresh.unlink()
    third = task.finish()
    task.assert_whole(first, third)


def test_a_dead_node_leaves_no_inputs_behind(make_task: MakeTask) -> None:
    """What a copy that came to nothing left on this disk is not asked for elsewhere, and travels."""
    task = make_task(30, 8, 16)
    first = task.start()
    first.wait_stdout("line 8\n")
    (task.state / "scrap").write_text("of the first attempt\n")
    init = Process(task.init_pid())
    kill_agent(first)
    init.send_signal(signal.SIGKILL)
    task.go(8)
    second = task.start(fresh=False)
    second.wait_stdout("line 16\n")
    task.give_notice()
    second.finish(CHECKPOINTED)
    task.go(16)
    third = task.finish()
    joined = bytes(second.stdout.data + third.stdout.data)
    assert joined == task.expected_stdout()
    assert (task.state / "scrap").read_text() == "of the first attempt\n"
