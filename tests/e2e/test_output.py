"""Joined output is byte for byte the task's, however much of it is under way at a freeze."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import MakeScenario
from tests.e2e.harness import Attempt, assert_same, printed

pytestmark = pytest.mark.criu


def seen(n_bytes: int) -> Callable[[Attempt], None]:
    """The moment at which the attempt had printed that much."""
    return lambda attempt: attempt.wait(f"{n_bytes} bytes", lambda: len(attempt.stdout.data) >= n_bytes)


def test_a_writer_in_bursts(scenario: MakeScenario, c_program: Callable[[str], Path]) -> None:
    task = scenario([c_program("lines"), "1200000", "40"])
    expected = task.baseline()
    assert_same(task.run_through(seen(10_000_000), seen(20_000_000)), expected)


@pytest.mark.slow
def test_a_writer_at_full_speed(scenario: MakeScenario, c_program: Callable[[str], Path]) -> None:
    task = scenario([c_program("lines"), "10000000", "0"])
    expected = task.baseline()
    assert_same(task.run_through(seen(1), seen(1)), expected)


def test_a_slow_reader(scenario: MakeScenario, c_program: Callable[[str], Path]) -> None:
    """What the reader had not taken at the freeze travels, and is the next attempt's to print."""
    task = scenario([c_program("lines"), "300000", "20"])
    expected = task.baseline()
    for _ in range(2):
        attempt = task.start(stdout_bytes_per_s=4e6)
        seen(1_000_000)(attempt)
        task.give_notice()
        attempt.wait_stderr("checkpointed")
        attempt.finish(177)
        task.assert_clean()
    task.finish()
    assert_same(task.result(), expected)


def test_a_reader_that_has_gone(scenario: MakeScenario, c_program: Callable[[str], Path]) -> None:
    """The task does not die of it: it ends by itself."""
    task = scenario([c_program("lines"), "100000", "5"])
    task.baseline()
    attempt = task.start(head_bytes=100_000)
    attempt.finish(0)
    task.assert_clean()


def test_a_node_lost_while_a_slow_reader_takes_the_end(
    scenario: MakeScenario, c_program: Callable[[str], Path]
) -> None:
    """The task has ended, its output has not left: the next attempt prints the rest."""
    task = scenario([c_program("lines"), "100000", "0"])
    expected = task.baseline()
    first = task.start("--attempt", "1", "--lease", "3", stdout_bytes_per_s=5e5)
    seen(500_000)(first)
    first.wait("the task's end", lambda: b"ended" in first.stderr.data or b"exited" in first.stderr.data)
    task.lose_node(first)
    last = task.finish("--attempt", "2", "--lease", "3")
    taken, rest = bytes(first.stdout.data), bytes(last.stdout.data)
    assert expected.stdout.startswith(taken)
    assert expected.stdout.endswith(rest)
    assert len(taken) + len(rest) >= len(expected.stdout), "output is missing"


def test_output_of_a_task_in_a_deep_place(scenario: MakeScenario, tmp_path: Path) -> None:
    """Longer than a UNIX socket's address may be."""
    deep = tmp_path.joinpath(*["d" * 60] * 4)
    task = scenario(["sh", "-c", "seq 100; sleep $PACE; sleep $PACE; seq 200 >&2"], root=deep)
    expected = task.baseline()
    task.env["PACE"] = "0.4"
    assert_same(task.run_through(printed("100\n")), expected)
