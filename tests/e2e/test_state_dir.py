"""What is in a state dir goes on to the next node, to the last attribute; inputs are the user's to bring."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from tests.e2e import folder
from tests.e2e.conftest import MakeScenario
from tests.e2e.harness import WORKLOADS, Scenario, assert_same, printed

pytestmark = pytest.mark.criu


def test_every_kind_of_entry(scenario: MakeScenario) -> None:
    task = scenario([sys.executable, WORKLOADS / "details.py"])
    expected = task.baseline()
    task.reclaim(printed("step 3 "))
    task.reclaim(printed("step 14 "))
    task.finish()
    result = task.result()
    assert folder.has_holes(task.state / "sparse")
    assert_same(result, expected)
    assert b"(True, True)" in result.stdout
    assert b"False" not in result.stdout


@pytest.fixture
def with_inputs(scenario: MakeScenario) -> Scenario:
    task = scenario([sys.executable, WORKLOADS / "inputs.py"])

    def put() -> None:
        source = task.state / "in"
        source.mkdir()
        (source / "data.bin").write_bytes(random.Random(1).randbytes(100_000))
        (source / "late.bin").write_bytes(random.Random(2).randbytes(300_000))
        (source / "changed.txt").write_text("as it was\n")
        (source / "removed.txt").write_text("never read\n")

    task.put_inputs = put
    return task


def test_inputs_that_every_node_has(with_inputs: Scenario) -> None:
    expected = with_inputs.baseline()
    assert_same(with_inputs.run_through(printed("step 3 "), printed("step 10 ")), expected)
    assert (with_inputs.state / "in/changed.txt").read_text() == "changed by the task\n"
    assert not (with_inputs.state / "in/removed.txt").exists()


@pytest.mark.parametrize("change", ["missing", "other content of the same size"])
def test_an_input_that_is_not_as_it_was(with_inputs: Scenario, change: str) -> None:
    expected = with_inputs.baseline()
    with_inputs.reclaim(printed("step 3 "))
    put = with_inputs.put_inputs

    def put_less() -> None:
        put()
        late = with_inputs.state / "in/late.bin"
        if change == "missing":
            late.unlink()
        else:
            late.write_bytes(bytes(300_000))

    with_inputs.put_inputs = put_less
    refused = with_inputs.finish(expected=176)
    last = refused.log.splitlines()[-1]
    assert "in/late.bin" in last
    assert refused.stdout.data == b""
    with_inputs.put_inputs = put
    with_inputs.finish()
    assert_same(with_inputs.result(), expected)


def test_inputs_that_are_included(with_inputs: Scenario) -> None:
    expected = with_inputs.baseline()
    with_inputs.flags.append("--include-inputs")
    with_inputs.reclaim(printed("step 3 "))
    with_inputs.put_inputs = lambda: None
    with_inputs.reclaim(printed("step 10 "))
    with_inputs.finish()
    assert_same(with_inputs.result(), expected)


def test_files_of_an_outer_wrapper_stay(scenario: MakeScenario, tmp_path: Path) -> None:
    """What is in the state dir of the next node, and was not in the first one's, is not fsnap's to remove."""
    task = scenario([sys.executable, WORKLOADS / "heap.py"])
    task.env["BLOCKS"] = "2"
    task.reclaim(printed("step 6 "))
    task.put_inputs = lambda: (task.state / ".command.log").write_text("of the wrapper")
    task.finish()
    assert (task.state / ".command.log").read_text() == "of the wrapper"
