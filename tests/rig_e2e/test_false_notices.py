"""Notices that are taken back, or that no end of the node follows: a false one costs a pause."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.faulty_proxy import FaultyProxy
from tests.rig_e2e.bucket import audit, journal, triggers
from tests.rig_e2e.cloud import CHECKPOINTED, Cloud, Reference, assert_same

pytestmark = pytest.mark.criu

MakeReference = Callable[..., Reference]
HOLD = ("--after-commit", "hold", "--interval", "off")


def test_taken_back_after_the_commit(cloud: Cloud, reference: MakeReference) -> None:
    machine = cloud.machine()
    attempt = machine.run(*HOLD)
    attempt.wait_steps(4)
    machine.give_notice(10, deadly=False)
    attempt.wait_stderr("holds until the host goes")
    machine.service.tell("cancel")
    attempt.finish(0)
    machine.assert_idle()
    assert_same(cloud, machine, reference())
    assert triggers(audit(cloud)) == ["begin", "dump", "commit", "unhold", "finish", "complete"]
    state = cloud.status()
    assert (state["epoch"], state["reclaims_survived"]) == (1, 0)


@pytest.mark.parametrize("after_commit", ["hold", pytest.param("exit", marks=pytest.mark.slow)])
def test_taken_back_during_the_dump(
    braked: Cloud, brake: FaultyProxy, reference: MakeReference, after_commit: str
) -> None:
    machine = braked.machine()
    attempt = machine.run("--after-commit", after_commit, "--interval", "off")
    attempt.wait_steps(4)
    brake.delay_s = 2.0
    machine.give_notice(60, deadly=False)
    attempt.wait("the dump", lambda: "dump" in triggers(journal(braked)))
    machine.service.tell("cancel")
    attempt.wait("the end of it", lambda: "rollback" in triggers(journal(braked)))
    brake.delay_s = 0.0
    attempt.finish(0)
    assert_same(braked, machine, reference())
    assert triggers(audit(braked)) == ["begin", "dump", "rollback", "finish", "complete"]


def test_the_one_after_a_false_one_counts(cloud: Cloud, reference: MakeReference) -> None:
    first = cloud.machine()
    attempt = first.run("--after-commit", "hold")
    attempt.wait_steps(4)
    first.give_notice(30, deadly=False)
    attempt.wait_stderr("holds until the host goes")
    first.service.tell("cancel")
    printed = attempt.stdout.data.count(b"step ")
    attempt.wait_steps(printed + 4)
    first.give_notice(8)
    attempt.wait("the second commit", lambda: triggers(journal(cloud)).count("commit") == 2)
    first.wait_gone()
    attempt.finish()
    second = cloud.machine()
    second.run().finish(0)
    assert_same(cloud, second, reference())
    audit(cloud)


@pytest.mark.slow
def test_the_deadline_passes_and_nobody_comes(cloud: Cloud, reference: MakeReference) -> None:
    """The task goes on by itself, half a minute after the deadline."""
    machine = cloud.machine()
    attempt = machine.run(*HOLD)
    attempt.wait_steps(4)
    machine.give_notice(4, deadly=False)
    attempt.wait_stderr("holds until the host goes")
    attempt.finish(0)
    assert_same(cloud, machine, reference())
    assert triggers(audit(cloud)) == ["begin", "dump", "commit", "unhold", "finish", "complete"]


def test_sigterm_is_a_notice_that_leaves_little_time(cloud: Cloud, reference: MakeReference) -> None:
    """As where a container is stopped, and nothing else is said."""
    first = cloud.machine(metadata=False)
    attempt = first.run("--provider", "none", "--term-window", "10")
    attempt.wait_steps(4)
    attempt.process.terminate()
    attempt.finish(CHECKPOINTED)
    first.node.destroy()
    second = cloud.machine(metadata=False)
    second.run("--provider", "none").finish(0)
    assert_same(cloud, second, reference())
