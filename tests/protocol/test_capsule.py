"""What the capsule is from inside and from outside."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import pytest

from tests.e2e.harness import Attempt
from tests.protocol.conftest import MakeTask
from tests.protocol.support import Task, kill_agent, wait_until

pytestmark = pytest.mark.criu

INIT_LIMIT_KIB = 15 * 1024
FIRST_PID = 1000

LOOK = """
import json, os, pathlib, sys, time
control = os.environ["CONTROL"]
probe = sys.argv[1]
found = {
    "pid": os.getpid(),
    "children": [],
    "processes": sorted(int(n) for n in os.listdir("/proc") if n.isdigit()),
    "host_file": pathlib.Path(probe, "of-the-host").read_text(),
    "shm": os.statvfs("/dev/shm").f_frsize * os.statvfs("/dev/shm").f_blocks,
    "shm_names": os.listdir("/dev/shm"),
    "tmp_mode": oct(os.stat("/tmp").st_mode),
    "mounts": open("/proc/self/mountinfo").read(),
    "pid_ns": os.readlink("/proc/self/ns/pid"),
}
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    found["children"].append(pid)
pathlib.Path(probe, "of-the-task").write_text("task")
pathlib.Path(probe, "of-the-host").write_text("changed")
pathlib.Path(probe, "to-be-removed").unlink()
pathlib.Path("/dev/shm/of-the-task").write_text("task")
found["own"] = sorted(os.listdir(probe))
print(json.dumps(found), flush=True)
while not os.path.exists(control + "/end"):
    time.sleep(0.01)
"""


@pytest.fixture
def probe() -> Path:
    path = Path(tempfile.mkdtemp(prefix="fsnap-probe-", dir="/tmp"))
    (path / "of-the-host").write_text("host")
    (path / "to-be-removed").write_text("host")
    yield path
    shutil.rmtree(path)


def looked(task: Task, probe: Path) -> tuple[Attempt, dict[str, object]]:
    attempt = task.start(command=[sys.executable, "-I", "-S", "-c", LOOK, str(probe)])
    attempt.wait_stdout("}\n")
    return attempt, json.loads(bytes(attempt.stdout.data))


def end(task: Task, attempt: Attempt) -> None:
    (task.control / "end").touch()
    attempt.finish(0)
    task.assert_clean()


def test_from_inside(make_task: MakeTask, probe: Path) -> None:
    task = make_task()
    attempt, found = looked(task, probe)
    assert found["pid"] > FIRST_PID
    assert found["processes"] == [1, found["pid"]]
    assert all(pid > found["pid"] for pid in found["children"])
    assert found["host_file"] == "host"
    assert found["own"] == ["of-the-host", "of-the-task"]
    assert found["shm"] > 0
    assert found["shm_names"] == []
    assert found["tmp_mode"] == oct(os.stat("/tmp").st_mode)
    assert found["pid_ns"] != os.readlink("/proc/self/ns/pid")
    end(task, attempt)


def test_what_the_task_writes_to_tmp_stays_from_the_host(make_task: MakeTask, probe: Path) -> None:
    task = make_task()
    attempt, _ = looked(task, probe)
    seen = sorted(path.name for path in probe.iterdir())
    assert seen == ["of-the-host", "to-be-removed"]
    assert (probe / "of-the-host").read_text() == "host"
    assert not Path("/dev/shm/of-the-task").exists()
    end(task, attempt)
    assert sorted(path.name for path in probe.iterdir()) == seen


def test_init_is_small(make_task: MakeTask) -> None:
    task = make_task(20, 8)
    attempt = task.start()
    attempt.wait_stdout("line 8\n")
    task.give_notice(0.0)  # leaves the tree alone
    status = Path(f"/proc/{task.init_pid()}/status").read_text() if attempt.process.poll() is None else ""
    attempt.finish()
    rss = next((line for line in status.splitlines() if line.startswith("VmRSS")), "VmRSS: 0 kB")
    assert 0 < int(rss.split()[1]) < INIT_LIMIT_KIB


def test_capsule_outlives_its_agent(make_task: MakeTask) -> None:
    task = make_task(40, 8, 16)
    first = task.start()
    first.wait_stdout("line 8\n")
    init = task.init_pid()
    kill_agent(first)
    task.go(8)
    wait_until("step 16", lambda: "16\n" in (task.state / "out").read_text())
    assert task.init_pid() == init
    second = task.start(fresh=False)
    second.wait_stdout("line 16\n")
    assert task.init_pid() == init
    task.go(16)
    second.finish(0)
    task.assert_whole()


def test_task_that_ended_without_its_agent(make_task: MakeTask) -> None:
    task = make_task(12, 8)
    first = task.start()
    first.wait_stdout("line 8\n")
    kill_agent(first)
    task.go(8)
    wait_until("the end", lambda: "12\n" in (task.state / "out").read_text())
    second = task.start(fresh=False)
    second.finish(0)
    task.assert_whole()
    assert [record.epoch for record in task.records()][-1] == 1


def test_killed_agent_and_a_new_one_on_a_stopped_terminal(make_task: MakeTask) -> None:
    """An agent that stops reading its connection must not stop init, nor so the task."""
    task = make_task(40, 8, 30)
    first = task.start()
    first.wait_stdout("line 8\n")
    first.process.send_signal(signal.SIGSTOP)
    task.go(8)
    wait_until("step 30", lambda: "30\n" in (task.state / "out").read_text())
    first.process.send_signal(signal.SIGCONT)
    task.go(30)
    first.finish(0)
    task.assert_whole()


FORKS = """
import os, time
control = os.environ["CONTROL"]
def life(depth):
    while not os.path.exists(control + "/end"):
        with open(control + "/forks", "a") as out:
            out.write("x")
        pid = os.fork()
        if pid == 0:
            time.sleep(0.002)
            with open(control + "/forks", "a") as out:
                out.write("y")
            os._exit(0)
        time.sleep(0.001)
        os.waitpid(pid, 0)
print("ready", flush=True)
for _ in range(3):
    if os.fork() == 0:
        life(0)
        os._exit(0)
for _ in range(3):
    os.wait()
print("done", flush=True)
"""


def test_no_fork_escapes_a_pause(make_task: MakeTask) -> None:
    task = make_task()
    attempt = task.start("--lease", "1", command=[sys.executable, "-I", "-S", "-c", FORKS])
    attempt.wait_stdout("ready")
    forks = task.control / "forks"
    for _ in range(3):
        task.break_store()
        last = -1
        while last != (last := forks.stat().st_size):
            attempt.wait("some time", lambda: task.still(0.4))
        assert task.still(0.5)
        assert forks.stat().st_size == last
        task.mend_store()
        attempt.wait("the end of the pause", lambda size=last: forks.stat().st_size > size)
    (task.control / "end").touch()
    attempt.finish(0)
