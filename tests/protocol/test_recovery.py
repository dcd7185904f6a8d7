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
    first = None
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
    task.assert_whole(second)


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
