"""Output of a task that was reclaimed any number of times equals the output of one that was not."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import MakeScenario
from tests.e2e.harness import NEW_NODE, WORKLOADS, Attempt, assert_same, printed

pytestmark = pytest.mark.criu

PYTHON = sys.executable

EVERYWHERE = pytest.mark.parametrize(
    "node", [(), pytest.param(NEW_NODE, marks=pytest.mark.slow)], ids=["here", "own-namespaces"]
)


@EVERYWHERE
def test_big_changing_heap(scenario: MakeScenario, node: tuple[str, ...]) -> None:
    task = scenario([PYTHON, WORKLOADS / "heap.py"])
    expected = task.baseline()
    task.node = node
    assert_same(task.run_through(printed("step 6 "), printed("step 18 ")), expected)


def test_big_heap_below_var_tmp(scenario: MakeScenario, var_tmp: Path) -> None:
    task = scenario([PYTHON, WORKLOADS / "heap.py"], root=var_tmp)
    task.env["BLOCKS"] = "8"
    expected = task.baseline()
    assert_same(task.run_through(printed("step 6 "), printed("step 18 ")), expected)


def test_threads_shared_mapping_and_an_unlinked_file(
    scenario: MakeScenario, c_program: Callable[[str], Path]
) -> None:
    task = scenario([c_program("threads")])
    expected = task.baseline()
    assert_same(task.run_through(printed("step 6 "), printed("step 22 ")), expected)


def test_waits_with_a_time_limit(scenario: MakeScenario, c_program: Callable[[str], Path]) -> None:
    """Neither a reclaim nor a periodic checkpoint interrupts them."""
    task = scenario([c_program("waits")])
    expected = task.baseline()
    task.flags += ["--interval", "0.5", "--verbose"]
    assert_same(task.run_through(printed("step 13 "), printed("step 26 ")), expected)
    told = [bytes(attempt.stderr.data) for attempt in task.attempts]
    assert all(b"predumping: periodic checkpoint" in attempt for attempt in told)


def test_pipeline_with_spilling_sort(scenario: MakeScenario) -> None:
    task = scenario(["sh", WORKLOADS / "pipeline.sh"])
    expected = task.baseline()

    def reached(line: str) -> Callable[[Attempt], None]:
        return lambda attempt: attempt.wait_file(task.state / "progress.txt", f"{line}\n")

    assert_same(task.run_through(reached("portion 6"), reached("portion 20")), expected)


def test_script_with_reopened_streams_fifo_and_coprocess(scenario: MakeScenario) -> None:
    task = scenario([WORKLOADS / "script.sh"])
    expected = task.baseline()
    assert_same(task.run_through(printed("step 6\n"), printed("step 20\n")), expected)


def test_process_pool_with_shared_memory(scenario: MakeScenario) -> None:
    task = scenario([PYTHON, WORKLOADS / "pool.py"])
    expected = task.baseline()
    assert_same(task.run_through(printed("step 4 "), printed("step 14 ")), expected)


@EVERYWHERE
def test_java(scenario: MakeScenario, java_classes: Path, node: tuple[str, ...]) -> None:
    task = scenario(["java", "-Xmx256m", "-cp", java_classes, "Grow"])
    expected = task.baseline()
    task.node = node
    assert_same(task.run_through(printed("step 6 "), printed("step 20 ")), expected)


def test_connections_within_the_tree(scenario: MakeScenario) -> None:
    task = scenario([PYTHON, WORKLOADS / "network.py"])
    expected = task.baseline()
    assert_same(task.run_through(printed("step 4 "), printed("step 14 ")), expected)


@EVERYWHERE
def test_processes_whose_parent_has_ended(scenario: MakeScenario, node: tuple[str, ...]) -> None:
    task = scenario([PYTHON, WORKLOADS / "orphans.py"])
    expected = task.baseline()
    task.node = node
    run = task.run_through(*(printed(f"step {step} ") for step in (4, 9, 14, 19)))
    assert_same(run, expected)
    assert not any("can't be checkpointed" in attempt.log for attempt in task.attempts)


CONNECTING_CRIU = """#!/bin/sh
if [ "$1" = dump ]; then
    kill -USR1 "$3"
    sleep 0.3
fi
exec {criu} "$@"
"""


def test_a_connection_made_just_before_the_freeze(
    scenario: MakeScenario, tmp_path: Path, criu_binary: str
) -> None:
    """The network is locked for trees with connections; this one shows in the images, and is dumped again."""
    task = scenario([PYTHON, WORKLOADS / "late_connection.py"])
    expected = task.baseline()
    connecting = tmp_path / "connecting-criu"
    connecting.write_text(CONNECTING_CRIU.format(criu=criu_binary))
    connecting.chmod(0o755)
    task.env["FSNAP_CRIU"] = str(connecting)
    attempt = task.reclaim(printed("step 4\n"))
    assert attempt.log.count("a process connected while the network was not locked") == 1
    assert_same(task.run_through(), expected)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_node_with_worker_threads(scenario: MakeScenario) -> None:
    task = scenario(["node", WORKLOADS / "workers.js"])
    task.env["UV_USE_IO_URING"] = "0"
    expected = task.baseline()
    assert_same(task.run_through(printed("step 4 "), printed("step 14 ")), expected)
