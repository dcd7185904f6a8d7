"""Deadline arithmetic, in integers."""

from __future__ import annotations

import pytest

from fsnap.core.budget import (
    ASSUMED_COMMIT_BPS,
    OTHER_WINDOW_MS,
    assumed_window_ms,
    interval_ms,
    plan_evacuation,
)
from fsnap.core.model import Config, Facts

GIB = 1024**3


@pytest.mark.parametrize(
    ("facts", "left_ms", "commit_ms", "go"),
    [
        (Facts(tree_bytes=GIB, commit_bps=GIB // 10, fixed_ms=500), 20_000, 10_500, True),
        (Facts(tree_bytes=GIB, commit_bps=GIB // 10, fixed_ms=500), 10_500, 10_500, True),
        (Facts(tree_bytes=GIB, commit_bps=GIB // 10, fixed_ms=500), 10_499, 10_500, False),
        (
            Facts(tree_bytes=GIB // 2, files_bytes=GIB // 2, commit_bps=GIB // 10, fixed_ms=0),
            1,
            10_000,
            False,
        ),
        (Facts(tree_bytes=10 * GIB, fixed_ms=0), 1, 10 * GIB * 1000 // ASSUMED_COMMIT_BPS, True),
        (Facts(fixed_ms=0, commit_bps=1), 0, 0, False),
        (Facts(fixed_ms=0), -5, 0, False),
    ],
)
def test_a_dump_is_tried_unless_a_measured_rate_says_no(
    facts: Facts, left_ms: int, commit_ms: int, go: bool
) -> None:
    plan = plan_evacuation(facts, left_ms)
    assert abs(plan.commit_ms - commit_ms) <= 1
    assert plan.margin_ms == left_ms - plan.commit_ms
    assert plan.go is go


def test_windows_that_are_assumed() -> None:
    assert assumed_window_ms("aws") == 120_000
    assert assumed_window_ms("gcp") == assumed_window_ms("azure") == 30_000
    assert assumed_window_ms("none") == 25_000
    assert assumed_window_ms("file:/run/notice") == OTHER_WINDOW_MS


def test_the_interval_keeps_the_slowdown_under_its_cap() -> None:
    assert interval_ms(Config(interval_ms=7_000), Facts(last_freeze_ms=10**6)) == 7_000
    assert interval_ms(Config(), Facts(last_freeze_ms=100)) == 300_000
    stretched = interval_ms(Config(max_overhead_permille=20), Facts(last_freeze_ms=30_000))
    assert 30_000 * 1000 <= 20 * stretched
    assert interval_ms(Config(max_overhead_permille=0), Facts(last_freeze_ms=1_000)) == 1_000_000
