"""Other numbers, same events."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fsnap.charts import task_chart
from fsnap.core.model import Config
from fsnap.core.timeline import reclaims
from fsnap.core.whatif import Change, Otherwise, assumed, changes, otherwise
from fsnap.errors import UsageError
from tests.unit.replay.story import MIB, Story, two_reclaims


def told(story: Story, *pairs: str) -> tuple[list[Change], list[Otherwise]]:
    replayed, what = story.replayed(), assumed(pairs)
    return (
        changes(task_chart(), replayed, what),
        otherwise(task_chart(), replayed, reclaims(replayed.steps), what),
    )


def dumped(**facts: Any) -> Story:
    story = Story().claims().after(60_000)
    story.facts = replace(story.facts, **facts)
    return story.notice(age_ms=40).after(9_000).saved()


def test_a_shorter_window_with_the_dump_that_was_measured() -> None:
    for window, saved in (("30", True), ("9.04", True), ("9.039", False)):
        found, (one,) = told(dumped(), f"window_s={window}")
        assert found == []
        assert (one.commit_ms, one.measured, one.saved) == (9_040, True, saved)


def test_a_slower_node_would_not_have_tried() -> None:
    story = dumped(tree_bytes=300 * MIB)
    found, (one,) = told(story, f"commit_bps={MIB}")
    # 300 MiB at 1 MiB/s and the fixed second do not fit 120 s.
    assert [(change.seq, change.decided["trigger"]) for change in found] == [(2, "note")]
    assert (one.dumps, one.commit_ms, one.saved) == (False, None, False)
    assert "301000 ms" in one.why


def test_a_faster_node_as_the_planner_sees_it() -> None:
    story = dumped(tree_bytes=300 * MIB)
    found, (one,) = told(story, f"commit_bps={100 * MIB}")
    assert found == []
    assert (one.commit_ms, one.measured) == (1_000 + 3_000 + 40, False)


def test_the_deadline_of_later_ticks_moves_with_the_window() -> None:
    story = two_reclaims()
    give_up = next(record.seq for record in story.records if record.trigger == "give_up")
    found, _ = told(story, "window_s=60")
    assert [(change.seq, change.decided["trigger"]) for change in found] == [(give_up, None)]


def test_a_dump_that_failed_might_fail_again() -> None:
    _, (first, second) = told(two_reclaims(), "window_s=60")
    assert (first.saved, first.measured) == (True, True)
    assert (second.dumps, second.saved, second.commit_ms) == (True, None, None)


def test_configuration() -> None:
    story = dumped()
    found, _ = told(story, "after_commit=hold")
    assert [change.decided["effects"] for change in found] == [[{"kind": "Hold"}]]
    assert told(story, "after_commit=exit")[0] == []


def test_nothing_else_changes_when_the_same_is_assumed() -> None:
    found, _ = told(two_reclaims(), f"lease_s={Config().lease_ms / 1000}", "on_restore_failure=fail")
    assert found == []


@pytest.mark.parametrize(
    "pair",
    [
        "window_s",
        "window_s=",
        "window_s=x",
        "window_s=-1",
        "window_s=nan",
        "window_s=inf",
        "commit_bps=1.5",
        "after_commit=never",
        "shared_state=1",
        "mono_ms=5",
        "=5",
        "",
    ],
)
def test_what_is_no_assumption(pair: str) -> None:
    with pytest.raises(UsageError, match="--what-if"):
        assumed([pair])


def test_every_key_is_read() -> None:
    pairs = ["window_s=1.5", "commit_bps=1", "fixed_s=2", "tree_bytes=3", "files_bytes=4", "interval_s=5"]
    pairs += ["max_overhead_pct=0.5", "lease_s=6", "after_commit=hold", "on_restore_failure=restart"]
    what = assumed([*pairs, "shared_state=yes"])
    assert what.window_ms == 1_500
    assert what.facts == {"commit_bps": 1, "fixed_ms": 2_000, "tree_bytes": 3, "files_bytes": 4}
    assert what.config == {
        "interval_ms": 5_000,
        "max_overhead_permille": 5,
        "lease_ms": 6_000,
        "after_commit": "hold",
        "on_restore_failure": "restart",
        "shared_state": True,
    }
