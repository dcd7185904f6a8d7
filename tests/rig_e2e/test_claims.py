"""Who may run the task's one copy, when several nodes want to."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.rig_e2e.beats import Beats, states
from tests.rig_e2e.bucket import audit, triggers
from tests.rig_e2e.cloud import CHECKPOINTED, FENCED, Attempt, Cloud, Reference, assert_same

pytestmark = pytest.mark.criu

MakeReference = Callable[..., Reference]


def winner(attempts: list[Attempt]) -> Attempt:
    """The only one that does not end with 178."""
    left = list(attempts)
    end = time.monotonic() + 60
    while len(left) > 1 and time.monotonic() < end:
        left = [attempt for attempt in left if attempt.process.poll() is None]
        time.sleep(0.05)
    assert len(left) == 1
    for attempt in attempts:
        if attempt is not left[0]:
            attempt.finish(FENCED)
            assert not attempt.stdout.data
            attempt.machine.assert_idle()
    return left[0]


def test_of_three_nodes_that_begin_at_once_one_does(
    cloud: Cloud, beats: Beats, reference: MakeReference
) -> None:
    """And of three that go on at once as well."""
    cloud.env |= {"STEPS": "80", **beats.env}
    machines = [cloud.machine() for _ in range(3)]
    first = winner([machine.run() for machine in machines])
    first.wait_steps(4)
    first.machine.give_notice(30, deadly=False)
    first.finish(CHECKPOINTED)
    second = winner([machine.run() for machine in machines])
    second.finish(0)
    assert_same(cloud, second.machine, reference(STEPS="80"))
    assert triggers(audit(cloud)).count("claim") == 1
    if first.machine is not second.machine:
        beats.assert_apart(first.machine, second.machine)


def test_a_stopped_agent_keeps_nothing_running(
    cloud: Cloud, beats: Beats, shared: Path, reference: MakeReference
) -> None:
    """Its init stops the tree by itself, and once the agent wakes up the tree is killed."""
    cloud.env |= {"STEPS": "80", **beats.env}
    out = ("--stdout", str(shared / "out.txt"), "--lease", "4", "--interval", "1", "--provider", "none")
    old = cloud.machine(metadata=False)
    first = old.run(*out)
    first.wait_trace(15)
    first.process.send_signal(signal.SIGSTOP)
    new = cloud.machine(metadata=False)
    new.run(*out).finish(FENCED)
    second = new.run(*out, "--wait", "30")
    second.wait("progress", lambda: bool(beats.of(new)))
    beats.assert_apart(old, new)
    assert states(old) == {"T"}
    os.kill(first.process.pid, signal.SIGCONT)  # nsenter, which stopped and goes on with what it entered for
    first.finish(FENCED)
    old.assert_idle()
    second.finish(0)
    beats.assert_apart(old, new)
    assert (shared / "out.txt").read_bytes() == reference(STEPS="80").stdout
    audit(cloud)
