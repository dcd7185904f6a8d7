"""When the recorded init is known to be dead, and what a refused claimant is told."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest

from fsnap.agent import claiming
from fsnap.agent.claiming import Claimant, holder_gone
from fsnap.capsule import identity
from fsnap.clock import SystemClock
from fsnap.core.model import Attempt, Basis, Config, Holder, State, TaskState
from fsnap.errors import NotOurs
from fsnap.stores.memory import MemoryStore


@pytest.fixture
def alive() -> Holder:
    """This very process as a holder."""
    start = identity.start_ticks(os.getpid())
    assert start is not None
    return Holder(
        node="here",
        instance="i-1",
        boot_id=identity.boot_id(),
        pid_ns=identity.pid_namespace(),
        init_pid=os.getpid(),
        init_start=start,
    )


def gone(holder: Holder | None, *, instance: str = "", made_here: bool = False) -> bool:
    return holder_gone(holder, instance=instance, made_here=made_here)


def test_nobody_is_not_dead() -> None:
    assert not gone(None, instance="i-1", made_here=True)


def test_a_living_init(alive: Holder) -> None:
    assert not gone(alive)
    assert not gone(alive, instance="i-1", made_here=True)


def test_its_number_was_taken_by_another_process(alive: Holder) -> None:
    assert gone(replace(alive, init_start=alive.init_start - 1))


def test_no_such_process(alive: Holder) -> None:
    assert gone(replace(alive, init_pid=2**22 + 1))


def test_another_pid_namespace_of_this_boot_is_not_known(alive: Holder) -> None:
    elsewhere = replace(alive, pid_ns="pid:[1]", init_pid=2**22 + 1)
    assert not gone(elsewhere)
    assert not gone(elsewhere, instance="i-1", made_here=True)


def test_another_boot(alive: Holder) -> None:
    before = replace(alive, boot_id="another")
    assert not gone(before)
    assert not gone(before, instance="i-2")
    assert gone(before, instance="i-1")
    assert gone(before, made_here=True)


def test_two_machines_without_an_instance_id_are_not_one(alive: Holder) -> None:
    assert not gone(replace(alive, boot_id="another", instance=""), instance="")


class FakeLedger:
    """Always the same state."""

    def __init__(self, state: TaskState) -> None:
        self.state = state

    def pull(self) -> TaskState:
        return self.state


class SteppingClock(SystemClock):
    """Sleeping takes no time."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def mono_s(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


LIVE = TaskState(
    task="T",
    state=State.RUNNING,
    seq=1,
    epoch=1,
    held=True,
    attempt=Attempt(scheduler="manual", job="T", number=2),
    holder=Holder(node="node-a", instance="", boot_id="b", pid_ns="p", init_pid=9, init_start=9),
    config=Config(lease_ms=10_000),
)


def claimant(state: TaskState, *, attempt: int | None = None, wait_s: float = 0.0) -> Claimant:
    fake: Any = FakeLedger(state)
    return Claimant(
        ledger=fake,
        store=MemoryStore(),
        task="T",
        attempt=None if attempt is None else Attempt(scheduler="manual", job="T", number=attempt),
        instance="",
        made_here=lambda holder: False,
        wait_s=wait_s,
        clock=SteppingClock(),
    )


def test_a_live_task_is_refused_and_the_line_says_who_has_it() -> None:
    with pytest.raises(NotOurs, match="live in epoch 1 on node-a") as refusal:
        claimant(LIVE).wait(lambda: False)
    assert "--wait 20" in refusal.value.hint


@pytest.mark.parametrize("number", [1, 2])
def test_an_attempt_that_is_no_later_is_told_so(number: int) -> None:
    with pytest.raises(NotOurs) as refusal:
        claimant(LIVE, attempt=number).wait(lambda: False)
    assert refusal.value.hint == f"This is attempt {number}, and attempt 2 has it."


def test_without_a_lease_waiting_is_not_advised() -> None:
    with pytest.raises(NotOurs) as refusal:
        claimant(replace(LIVE, config=Config(lease_ms=0))).wait(lambda: False)
    assert "--wait" not in refusal.value.hint
    assert "--attempt" in refusal.value.hint


def test_a_later_attempt_need_not_wait() -> None:
    assert claimant(LIVE, attempt=3).wait(lambda: False).basis is Basis.LATER_ATTEMPT


def test_the_lease_is_timed_on_the_claimants_own_clock() -> None:
    patient = claimant(LIVE, wait_s=30.0)
    assert patient.wait(lambda: False).basis is Basis.LEASE_EXPIRED
    assert patient._clock.mono_s() - 1000.0 >= 10.0


def test_a_wait_shorter_than_the_lease_is_in_vain() -> None:
    with pytest.raises(NotOurs):
        claimant(LIVE, wait_s=5.0).wait(lambda: False)


def test_a_notice_ends_the_wait() -> None:
    calls = iter([False, False, True])
    with pytest.raises(NotOurs):
        claimant(LIVE, wait_s=1000.0).wait(lambda: next(calls))


def test_the_poll_is_no_busy_loop() -> None:
    assert claiming.LOOK_S >= 0.5
