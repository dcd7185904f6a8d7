"""The agent's own end, and signals: the task lives on, or goes on elsewhere."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import MakeScenario
from tests.e2e.harness import (
    CHECKPOINTED,
    OWN_NETWORK,
    WORKLOADS,
    Attempt,
    Scenario,
    assert_same,
    assert_same_bytes,
    printed,
)

pytestmark = pytest.mark.criu


@pytest.fixture
def heap(scenario: MakeScenario) -> Scenario:
    task = scenario([sys.executable, WORKLOADS / "heap.py"])
    task.env["BLOCKS"] = "8"
    return task


def kill_agent(attempt: Attempt) -> None:
    """The agent alone; the capsule lives on."""
    attempt.process.kill()
    attempt.finish(-signal.SIGKILL)


def test_a_killed_agent_is_succeeded_on_its_node(heap: Scenario) -> None:
    expected = heap.baseline()
    first = heap.start()
    first.wait_stdout("step 6 ")
    kill_agent(first)
    heap.finish(fresh=False)
    assert_same(heap.result(), expected)


def test_a_killed_agent_whose_successor_is_reclaimed(heap: Scenario) -> None:
    expected = heap.baseline()
    first = heap.start()
    first.wait_stdout("step 4 ")
    kill_agent(first)
    second = heap.start(fresh=False)
    second.wait_stdout("step 12 ")
    heap.give_notice()
    second.finish(CHECKPOINTED)
    heap.assert_clean()
    heap.finish()
    assert_same(heap.result(), expected)


def test_an_agent_killed_while_it_dumps(heap: Scenario) -> None:
    heap.env["BLOCKS"] = "80"
    expected = heap.baseline()
    first = heap.start()
    first.wait_stdout("step 4 ")
    heap.give_notice()
    first.wait_stderr("dumping")
    kill_agent(first)
    second = heap.start(fresh=False)
    if second.finish() == CHECKPOINTED:
        heap.finish()
    heap.assert_clean()
    assert_same(heap.result(), expected)


def test_a_node_lost_while_it_dumps(heap: Scenario) -> None:
    """Nothing was committed: the task starts from nothing, and its files are those of one run."""
    heap.env["BLOCKS"] = "80"
    expected = heap.baseline()
    heap.node = OWN_NETWORK
    first = heap.start("--attempt", "1", "--lease", "3")
    first.wait_stdout("step 4 ")
    heap.give_notice()
    first.wait_stderr("dumping")
    heap.lose_node(first)
    last = heap.finish("--attempt", "2", "--lease", "3")
    assert_same_bytes(bytes(last.stdout.data), expected.stdout, "stdout")
    assert heap.result().files == expected.files


def test_sigterm_is_a_notice(heap: Scenario) -> None:
    expected = heap.baseline()
    first = heap.start()
    first.wait_stdout("step 6 ")
    first.process.terminate()
    first.finish(CHECKPOINTED)
    heap.assert_clean()
    heap.finish()
    assert_same(heap.result(), expected)


def test_sigint_ends_the_task(heap: Scenario) -> None:
    first = heap.start()
    first.wait_stdout("step 6 ")
    first.process.send_signal(signal.SIGINT)
    code = first.finish()
    assert code in (1, 130)
    assert b"KeyboardInterrupt" in first.task_stderr
    heap.assert_clean()


def test_on_the_same_node_with_everything_still_there(heap: Scenario) -> None:
    """A requeue may find the same machine: same home, state dir as the dump left it."""
    expected = heap.baseline()
    for number in (6, 16):
        attempt = heap.start(fresh=number == 6)
        attempt.wait_stdout(f"step {number} ")
        heap.give_notice()
        attempt.finish(CHECKPOINTED)
        heap.assert_clean()
    heap.finish(fresh=False)
    assert_same(heap.result(), expected)


def test_a_lost_node_whose_disk_survives(heap: Scenario, tmp_path: Path) -> None:
    """The state dir has what was written after the last checkpoint; it is put back."""
    expected = heap.baseline()
    flags = ("--interval", "1", "--lease", "3", "--stdout", str(tmp_path / "stdout"))
    heap.node = OWN_NETWORK
    first = heap.start("--attempt", "1", *flags)
    first.wait("a checkpoint", lambda: bool(list(heap.store.glob("tasks/*/snapshots/*/manifest.json"))))
    first.wait_file(heap.state / "heap.txt", "\n25 ")
    heap.lose_node(first)
    heap.finish("--attempt", "2", *flags, fresh=False)
    assert_same_bytes((tmp_path / "stdout").read_bytes(), expected.stdout, "--stdout")
    assert heap.result().files == expected.files


def test_two_tasks_of_one_node(scenario: MakeScenario, tmp_path: Path) -> None:
    """They share a home and a notice, and each is restored on a node of its own."""
    tasks = []
    for name in ("one", "two"):
        task = scenario([sys.executable, WORKLOADS / "heap.py"], root=tmp_path / name)
        task.env["BLOCKS"] = "8" if name == "one" else "9"
        tasks.append((task, task.baseline()))
    home = tmp_path / "home"
    home.mkdir()
    one, two = tasks[0][0], tasks[1][0]
    two.notice_path, two.task_id, two.store = one.notice_path, "other.step:2@x", one.store
    attempts = []
    for task in (one, two):
        task.fresh_node()
        task.env["FSNAP_HOME"] = str(home)
        attempts.append(task.start(fresh=False))
    for attempt in attempts:
        attempt.wait_stdout("step 6 ")
    one.give_notice()
    for attempt in attempts:
        attempt.finish(CHECKPOINTED)
    for task, expected in tasks:
        task.finish()
        assert_same(task.result(), expected)


def test_two_state_dirs_and_a_directory_that_is_none(scenario: MakeScenario, tmp_path: Path) -> None:
    """With the current directory outside all of them."""
    second = tmp_path / "second"
    second.mkdir()
    task = scenario(["bash", WORKLOADS / "two_dirs.sh", tmp_path / "e2e/D", second], cwd=tmp_path)
    expected = task.baseline()
    task.flags += ["--state-dir", str(second)]
    for number in (3, 10):
        attempt = task.reclaim(printed(f"step {number}\n"))
        assert attempt.exit_code == CHECKPOINTED
        for path in second.iterdir():
            path.unlink()
    task.finish()
    assert_same(task.result(), expected)
    assert (second / "odd.txt").read_text().split() == [str(n) for n in range(1, 20, 2)]
