"""Who may claim, as a table: state, hold, attempt, holder, heartbeat."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fsnap.core.claim import Sight, judge
from fsnap.core.model import LIVE, TERMINAL, Attempt, Basis, Config, State
from tests.unit.core.support import AWS, SLURM, held

LEASE_MS = Config().lease_ms
NOTHING_KNOWN = Sight(attempt=None)


def later(attempt: Attempt, by: int = 1) -> Attempt:
    return replace(attempt, number=attempt.number + by)


def test_what_nobody_has_is_claimed_at_once() -> None:
    assert judge(held(State.NEW), NOTHING_KNOWN).basis is Basis.NEW
    assert judge(held(State.UPLOADED), NOTHING_KNOWN).basis is Basis.UPLOADED


@pytest.mark.parametrize("state", sorted(LIVE))
def test_what_its_holder_gave_up_is_claimed_at_once(state: State) -> None:
    assert judge(replace(held(state), held=False), NOTHING_KNOWN).basis is Basis.GAVE_UP


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_what_has_ended_is_not_claimed(state: State) -> None:
    with pytest.raises(ValueError, match="terminal"):
        judge(held(state), NOTHING_KNOWN)


@pytest.mark.parametrize("state", sorted(LIVE))
@pytest.mark.parametrize(
    ("sight", "basis"),
    [
        (NOTHING_KNOWN, None),
        (Sight(attempt=None, holder_gone=True), Basis.HOLDER_GONE),
        (Sight(attempt=later(SLURM)), Basis.LATER_ATTEMPT),
        (Sight(attempt=later(SLURM, 5)), Basis.LATER_ATTEMPT),
        (Sight(attempt=SLURM), None),
        (Sight(attempt=later(SLURM, -1)), None),
        (Sight(attempt=later(AWS)), None),
        (Sight(attempt=replace(later(SLURM), job="another")), None),
        (Sight(attempt=None, heartbeat_still_ms=LEASE_MS), Basis.LEASE_EXPIRED),
        (Sight(attempt=None, heartbeat_still_ms=LEASE_MS - 1), None),
        (Sight(attempt=SLURM, heartbeat_still_ms=LEASE_MS), Basis.LEASE_EXPIRED),
        (
            Sight(attempt=later(SLURM), holder_gone=True, heartbeat_still_ms=LEASE_MS),
            Basis.HOLDER_GONE,
        ),
        (Sight(attempt=later(SLURM), heartbeat_still_ms=LEASE_MS), Basis.LATER_ATTEMPT),
    ],
)
def test_what_is_live_is_claimed_for_a_reason(state: State, sight: Sight, basis: Basis | None) -> None:
    verdict = judge(held(state), sight)
    assert verdict.basis is basis
    assert verdict.reason


def test_a_holder_without_an_attempt_is_not_superseded_by_a_number() -> None:
    state = replace(held(State.RUNNING), attempt=None)
    assert judge(state, Sight(attempt=later(SLURM, 9))).basis is None


def test_a_refusal_says_who_has_it_and_how_long_to_wait() -> None:
    verdict = judge(held(State.RUNNING), Sight(attempt=None, heartbeat_still_ms=20_000))
    assert verdict.wait_ms == LEASE_MS - 20_000
    assert "epoch 2 on node-a (init 900)" in verdict.reason
    unknown = judge(replace(held(State.RUNNING), holder=None), NOTHING_KNOWN)
    assert "unknown node" in unknown.reason


def test_without_a_lease_silence_proves_nothing() -> None:
    state = held(State.RUNNING, config=Config(lease_ms=0))
    verdict = judge(state, Sight(attempt=None, heartbeat_still_ms=10**9))
    assert (verdict.basis, verdict.wait_ms) == (None, None)


def test_the_holders_recorded_lease_counts() -> None:
    state = held(State.RUNNING, config=Config(lease_ms=5_000))
    assert judge(state, Sight(attempt=None, heartbeat_still_ms=5_000)).basis is Basis.LEASE_EXPIRED


@pytest.mark.parametrize(
    ("scheduler", "proof"), [("aws-batch", True), ("google-batch", True), ("slurm", False), ("flag", False)]
)
def test_who_proves_that_the_earlier_attempt_is_over(scheduler: str, proof: bool) -> None:
    assert Attempt(scheduler=scheduler, job="j", number=2).proves_end is proof
