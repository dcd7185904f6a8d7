"""What a capture says of the next one: its fixed costs are no bandwidth."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from fsnap.agent.capsules import Capsules
from fsnap.agent.runtime import FactBook, RunClock, Watch
from fsnap.clock import SystemClock
from fsnap.core.budget import plan_evacuation

MIB = 1 << 20


def book() -> FactBook:
    clock = SystemClock()
    return FactBook(clock=clock, run_clock=RunClock(clock), watch=Watch(cast(Capsules, Path())))


def test_a_small_capture_says_little_of_a_big_one() -> None:
    """13 MiB in most of a second, round trips above all: 4 GiB still fit two minutes."""
    facts = book()
    facts.measured(13 * MIB, took_ms=800, freeze_ms=100)
    rate = facts.facts().commit_bps
    assert rate is not None and rate > 100 * MIB


def test_a_slow_link_is_slow() -> None:
    """What took much longer than the fixed costs is counted almost in full."""
    facts = book()
    facts.measured(100 * MIB, took_ms=101_000, freeze_ms=100)
    rate = facts.facts().commit_bps
    assert rate is not None and rate <= MIB


def test_the_plan_for_the_same_tree_takes_no_less_than_it_took() -> None:
    facts = book()
    for took_ms in (200, 900, 1_100, 3_000, 60_000):
        facts.measured(500 * MIB, took_ms=took_ms, freeze_ms=100)
    now = facts.facts()
    rate = now.commit_bps
    assert rate is not None
    assert now.fixed_ms + 500 * MIB * 1000 // rate >= 60_000
    assert plan_evacuation(now, 10_000).measured
