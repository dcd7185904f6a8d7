"""Warm passes ahead of a final dump, with real CRIU: little is left to put, and the output is the same."""

from __future__ import annotations

import re
import sys

import pytest

from fsnap.snapshots import codec
from fsnap.snapshots.indexfile import decode_index
from tests.e2e.conftest import MakeScenario
from tests.e2e.harness import WORKLOADS, Attempt, assert_same

pytestmark = pytest.mark.criu

QUICK = ("--verbose", "--max-overhead", "100")
"""Passes that take a whole processor: a test has no time for more."""


def pass_was_made(attempt: Attempt) -> None:
    attempt.wait_stderr("warm pass: ")


def numbers(attempt: Attempt, pattern: str) -> list[int]:
    """The numbers in the last line of the log that matches."""
    found = list(re.finditer(pattern, attempt.log))
    assert found, attempt.log
    return [int(group) for group in found[-1].groups()]


@pytest.mark.parametrize("workload", ["heap.py", pytest.param("pool.py", marks=pytest.mark.slow)])
def test_little_is_left_to_put_after_a_pass(scenario: MakeScenario, workload: str) -> None:
    task = scenario([sys.executable, WORKLOADS / workload])
    task.env |= {"BLOCKS": "40"}
    expected = task.baseline()
    task.env["PACE"] = "0.6"
    first = task.reclaim(pass_was_made, *QUICK)
    second = task.reclaim(pass_was_made, *QUICK)
    task.finish(*QUICK)
    assert_same(task.result(), expected)
    if workload == "heap.py":
        (warm_put,) = numbers(first, r"warm pass: .* (\d+) put")
        (put,) = numbers(first, r"stored in \d+ ms, (\d+) bytes put")
        assert 40 << 20 < warm_put
        assert put < 0.35 * warm_put
        # The node that restored it knows what the snapshot has, and its pass puts what changed since.
        (again,) = numbers(second, r"warm pass: .* (\d+) put")
        assert again < 0.6 * warm_put


@pytest.mark.slow
def test_no_pass_where_it_is_not_wanted(scenario: MakeScenario) -> None:
    task = scenario([sys.executable, WORKLOADS / "heap.py"])
    task.env |= {"BLOCKS": "8", "PACE": "0.2"}
    attempt = task.start(*QUICK, "--warm", "off")
    attempt.finish(0)
    assert "warm pass" not in attempt.log


@pytest.mark.slow
def test_twenty_snapshots_in_a_row_with_deltas(scenario: MakeScenario) -> None:
    task = scenario([sys.executable, WORKLOADS / "heap.py"])
    task.env |= {"BLOCKS": "16"}
    expected = task.baseline()
    task.env["PACE"] = "1.0"

    def twenty(attempt: Attempt) -> None:
        attempt.wait("twenty snapshots", lambda: attempt.log.count(" stored in ") >= 20)

    task.reclaim(twenty, *QUICK, "--interval", "0.5")
    indexes = sorted(task.store.glob("tasks/*/snapshots/*/index"))
    chunks = decode_index(indexes[-1].read_bytes(), where="x").chunks
    assert int((chunks["codec"] == codec.DELTA).sum()) > 20
    task.finish(*QUICK)
    assert_same(task.result(), expected)
