"""Lives with notices: dumps, refusals, false alarms."""

from __future__ import annotations

from dataclasses import replace

from fsnap.core.budget import DUMPS_PER_NOTICE
from fsnap.core.effects import (
    Dump,
    Exit,
    Hold,
    Kill,
    Predump,
    Resume,
    Rollback,
)
from fsnap.core.events import (
    CheckpointAsked,
    DumpFailed,
    NoticeCancelled,
    TaskExited,
    Tick,
)
from fsnap.core.fold import NOTICES_KEPT
from fsnap.core.model import Basis, Facts, State
from fsnap.core.planner import HOLD_GRACE_MS
from tests.unit.core.support import (
    AT,
    HOLD,
    NOTICE,
    claim,
    evacuated,
    saved,
    started,
)


def test_the_same_notice_counts_once() -> None:
    life = started()
    life.happens(NOTICE)
    assert life.happens(NOTICE).trigger is None
    life.happens(claim(Basis.HOLDER_GONE), Facts(started=False))
    assert life.happens(NOTICE).trigger is None


def test_the_ids_of_notices_are_bounded() -> None:
    life = started()
    for number in range(NOTICES_KEPT + 5):
        life.happens(replace(NOTICE, notice_id=f"n{number}", window_ms=0))
    assert len(life.state.notices) == NOTICES_KEPT
    assert life.state.notices[-1] == f"n{NOTICES_KEPT + 4}"


def test_a_deadline_that_was_given_is_kept() -> None:
    life = started()
    life.happens(replace(NOTICE, deadline_at="2026-11-21T22:11:00Z"))
    assert life.state.pending is not None
    assert (life.state.pending.deadline_at, life.state.pending.seen_at) == ("2026-11-21T22:11:00Z", AT)


def test_a_notice_that_is_taken_back_rolls_the_dump_back() -> None:
    life = started()
    life.happens(NOTICE)
    assert life.happens(NoticeCancelled(notice_id="other")).trigger is None
    assert life.happens(NoticeCancelled(notice_id="n1")).effects == (Rollback(),)
    assert (life.state.state, life.state.pending) == (State.RUNNING, None)


def test_a_second_notice_stands_when_the_first_is_taken_back() -> None:
    life = started()
    life.happens(NOTICE)
    life.happens(replace(NOTICE, notice_id="n2"))
    life.happens(NoticeCancelled(notice_id="n1"))
    assert life.state.pending is not None and life.state.pending.notice_id == "n2"


def test_a_rebalance_only_saves() -> None:
    life = started()
    decision = life.happens(replace(NOTICE, action="rebalance", window_ms=0))
    assert isinstance(decision.effects[0], Predump)
    assert life.state.pending is None
    saved(life)
    assert life.happens(NOTICE).trigger is None, "it has the same id"


def test_a_dump_that_fails_is_tried_again_while_there_is_time() -> None:
    life = started()
    life.happens(NOTICE)
    for fails in range(1, DUMPS_PER_NOTICE):
        assert life.happens(DumpFailed(code="criu", message="no")).effects == ()
        again = life.happens(Tick(), Facts(left_ms=60_000, failed_dumps=fails))
        assert isinstance(again.effects[0], Dump)
    life.happens(DumpFailed(code="criu", message="no"))
    assert life.happens(Tick(), Facts(left_ms=60_000, failed_dumps=DUMPS_PER_NOTICE)).trigger is None
    end = life.happens(Tick(), Facts(left_ms=0, failed_dumps=DUMPS_PER_NOTICE))
    assert end.effects == (Kill(), Exit(exit_code=175, outcome="reclaimed"))
    assert "starts from nothing" in life.state.note
    assert (life.state.state, life.state.held, life.state.outcome) == (State.RUNNING, False, "reclaimed")


def test_a_dump_that_cannot_fit_is_not_tried_and_the_task_runs_to_the_deadline() -> None:
    life = started()
    life.happens(CheckpointAsked(reason="r"))
    name = saved(life)
    slow = Facts(tree_bytes=10**12, commit_bps=10**6)
    decision = life.happens(NOTICE, slow)
    assert (decision.trigger, decision.effects) == ("note", ())
    assert "ms of the 120000 ms left" in life.state.note
    assert life.happens(Tick(), replace(slow, left_ms=5_000)).trigger is None
    end = life.happens(Tick(), replace(slow, left_ms=-1))
    assert end.effects == (Kill(), Exit(exit_code=175, outcome="reclaimed"))
    assert f"resumes from snapshot {name}" in life.state.note


def test_a_false_notice_costs_nothing_where_the_gate_is_held() -> None:
    life = evacuated(HOLD)
    assert life.records[-1].effects == (Hold(),)
    assert life.happens(Tick(), Facts(left_ms=-HOLD_GRACE_MS)).trigger is None
    assert life.happens(Tick(), Facts(left_ms=-HOLD_GRACE_MS - 1)).effects == (Resume(),)
    assert (life.state.state, life.state.pending) == (State.RESUMED, None)
    assert life.happens(replace(NOTICE, notice_id="n2")).trigger == "dump"


def test_a_notice_taken_back_opens_a_held_gate() -> None:
    life = evacuated(HOLD)
    assert life.happens(NoticeCancelled(notice_id="n1")).effects == (Resume(),)
    life = evacuated()
    assert life.happens(NoticeCancelled(notice_id="n1")).effects == ()


def test_a_task_whose_gate_was_opened_again_can_end() -> None:
    life = evacuated(HOLD)
    life.happens(Tick(), Facts(left_ms=-HOLD_GRACE_MS - 1))
    assert life.happens(TaskExited(exit_code=0)).trigger == "finish"
