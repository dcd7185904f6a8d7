"""The view-model: each field, and each reason for attention, from fixed states at a fixed moment."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from fsnap.core.model import Config, Facts, State, TaskState
from fsnap.core.status import (
    Reason,
    Sample,
    Signs,
    TaskView,
    Whereabouts,
    duration,
    moment,
    sample_of_beat,
    sample_of_facts,
    seen_of,
    view_of,
)
from tests.unit.status.lab import FACTS, NOW, ago, pending, ref, signs, state

LIVE_STATES = [State.RUNNING, State.PREDUMPING, State.DUMPING, State.RESTORING, State.RESUMED]


def view(task: TaskState, seen_signs: Signs | None = None) -> TaskView:
    return view_of(seen_of(task), seen_signs or Signs(), NOW)


def test_the_plain_fields_are_those_of_the_journal() -> None:
    seen = seen_of(state(reclaims_survived=2, work_saved_ms=90_500, snapshots=(ref(),), note="why"))
    assert (seen.task, seen.state, seen.epoch, seen.node) == ("align", State.RUNNING, 2, "node-a")
    assert seen.since == NOW - timedelta(seconds=252)
    assert seen.command == "python3 train.py --rate '0.1 %'"
    assert (seen.reclaims_survived, seen.work_saved_ms, seen.note) == (2, 90_500, "why")
    assert seen.snapshot is not None
    assert (seen.snapshot.id, seen.snapshot.committed_at) == (ref().id, NOW - timedelta(seconds=60))


def test_what_is_not_known_is_none() -> None:
    seen = seen_of(TaskState(task="t"))
    assert (seen.node, seen.since, seen.command, seen.snapshot, seen.note) == (None,) * 5
    shown = view(TaskState(task="t"))
    assert (shown.window, shown.margin_s, shown.commit_s, shown.heartbeat_at) == (None,) * 4
    assert shown.attention == ()


def test_the_snapshot_is_the_newest_that_may_be_restored() -> None:
    names = [f"000001-000000000{n}" for n in range(1, 5)]
    snapshots = (ref(names[0]), ref(names[1]), ref(names[2]), ref(names[3], kind="files"))
    seen = seen_of(state(snapshots=snapshots, quarantined=(names[2],)))
    assert seen.snapshot is not None
    assert seen.snapshot.id == names[1]
    assert seen.snapshots is not None
    assert [one.id for one in seen.snapshots] == names[::-1]
    assert [one.quarantined for one in seen.snapshots] == [False, True, False, False]


@pytest.mark.parametrize("name", list(State))
@pytest.mark.parametrize("held", [True, False])
def test_who_is_live_and_who_waits(name: State, held: bool) -> None:
    seen = seen_of(state(name, held=held))
    assert seen.live is (name in LIVE_STATES and held)
    assert seen.waits is (name is State.UPLOADED or (name in LIVE_STATES and not held))


# -- window and margin


def test_a_window_without_a_wall_deadline_counts_from_when_it_was_seen() -> None:
    shown = view(state(standing=(pending(left_s=70),)))
    assert shown.window is not None
    assert (shown.window.deadline, shown.window.left_s) == (NOW + timedelta(seconds=70), 70)


def test_a_wall_deadline_is_taken_as_it_is() -> None:
    task = state(standing=(replace(pending(left_s=70, wall=True), window_ms=5),))
    shown = view(task)
    assert shown.window is not None
    assert shown.window.left_s == 70


def test_a_passed_deadline_stays_while_the_holder_lives() -> None:
    shown = view(state(standing=(pending(left_s=-3),)))
    assert shown.window is not None
    assert shown.window.left_s == -3


@pytest.mark.parametrize("task", [state(State.UPLOADED), state(held=False)])
def test_who_has_done_with_it_has_no_window_after_the_deadline(task: TaskState) -> None:
    assert view(replace(task, standing=(pending(left_s=3),))).window is not None
    assert view(replace(task, standing=(pending(left_s=-3),))).window is None


def test_a_broken_notice_is_no_window() -> None:
    broken = replace(pending(left_s=9), seen_at="soon", deadline_at="later")
    assert view(state(standing=(broken,))).window is None
    endless = replace(pending(left_s=9), window_ms=10**17)
    assert view(state(standing=(endless,))).window is None


@pytest.mark.parametrize(("provider", "window_s"), [("aws", 120), ("gcp", 30), ("file:/notice", 120)])
def test_without_a_notice_the_margin_is_of_the_window_to_expect(provider: str, window_s: int) -> None:
    shown = view(state(config=Config(provider=provider)), signs(commit_ms=9_000))
    assert (shown.commit_s, shown.budget_s, shown.margin_s) == (9, window_s, window_s - 9)


def test_with_a_notice_the_margin_is_of_the_time_left() -> None:
    shown = view(state(standing=(pending(left_s=25),)), signs(commit_ms=9_000))
    assert (shown.budget_s, shown.margin_s, shown.attention) == (25, 16, ())


def test_a_dump_under_way_has_done_a_part_of_its_commit() -> None:
    dumping = state(State.DUMPING, since=ago(5), standing=(pending(left_s=25),))
    assert view(dumping, signs(commit_ms=9_000)).margin_s == 25 - (9 - 5)
    late = state(State.DUMPING, since=ago(15), standing=(pending(left_s=25),))
    assert view(late, signs(commit_ms=9_000)).margin_s == 25


@pytest.mark.parametrize("name", [State.NEW, State.UPLOADED, State.RESTORING, State.COMPLETED, State.FAILED])
def test_no_margin_where_nothing_would_be_dumped(name: State) -> None:
    assert view(state(name), signs()).margin_s is None


def test_no_margin_after_the_holder_gave_up() -> None:
    assert view(state(held=False), signs()).margin_s is None


def test_no_margin_from_another_epoch_or_before_a_measurement() -> None:
    assert view(state(), signs(epoch=1)).margin_s is None
    assert view(state(), signs(commit_ms=None)).margin_s is None
    assert view(state(), Signs()).margin_s is None


def test_a_sample_of_an_unmeasured_tree_plans_nothing() -> None:
    assert sample_of_beat({"commit_ms": 1_000, "tree_bytes": 0}, 1).commit_ms is None
    assert sample_of_beat({}, 1) == Sample(epoch=1, commit_ms=None, unsupported=False)
    assert sample_of_beat({"commit_ms": 1_000, "tree_bytes": 1, "unsupported": 1}, 3) == Sample(
        epoch=3, commit_ms=1_000, unsupported=True
    )


def test_a_sample_of_a_record_plans_as_the_planner_does() -> None:
    assert sample_of_facts(FACTS, 2) == Sample(epoch=2, commit_ms=9_000, unsupported=False)
    assert sample_of_facts(Facts(), 2).commit_ms is None
    assert sample_of_facts(Facts(unsupported="io_uring"), 2).reason == "io_uring"


# -- attention


def only(shown: TaskView) -> tuple[Reason, str]:
    """The one reason, and its line."""
    assert len(shown.attention) == len(shown.warnings) == 1
    return shown.attention[0], shown.warnings[0]


def test_a_healthy_task_has_no_warnings() -> None:
    shown = view(state(snapshots=(ref(),)), signs())
    assert (shown.attention, shown.warnings) == ((), ())


def test_a_margin_of_nothing_is_healthy_and_less_is_not() -> None:
    assert view(state(), signs(commit_ms=120_000)).attention == ()
    reason, text = only(view(state(), signs(commit_ms=120_001)))
    assert reason is Reason.NEGATIVE_MARGIN
    assert "begins from nothing" in text


def test_a_negative_margin_says_what_is_lost() -> None:
    shown = view(state(snapshots=(ref(),)), signs(commit_ms=150_000))
    assert shown.margin_s == -30
    reason, text = only(shown)
    assert reason is Reason.NEGATIVE_MARGIN
    assert "a commit takes 2m30s, and the window to expect is 2m00s" in text
    assert f"resumes from snapshot {ref().id}, 1m00s old" in text


def test_a_negative_margin_within_a_window() -> None:
    _, text = only(view(state(standing=(pending(left_s=4),)), signs(commit_ms=9_000)))
    assert "a commit takes 9s, and 4s of the window are left" in text
    _, text = only(view(state(standing=(pending(left_s=-4),)), signs(commit_ms=9_000)))
    assert "0s of the window are left" in text


def test_a_heartbeat_past_its_lease() -> None:
    assert view(state(), signs(beat_s=120)).attention == ()
    reason, text = only(view(state(), signs(beat_s=121)))
    assert reason is Reason.HEARTBEAT
    assert "no heartbeat for 2m01s, and its lease is 2m00s" in text


def test_a_capsule_that_outlived_its_agent_is_taken_over() -> None:
    reason, text = only(view(state(), signs(beat_s=121, whereabouts=Whereabouts.HERE)))
    assert reason is Reason.HEARTBEAT
    assert "its capsule is alive here" in text
    assert "begins from nothing" not in text


def test_a_holder_without_any_heartbeat_is_timed_from_its_last_record() -> None:
    reason, text = only(view(state(), signs(beat_s=None)))
    assert reason is Reason.HEARTBEAT
    assert "no heartbeat for 4m12s, none yet in this epoch" in text
    assert view(state(since=ago(30)), signs(beat_s=None)).attention == ()


def test_a_heartbeat_of_an_earlier_epoch_is_none() -> None:
    shown = view(state(), replace(signs(beat_s=1), heartbeat_epoch=1))
    assert shown.heartbeat_at is None
    assert shown.attention == (Reason.HEARTBEAT,)


def test_a_heartbeat_of_a_later_epoch_shows_that_the_journal_was_read_too_soon() -> None:
    shown = view(state(), replace(signs(beat_s=1), heartbeat_epoch=3))
    assert (shown.heartbeat_at, shown.attention) == (None, ())


def test_a_heartbeat_that_was_not_looked_for_is_not_missed() -> None:
    assert view(state(), Signs()).attention == ()


def test_a_clock_that_is_ahead_is_no_alarm() -> None:
    assert view(state(), signs(beat_s=-500)).attention == ()


@pytest.mark.parametrize("task", [state(held=False), state(State.UPLOADED), state(State.COMPLETED)])
def test_nobody_waits_for_the_heartbeat_of_who_is_done(task: TaskState) -> None:
    assert view(task, signs(beat_s=9_999)).attention == ()


def test_without_a_lease_silence_is_a_remark() -> None:
    task = state(config=Config(provider="aws", lease_ms=0))
    shown = view(task, signs(beat_s=300))
    assert shown.attention == ()
    assert "no heartbeat for 5m00s" in shown.warnings[0]
    assert view(task, signs(beat_s=60)).warnings == ()


def test_a_quarantined_snapshot() -> None:
    bad = ref("000001-0000000009")
    reason, text = only(view(state(snapshots=(ref(), bad), quarantined=(bad.id,)), signs()))
    assert reason is Reason.QUARANTINED
    assert bad.id in text
    assert f"a restore takes {ref().id}" in text
    _, text = only(view(state(snapshots=(bad,), quarantined=(bad.id,)), signs()))
    assert "none is left to restore" in text


def test_an_ended_task_has_no_use_for_its_snapshots() -> None:
    assert view(state(State.COMPLETED, snapshots=(ref(),), quarantined=(ref().id,))).attention == ()


def test_an_unprotected_task() -> None:
    shown = view(state(), signs(unsupported=True, reason="it uses io_uring"))
    reason, text = only(shown)
    assert reason is Reason.UNPROTECTED
    assert "it uses io_uring" in text
    assert shown.margin_s is None
    _, text = only(view(state(), signs(unsupported=True)))
    assert "log" in text


def test_what_an_earlier_holder_could_not_do_does_not_count() -> None:
    assert view(state(), signs(unsupported=True, epoch=1, beat_s=None)).attention == (Reason.HEARTBEAT,)
    assert view(state(held=False), signs(unsupported=True)).attention == ()


def test_a_capsule_that_is_gone_is_one_reason_and_not_two() -> None:
    reason, text = only(view(state(snapshots=(ref(),)), signs(beat_s=900, whereabouts=Whereabouts.GONE)))
    assert reason is Reason.HOLDER_GONE
    assert "Start the same command again" in text


def test_between_two_tries_of_a_restore_there_is_no_capsule() -> None:
    assert view(state(State.RESTORING), signs(whereabouts=Whereabouts.GONE)).attention == ()


def test_a_holder_elsewhere_is_a_remark_where_its_heartbeat_can_not_be_seen() -> None:
    blind = Signs(whereabouts=Whereabouts.ELSEWHERE)
    shown = view(state(), blind)
    assert shown.attention == ()
    assert "--store" in shown.warnings[0]
    assert view(state(), signs(whereabouts=Whereabouts.ELSEWHERE)).warnings == ()


def test_several_reasons_are_all_told() -> None:
    bad = ref("000001-0000000009")
    task = state(snapshots=(bad,), quarantined=(bad.id,))
    shown = view(task, signs(beat_s=500, commit_ms=200_000))
    assert shown.attention == (Reason.HEARTBEAT, Reason.NEGATIVE_MARGIN, Reason.QUARANTINED)
    assert len(shown.warnings) == 3


# -- words


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.04, "0s"),
        (4.25, "4.2s"),
        (9.94, "9.9s"),
        (9.95, "10s"),
        (59.4, "59s"),
        (59.5, "1m00s"),
        (252, "4m12s"),
        (3_599.6, "1h00m"),
        (11_100, "3h05m"),
        (86_399.9, "1d00h"),
        (187_200, "2d04h"),
        (-12, "-12s"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    "text", ["", None, "soon", "2026-11-21T22:30:00", "2026-11-21", "0001-01-01T00:00:00+23:00"]
)
def test_what_is_no_moment(text: Any) -> None:
    assert moment(text) is None


def test_a_moment_is_told_in_utc() -> None:
    assert moment("2026-11-22T00:30:00.000+02:00") == NOW
