"""The agent, the init or CRIU is killed: the task goes on, and never twice."""

from __future__ import annotations

import os
import signal

import pytest

from tests.protocol.conftest import MakeTask
from tests.protocol.support import CHECKPOINTED, UNSAVED, kill_agent

pytestmark = pytest.mark.criu


def test_agent_killed_while_the_task_runs(make_task: MakeTask) -> None:
    task = make_task(20, 8, 14)
    first = task.start()
    first.wait_stdout("line 8\n")
    kill_agent(first)
    task.go(8)
    second = task.start(fresh=False)
    second.wait_stdout("line 14\n")
    task.give_notice()
    second.finish(CHECKPOINTED)
    task.go(14)
    task.finish()
    task.assert_whole()
    assert [record.epoch for record in task.records() if record.trigger == "commit"] == [1]
    assert task.records()[-1].epoch == 2


def test_agent_killed_at_the_closed_gate_and_the_notice_still_stands(make_task: MakeTask) -> None:
    task = make_task(20, 8)
    with task.crashing("fsnap.agent.capture:Capturer._publish"):
        first = task.start()
    first.wait_stdout("line 8\n")
    task.give_notice()
    first.finish(-signal.SIGKILL)
    assert task.still(0.3)
    second = task.start(fresh=False)
    second.finish(CHECKPOINTED)
    task.go(8)
    task.finish()
    task.assert_whole()
    assert task.records()[-1].epoch == 2


def test_agent_killed_between_the_record_uploaded_and_the_end_of_the_tree(make_task: MakeTask) -> None:
    task = make_task(20, 8)
    with task.crashing("fsnap.agent.effects:Executor._kill"):
        first = task.start()
    first.wait_stdout("line 8\n")
    task.give_notice()
    first.finish(-signal.SIGKILL)
    assert task.triggers()[-1] == "commit"
    lives = task.lives()
    second = task.start(fresh=False)
    second.finish(CHECKPOINTED)
    assert task.lives() == lives, "the tree ran on after 'uploaded' was recorded"
    task.go(8)
    task.finish()
    task.assert_whole()


def test_init_killed_after_a_checkpoint(make_task: MakeTask) -> None:
    task = make_task(30, 8, 16)
    first = task.start("--interval", "0.5")
    first.wait_stdout("line 8\n")
    task.wait_record(first, "checkpointed")
    task.go(8)
    first.wait_stdout("line 16\n")
    os.kill(task.init_pid(), signal.SIGKILL)
    first.finish(UNSAVED)
    assert "a retry resumes from snapshot 000001-" in first.log
    task.go(16)
    second = task.start(fresh=False)
    second.finish(0)
    assert not bytes(second.stdout.data).startswith(b"line 1\n")
    assert (task.state / "out").read_text() == task.expected_file()
    task.assert_never_two()


def test_init_killed(make_task: MakeTask) -> None:
    task = make_task(20, 8)
    first = task.start()
    first.wait_stdout("line 8\n")
    os.kill(task.init_pid(), signal.SIGKILL)
    first.finish(UNSAVED)
    assert "a retry starts from nothing" in first.log
    task.go(8)
    second = task.start(fresh=False)
    second.finish(0)
    assert bytes(second.stdout.data) == task.expected_stdout()
    task.assert_never_two()


def test_criu_killed_at_the_gate(make_task: MakeTask) -> None:
    task = make_task(30, 8)
    task.env["BALLAST_MIB"] = "300"
    first = task.start()
    first.wait_stdout("line 8\n")
    task.give_notice()
    first.wait("a pack", lambda: bool(task.objects("packs")))
    os.kill(task.criu_pid(), signal.SIGKILL)
    first.finish(CHECKPOINTED)
    task.go(8)
    task.finish()
    task.assert_whole()


def test_criu_killed_while_a_committed_tree_is_held(make_task: MakeTask) -> None:
    """The tree was stopped for good: no renewal of the lease may let it go on."""
    task = make_task(30, 8)
    first = task.start("--after-commit", "hold", "--lease", "1")
    first.wait_stdout("line 8\n")
    task.give_notice()
    first.wait_stderr("uploaded: committed; holds")
    os.kill(task.criu_pid(), signal.SIGKILL)
    first.wait("pause", lambda: task.still(0.2))
    assert task.still(1.5), "a renewal of the lease let a committed tree go on"
    kill_agent(first)
    task.go(8)
    task.start("--attempt", "2").finish(0)
    assert (task.state / "out").read_text() == task.expected_file()


def test_agent_killed_at_the_gate_of_a_restore(make_task: MakeTask) -> None:
    task = make_task(30, 8)
    first = task.start()
    first.wait_stdout("line 8\n")
    task.give_notice()
    first.finish(CHECKPOINTED)
    with task.crashing("fsnap.agent.effects:Executor._release"):
        second = task.start()
    second.finish(-signal.SIGKILL)
    task.go(8)
    third = task.start(fresh=False)
    third.finish(0)
    task.assert_whole()


def test_agent_killed_while_it_holds_and_the_notice_is_taken_back(make_task: MakeTask) -> None:
    task = make_task(30, 8)
    first = task.start("--after-commit", "hold")
    first.wait_stdout("line 8\n")
    task.give_notice()
    first.wait_stderr("uploaded: committed; holds")
    kill_agent(first)
    task.go(8)
    second = task.start("--after-commit", "hold", fresh=False)
    second.wait_stderr("holds until the host goes")
    assert task.still(0.3)
    task.notice_path.unlink()
    second.finish(0)
    task.assert_whole()


def test_an_agent_that_starts_while_the_store_is_away(make_task: MakeTask) -> None:
    """It finds its own capsule alive, and stays with it."""
    task = make_task(20, 8)
    first = task.start()
    first.wait_stdout("line 8\n")
    init = task.init_pid()
    task.break_store()
    kill_agent(first)
    second = task.start(fresh=False)
    second.wait_stderr("its store does not answer")
    task.mend_store()
    task.go(8)
    second.finish(0)
    assert f"takes over the task's living capsule (init {init})" in second.log
    assert (task.state / "out").read_text() == task.expected_file()
    task.assert_never_two()
