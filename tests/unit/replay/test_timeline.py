"""Reclaims against their windows, told by stories whose seconds are known."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fsnap.cli.replaytext import bar_of
from fsnap.core.attempts import attempts
from fsnap.core.events import Notice, RenewAsked, SnapshotFound, TaskExited
from fsnap.core.model import Attempt, Basis, Config
from fsnap.core.timeline import Outcome, Reclaim, Stage
from tests.unit.replay.story import Story, two_reclaims

HOLD = Config(after_commit="hold")


def stages(reclaim: Reclaim) -> list[tuple[str, int, int | None]]:
    return [(stage.name, stage.start_ms, stage.end_ms) for stage in reclaim.stages]


def only(story: Story) -> Reclaim:
    found = story.reclaims()
    assert len(found) == 1
    return found[0]


def started() -> Story:
    return Story().claims().after(60_000)


def test_from_the_notice_to_the_release_on_another_node() -> None:
    story = started().notice(age_ms=40).after(9_000).saved()
    story.after(30_000).claims("node-b", Basis.UPLOADED).after(4_000).restored()
    reclaim = only(story)
    assert stages(reclaim) == [
        ("decide", 0, 40),
        ("dump", 40, 9_040),
        ("wait", 9_040, 39_040),
        ("restore", 39_040, 43_040),
    ]
    assert (reclaim.committed_ms, reclaim.margin_ms, reclaim.saved) == (9_040, 110_960, True)
    assert [stage.result for stage in reclaim.stages] == [
        "dumps",
        "committed",
        "claimed by node-b",
        "released",
    ]
    assert reclaim.stages[1].snapshot_id == reclaim.stages[3].snapshot_id == "000001-0000000002"


def test_a_commit_at_the_deadline_is_in_time_and_one_after_it_is_not() -> None:
    for took_ms, outcome in ((30_000, Outcome.COMMITTED), (30_001, Outcome.LATE)):
        reclaim = only(started().notice(30_000).after(took_ms).saved())
        assert (reclaim.outcome, reclaim.margin_ms) == (outcome, 30_000 - took_ms)
        assert reclaim.saved is (outcome is Outcome.COMMITTED)


def test_a_dump_that_is_not_done_at_the_deadline() -> None:
    reclaim = only(started().notice(30_000).after(30_000).deadline_passes())
    assert stages(reclaim)[1:] == [("dump", 0, 30_000), ("wait", 30_000, None)]
    assert (reclaim.outcome, reclaim.saved) == (Outcome.UNSAVED, False)


def test_a_failed_dump_is_tried_again() -> None:
    story = started().notice(30_000).after(5_000).dump_fails()
    story.facts = replace(story.facts, failed_dumps=1)
    story.after(250).deadline_passes().after(4_000).saved()
    reclaim = only(story)
    assert stages(reclaim)[1:] == [
        ("dump", 0, 5_000),
        ("run-on", 5_000, 5_250),
        ("dump", 5_250, 9_250),
        ("wait", 9_250, None),
    ]
    assert reclaim.saved
    assert reclaim.stages[1].result == "failed: no"


def test_no_dump_is_not_saved() -> None:
    story = started()
    story.facts = replace(story.facts, unsupported="io_uring")
    reclaim = only(story.notice(30_000).after(30_000).deadline_passes())
    assert stages(reclaim) == [("decide", 0, 0), ("run-on", 0, 30_000), ("wait", 30_000, None)]
    assert (reclaim.outcome, reclaim.saved, reclaim.margin_ms) == (Outcome.UNSAVED, False, None)


def test_a_node_that_dies_during_its_dump_saved_nothing() -> None:
    story = started().checkpoint().notice().after(7_000)
    reclaim = only(story.claims("node-b", Basis.LEASE_EXPIRED).after(2_000).restored())
    assert stages(reclaim) == [
        ("decide", 0, 0),
        ("dump", 0, None),
        ("wait", 0, 7_000),
        ("restore", 7_000, 9_000),
    ]
    assert reclaim.outcome is Outcome.UNSAVED


def test_a_dump_that_was_whole_when_its_node_died_saved_all() -> None:
    story = started().notice().after(7_000)
    ref = story.ref("final")
    story.node = "node-b"
    story.wall_skew_ms = 5
    story.happens(SnapshotFound(ref=ref), started=False)
    story.after(1_000).claims("node-b", Basis.LEASE_EXPIRED).after(2_000).restored()
    reclaim = only(story)
    assert stages(reclaim) == [
        ("decide", 0, 0),
        ("dump", 0, None),
        ("wait", 0, 8_005),
        ("restore", 8_005, 10_005),
    ]
    assert (reclaim.outcome, reclaim.saved, reclaim.margin_ms) == (Outcome.ADOPTED, True, None)
    first, second = attempts(story.replayed().steps)
    assert (first.end, first.run_ms, second.repeats_ms) == ("lost", 67_000, 0)


def test_another_nodes_notice_is_another_reclaim() -> None:
    story = started().checkpoint().notice().after(1_000).dump_fails().after(5_000)
    story.facts = replace(story.facts, started=False)
    story.node = "node-b"
    story.notice(name="n2").after(3_000).claims("node-c", Basis.GAVE_UP).after(500).restored()
    first, second = story.reclaims()
    assert (first.outcome, second.outcome) == (Outcome.UNSAVED, Outcome.NOT_STARTED)
    assert stages(first)[2:] == [("run-on", 1_000, None), ("wait", 1_000, 9_000), ("restore", 9_000, 9_500)]
    assert stages(second) == [("decide", 0, 0), ("wait", 0, 3_000), ("restore", 3_000, 3_500)]


def test_a_notice_taken_back_during_the_dump() -> None:
    story = started().notice().after(3_000).taken_back().after(100).exits()
    reclaim = only(story)
    assert stages(reclaim) == [("decide", 0, 0), ("dump", 0, 3_000)]
    assert (reclaim.outcome, reclaim.saved) == (Outcome.CANCELLED, False)


def test_a_notice_taken_back_after_the_commit() -> None:
    story = Story().claims(config=HOLD).after(1_000).notice().after(2_000).saved().after(500).taken_back()
    reclaim = only(story)
    assert stages(reclaim) == [("decide", 0, 0), ("dump", 0, 2_000), ("hold", 2_000, 2_500)]
    assert reclaim.saved


def test_one_of_two_notices_taken_back_changes_nothing() -> None:
    story = started().notice().after(1_000)
    story.happens(Notice(notice_id="n2", provider="sigterm", window_ms=25_000))
    reclaim = only(story.after(100).taken_back("n2").after(1_000).saved())
    assert reclaim.saved
    assert len(reclaim.stages) == 3


def test_a_second_notice_brings_the_deadline_forward_until_the_commit() -> None:
    story = Story().claims(config=HOLD).after(1_000).notice().after(1_000)
    story.happens(Notice(notice_id="n2", provider="sigterm", window_ms=5_000))
    story.after(6_000).saved().after(10)
    story.happens(Notice(notice_id="n3", provider="sigterm", window_ms=1))
    reclaim = only(story)
    assert (reclaim.window_ms, reclaim.deadline_ms) == (120_000, 6_000)
    assert (reclaim.outcome, reclaim.margin_ms) == (Outcome.LATE, -1_000)


def test_the_task_may_end_first() -> None:
    story = started()
    story.facts = replace(story.facts, unsupported="io_uring")
    reclaim = only(story.notice().after(8_000).exits())
    assert stages(reclaim) == [("decide", 0, 0), ("run-on", 0, 8_000), ("files", 8_000, 8_020)]
    assert reclaim.outcome is Outcome.ENDED


def test_a_notice_before_anything_ran() -> None:
    story = Story()
    story.notice(age_ms=500).after(2_000).claims("node-b")
    reclaim = only(story)
    assert stages(reclaim) == [("decide", 0, 500), ("wait", 500, 2_500)]
    assert reclaim.outcome is Outcome.NOT_STARTED


def test_a_notice_during_the_restore_ends_one_reclaim_and_is_another() -> None:
    story = started().notice().after(1_000).saved().after(1_000).claims("node-b", Basis.UPLOADED)
    story.after(300).notice(name="n2").after(5_000).claims("node-c", Basis.GAVE_UP).after(700).restored()
    first, second = story.reclaims()
    assert stages(first)[2:] == [("wait", 1_000, 2_000), ("restore", 2_000, 2_300)]
    assert stages(second) == [("decide", 0, 0), ("wait", 0, 5_000), ("restore", 5_000, 5_700)]
    assert (first.outcome, second.outcome) == (Outcome.COMMITTED, Outcome.NOT_STARTED)


def test_each_try_of_a_restore_is_a_stage() -> None:
    story = started().checkpoint().after(100).notice().after(1_000).saved().after(1_000)
    story.claims("node-b", Basis.UPLOADED).after(300).restore_fails(corrupt=True).after(600).restored()
    reclaim = only(story)
    assert stages(reclaim)[3:] == [("restore", 2_000, 2_300), ("restore", 2_300, 2_900)]
    assert [stage.snapshot_id for stage in reclaim.stages[3:]] == ["000001-0000000004", "000001-0000000002"]
    assert reclaim.stages[3].result == "failed: a byte is wrong"


def test_a_start_from_nothing_is_told() -> None:
    story = started().notice().after(1_000).saved().after(1_000).claims("node-b", Basis.UPLOADED)
    story.after(300).restore_fails(corrupt=True)
    assert "the task started from nothing afterwards" in only(story).remarks


def test_clocks_that_differ_give_no_negative_time() -> None:
    story = started().notice().after(9_000).saved()
    story.wall_skew_ms = -60_000
    story.after(5_000).claims("node-b", Basis.UPLOADED).after(4_000).restored()
    reclaim = only(story)
    assert reclaim.committed_ms == 9_000
    assert stages(reclaim)[2] == ("wait", 9_000, None)
    assert any("clocks" in remark for remark in reclaim.remarks)


def test_under_one_boot_the_wall_clock_does_not_matter() -> None:
    story = started().notice().after(9_000).saved()
    story.wall_skew_ms = -60_000
    story.after(5_000).claims("node-a", Basis.UPLOADED).after(4_000).restored()
    assert stages(only(story))[2:] == [("wait", 9_000, 14_000), ("restore", 14_000, 18_000)]


def test_a_rebalance_recommendation_is_no_reclaim() -> None:
    story = started()
    story.happens(Notice(notice_id="r", provider="aws", window_ms=0, action="rebalance"))
    assert story.reclaims() == []


def test_attempts_and_what_they_repeat() -> None:
    found = attempts(two_reclaims().replayed().steps)
    assert [(one.node, one.end, one.snapshot_id) for one in found] == [
        ("node-a", "checkpointed", None),
        ("node-b", "gave up", "000001-0000000002"),
        ("node-c", "completed", "000002-0000000006"),
    ]
    assert found[0].repeats_ms == found[1].repeats_ms == 0
    # From the checkpoint to the deadline: 50 s until the notice and its 30 s.
    assert found[2].repeats_ms == 50_000 + 30_000


@pytest.mark.parametrize("basis", [Basis.LEASE_EXPIRED, Basis.HOLDER_GONE, Basis.LATER_ATTEMPT])
def test_a_lost_node(basis: Basis) -> None:
    attempt = Attempt(scheduler="slurm", job="j", number=2)
    story = started().checkpoint().after(5_000).claims("node-b", basis, attempt=attempt)
    first, second = attempts(story.replayed().steps)
    assert (first.end, first.end_at) == ("lost", "")
    assert (second.end, second.ran) == ("", False)


def test_a_new_life_repeats_nothing() -> None:
    story = started().exits(3)
    story.happens(RenewAsked(reason="it had failed"))
    story.claims("node-b").after(500)
    story.happens(TaskExited(exit_code=3))
    first, second = attempts(story.replayed().steps)
    assert (first.end, second.end) == ("failed", "failed")
    assert second.repeats_ms == 0


def test_a_live_task_that_the_user_begins_anew() -> None:
    story = started()
    story.happens(RenewAsked(reason="fresh"))
    first, second = attempts(story.claims("node-b").replayed().steps)
    assert (first.end, first.end_at, second.end) == ("begun anew", "", "")


@pytest.mark.parametrize(
    ("start_ms", "end_ms", "bar"),
    [
        (0, 1, "#" + "." * 39),
        (0, 1_000, "#" * 40),
        (500, 525, "." * 20 + "#" + "." * 19),
        (999, 1_001, "." * 39 + ">"),
        (1_000, 2_000, "." * 39 + ">"),
        (500, None, "." * 20 + "?" + "." * 19),
        (-(10**15), 500, "#" * 20 + "." * 20),
        (-(10**15), -5, "#" + "." * 39),
    ],
)
def test_bars(start_ms: int, end_ms: int | None, bar: str) -> None:
    stage = Stage(name="dump", seq=1, start_ms=start_ms, end_ms=end_ms, result="")
    assert bar_of(stage, 1_000) == bar
    assert bar_of(stage, 0) == "." * 39 + ">"
