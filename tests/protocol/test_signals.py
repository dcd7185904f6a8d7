"""Signals to ``run``, its exit codes, and what a task gets of its surroundings."""

from __future__ import annotations

import base64
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.protocol.conftest import MakeTask
from tests.protocol.support import CHECKPOINTED

pytestmark = pytest.mark.criu

TRAPS = """
import os, signal, sys, time
def told(number, frame):
    print("got", number, flush=True)
    sys.exit(9)
signal.signal(signal.SIGINT, told)
signal.signal(signal.SIGTERM, told)
print("ready", flush=True)
while not os.path.exists(os.environ["CONTROL"] + "/end"):
    time.sleep(0.01)
print("ended", flush=True)
"""
TRAPPING = [sys.executable, "-I", "-S", "-c", TRAPS]


def test_sigterm_is_a_notice_under_every_provider(make_task: MakeTask) -> None:
    task = make_task(20, 8)
    first = task.start("--provider", "none")
    first.wait_stdout("line 8\n")
    first.process.send_signal(signal.SIGTERM)
    first.finish(CHECKPOINTED)
    task.go(8)
    task.finish()
    task.assert_whole()


def test_sigterm_goes_to_the_task_only_the_second_time(make_task: MakeTask) -> None:
    task = make_task()
    attempt = task.start(command=TRAPPING)
    attempt.wait_stdout("ready")
    task.break_store()
    attempt.process.send_signal(signal.SIGTERM)
    attempt.wait_stderr("dumping: ")
    attempt.process.send_signal(signal.SIGTERM)
    attempt.wait_stdout("got 15")
    task.mend_store()
    attempt.finish(9)


def test_sigint_goes_to_the_task(make_task: MakeTask) -> None:
    task = make_task()
    result = task.root / "result.json"
    attempt = task.start("--result-file", str(result), command=TRAPPING)
    attempt.wait_stdout("ready")
    attempt.process.send_signal(signal.SIGINT)
    attempt.finish(9)
    assert b"got 2\n" in attempt.stdout.data
    assert json.loads(result.read_text())["outcome"] == "cancelled"


def test_sigint_goes_to_a_restored_task(make_task: MakeTask) -> None:
    task = make_task()
    first = task.start(command=TRAPPING)
    first.wait_stdout("ready")
    task.give_notice()
    first.finish(CHECKPOINTED)
    second = task.start(command=TRAPPING)
    second.wait_stderr("resumed: ")
    second.process.send_signal(signal.SIGINT)
    second.finish(9)
    assert b"got 2\n" in second.stdout.data


def test_sigint_at_any_moment_of_the_start_is_obeyed(make_task: MakeTask) -> None:
    """Either nothing was started, or the signal reached the task: it never runs on to its end."""
    task = make_task()
    choose = random.Random(7)
    for _ in range(10):
        task.store = task.root / f"S{len(task.attempts)}"
        attempt = task.start(command=["sleep", "60"])
        time.sleep(choose.uniform(0.1, 0.9))
        attempt.process.send_signal(signal.SIGINT)
        attempt.finish()
        assert attempt.exit_code in (130, -signal.SIGINT), attempt.told()
        task.assert_clean()


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["sh", "-c", "exit 3"], 3),
        (["sh", "-c", "exit 255"], 255),
        (["sh", "-c", "kill -9 $$"], 137),
        (["sh", "-c", "kill -SEGV $$"], 139),
        (["sh", "-c", "sleep 100 & exit 4"], 4),
        (["true"], 0),
    ],
    ids=["3", "255", "SIGKILL", "SIGSEGV", "leaves-a-child", "true"],
)
def test_the_tasks_own_exit_code(make_task: MakeTask, command: list[str], code: int) -> None:
    task = make_task()
    attempt = task.start(command=command)
    attempt.finish(code)
    task.assert_clean()


def test_output_files_are_exact(make_task: MakeTask) -> None:
    task = make_task(40, 8, 16, 24)
    flags = [f"--{name}={task.root / name}" for name in ("stdout", "stderr")]
    talk = ["sh", "-c", f"{' '.join(task.command)}; echo the end >&2"]
    first = task.start(*flags, command=talk)
    first.wait_file(task.root / "stdout", "line 8\n")
    first.process.send_signal(signal.SIGKILL)
    first.finish()
    task.go(8)
    second = task.start(*flags, command=talk, fresh=False)
    second.wait_file(task.root / "stdout", "line 16\n")
    task.give_notice()
    second.finish(CHECKPOINTED)
    task.go(16)
    task.go(24)
    (task.root / "stdout").write_text("rubbish of another attempt\n" * 100)
    third = task.start(*flags, command=talk)
    third.finish(0)
    assert (task.root / "stdout").read_bytes() == task.expected_stdout()
    assert (task.root / "stderr").read_text() == "the end\n"
    assert all(attempt.stdout.data == b"" for attempt in task.attempts)


def test_output_to_null(make_task: MakeTask) -> None:
    task = make_task(20, 8)
    first = task.start("--stdout", "/dev/null")
    first.wait_file(task.state / "out", "8\n")
    task.give_notice()
    first.finish(CHECKPOINTED)
    task.go(8)
    task.finish("--stdout", "/dev/null")
    assert (task.state / "out").read_text() == task.expected_file()


SURROUNDINGS = """
import json, os, sys
print(json.dumps({
    "stdin": os.readlink("/proc/self/fd/0"),
    "fds": sorted(int(n) for n in os.listdir("/proc/self/fd")),
    "env": dict(os.environ),
    "cwd": os.getcwd(),
    "signals": [l.split()[1] for l in open(f"/proc/{os.getppid()}/status") if l[:6] in ("SigIgn", "SigBlk")],
}), flush=True)
end = os.environ["CONTROL"] + "/end"
import time
while not os.path.exists(end):
    time.sleep(0.01)
print(json.dumps({"env": dict(os.environ), "cwd": os.getcwd()}), flush=True)
"""


def test_surroundings_are_those_of_the_start(make_task: MakeTask, tmp_path: Path) -> None:
    task = make_task()
    key = tmp_path / "keys"
    key.touch(mode=0o600)
    key.write_text(f"k1 {base64.b64encode(os.urandom(32)).decode()}\n")
    # A Python ignores some signals by itself: its parent, a shell, is asked.
    command = ["sh", "-c", '"$0" -I -S -c "$1"; true', sys.executable, SURROUNDINGS]
    task.env["COLOUR"] = "green"
    first = task.start(command=command, env={"FSNAP_KEY_FILE": str(key)})
    first.wait_stdout("}\n")
    task.give_notice()
    first.finish(CHECKPOINTED)
    (task.control / "end").touch()
    second = task.start(command=command, env={"FSNAP_KEY_FILE": str(key), "COLOUR": "red", "LATER": "1"})
    second.finish(0)
    before = json.loads(bytes(first.stdout.data))
    after = json.loads(bytes(second.stdout.data))
    assert before["stdin"] == "/dev/null"
    assert before["fds"] == [0, 1, 2, 3]  # the last is that of the listing itself
    assert before["cwd"] == after["cwd"] == str(task.state)
    assert before["signals"] == ["0" * 16, "0" * 16]
    assert before["env"] == after["env"]
    assert before["env"]["COLOUR"] == "green"
    assert "FSNAP_KEY_FILE" not in before["env"]
    assert "LATER" not in after["env"]
