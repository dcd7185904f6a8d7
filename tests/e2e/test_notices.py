"""Notices at awkward moments: before, while and after something else happens."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import MakeScenario
from tests.e2e.harness import (
    CHECKPOINTED,
    OWN_NETWORK,
    WORKLOADS,
    Scenario,
    assert_same,
    assert_same_bytes,
    printed,
)

pytestmark = pytest.mark.criu

SMALL_HOME = (
    *("unshare", "--mount", "sh", "-c"),
    'mount -t tmpfs -o size=60m none "$FSNAP_HOME" && exec "$@"',
    "sh",
)
"""A node with little room for images."""


@pytest.fixture
def heap(scenario: MakeScenario) -> Scenario:
    task = scenario([sys.executable, WORKLOADS / "heap.py"])
    task.env["BLOCKS"] = "8"
    return task


def recorded(task: Scenario, state: str) -> bool:
    """The store's journal has a record that leads to *state*."""
    objects = task.store.glob("tasks/*/journal/*.json")
    return any(f'"dest":"{state}"' in path.read_text() for path in objects)


def test_the_last_nodes_notice_is_still_there(heap: Scenario) -> None:
    """It was answered once: the same file is no second notice."""
    expected = heap.baseline()
    heap.reclaim(printed("step 6 "))
    before = heap.notice_path.stat().st_ino
    keep = heap.notice_path.with_name("kept")
    heap.notice_path.rename(keep)
    heap.fresh_node()
    keep.rename(heap.notice_path)
    assert heap.notice_path.stat().st_ino == before
    heap.finish(fresh=False)
    assert_same(heap.result(), expected)


def test_a_new_notice_before_the_start(heap: Scenario) -> None:
    """Nothing is restored on a node that goes; nothing is lost."""
    expected = heap.baseline()
    heap.reclaim(printed("step 6 "))
    heap.fresh_node()
    heap.give_notice()
    heap.start(fresh=False).finish(CHECKPOINTED)
    heap.assert_clean()
    heap.finish()
    assert_same(heap.result(), expected)


def test_a_notice_while_it_restores(heap: Scenario) -> None:
    heap.env["BLOCKS"] = "80"
    expected = heap.baseline()
    heap.reclaim(printed("step 6 "))
    second = heap.start()
    second.wait_stderr("restor")
    heap.give_notice()
    second.finish(CHECKPOINTED)
    heap.assert_clean()
    heap.finish()
    assert_same(heap.result(), expected)


def test_a_notice_that_is_taken_back_while_it_dumps(heap: Scenario) -> None:
    """The task goes on as if nothing had been, and a later notice finds it in order."""
    heap.env["BLOCKS"] = "80"
    expected = heap.baseline()
    first = heap.start()
    first.wait_stdout("step 4 ")
    heap.give_notice()
    first.wait_stderr("dumping")
    heap.notice_path.unlink()
    first.wait_stdout("step 12 ")
    heap.give_notice()
    first.finish(CHECKPOINTED)
    heap.assert_clean()
    heap.finish()
    assert_same(heap.result(), expected)


def test_a_false_notice_on_a_node_that_holds(heap: Scenario) -> None:
    """Committed and frozen, then the notice is taken back: the same tree goes on, on the same node."""
    expected = heap.baseline()
    heap.flags = ["--after-commit", "hold"]
    attempt = heap.start()
    attempt.wait_stdout("step 6 ")
    heap.give_notice()
    attempt.wait_stderr("holds until the host goes")
    printed_bytes = len(attempt.stdout.data)
    heap.hurry.touch()
    heap.notice_path.unlink()
    attempt.finish(0)
    assert len(attempt.stdout.data) > printed_bytes
    heap.assert_clean()
    assert_same(heap.result(), expected)


def test_a_node_that_holds_is_lost(heap: Scenario) -> None:
    expected = heap.baseline()
    heap.node = OWN_NETWORK
    heap.flags = ["--after-commit", "hold"]
    attempt = heap.start()
    attempt.wait_stdout("step 6 ")
    heap.give_notice()
    attempt.wait("the commit's record", lambda: recorded(heap, "uploaded"))
    heap.lose_node(attempt)
    heap.finish()
    assert_same(heap.result(), expected)


def test_no_room_for_the_images(heap: Scenario) -> None:
    """The final dump needs none: its pages go from CRIU into the store."""
    heap.env["BLOCKS"] = "120"
    expected = heap.baseline()
    heap.node = SMALL_HOME
    heap.reclaim(printed("step 6 "), "--warm", "off")
    heap.node = ()
    heap.finish()
    assert_same(heap.result(), expected)


def test_no_room_for_a_checkpoint(heap: Scenario) -> None:
    """It fails, the task goes on and ends."""
    heap.env["BLOCKS"] = "120"
    expected = heap.baseline()
    heap.node = SMALL_HOME
    attempt = heap.start("--interval", "0.5", "--warm", "off")
    attempt.wait_stderr("disk for the images is full")
    heap.hurry.touch()
    attempt.finish(0)
    assert_same_bytes(bytes(attempt.stdout.data), expected.stdout, "stdout")
    assert heap.result().files == expected.files


def test_a_window_that_is_over_at_once(heap: Scenario) -> None:
    """Nothing can be saved: it says so with 175, and the next attempt starts from what there is."""
    expected = heap.baseline()
    attempt = heap.start()
    attempt.wait_stdout("step 6 ")
    heap.give_notice(0)
    attempt.finish(175)
    assert "starts from nothing" in attempt.log
    heap.assert_clean()
    last = heap.finish()
    assert_same_bytes(bytes(last.stdout.data), expected.stdout, "stdout")


def test_a_full_disk_under_the_journal(heap: Scenario) -> None:
    """Nothing can be recorded, so nothing is dumped; the task, which needs no room, ends well."""
    expected = heap.baseline()
    heap.node = SMALL_HOME
    attempt = heap.start()
    attempt.wait_stdout("step 6 ")
    home = Path(f"/proc/{attempt.process.pid}/root{heap.env['FSNAP_HOME']}")
    with contextlib.suppress(OSError), (home / "filler").open("wb", buffering=0) as filler:
        while filler.write(bytes(4096)) == 4096:
            pass
    heap.give_notice()
    attempt.wait_stdout("step 20 ")
    (home / "filler").unlink()
    attempt.finish()
    assert attempt.exit_code in (0, CHECKPOINTED)
    if attempt.exit_code == CHECKPOINTED:
        heap.node = ()
        heap.finish()
    assert_same(heap.result(), expected)
