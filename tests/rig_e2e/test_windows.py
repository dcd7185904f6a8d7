"""Notices that leave too little time, and nodes that die while a dump is on its way."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.faulty_proxy import FaultyProxy
from tests.rig_e2e.bucket import audit, journal, triggers
from tests.rig_e2e.cloud import (
    JOB,
    RECLAIMED,
    Cloud,
    Machine,
    Reference,
    assert_same_files,
    batch,
)

pytestmark = pytest.mark.criu

MakeReference = Callable[..., Reference]
OUT = ("--stdout", "/srv/out.txt", "--stderr", "/srv/err.txt")


def assert_exact(last: Machine, expected: Reference) -> None:
    """Files and output on the last node."""
    assert last.path("/srv/out.txt").read_bytes() == expected.stdout
    assert last.path("/srv/err.txt").read_bytes() == expected.stderr
    assert_same_files(last, expected)


@pytest.mark.parametrize("ballast_mib", [0, pytest.param(400, marks=pytest.mark.slow)])
def test_nothing_was_saved_before(
    braked: Cloud, brake: FaultyProxy, reference: MakeReference, ballast_mib: int
) -> None:
    """The next attempt starts from nothing: what the dead node left in the bucket is no snapshot."""
    braked.task = JOB
    braked.env["BALLAST_MIB"] = str(ballast_mib)
    machine = braked.machine()
    attempt = machine.run(*OUT, "--interval", "off", env=batch(1))
    attempt.wait_trace(5)
    brake.delay_s = 0.0 if ballast_mib else 3.0
    machine.give_notice(1)
    machine.wait_gone()
    attempt.finish()
    assert "dumping: " in attempt.log
    assert "commit" not in triggers(journal(braked))
    brake.delay_s = 0.0
    machine = braked.machine()
    machine.run(*OUT, env=batch(2)).finish(0)
    assert_exact(machine, reference(BALLAST_MIB=str(ballast_mib)))
    assert "claim_bare" in triggers(audit(braked))


def test_a_checkpoint_was_saved_before(braked: Cloud, brake: FaultyProxy, reference: MakeReference) -> None:
    """The next attempt goes on from it."""
    braked.task = JOB
    machine = braked.machine()
    attempt = machine.run(*OUT, "--interval", "1", env=batch(1))
    attempt.wait_trace(5)
    attempt.wait("a checkpoint", lambda: "checkpointed" in triggers(journal(braked)))
    brake.delay_s = 3.0
    machine.give_notice(1)
    machine.wait_gone()
    attempt.finish()
    brake.delay_s = 0.0
    machine = braked.machine()
    machine.run(*OUT, "--interval", "1", env=batch(2)).finish(0)
    assert_exact(machine, reference())
    assert triggers(audit(braked)).count("restored") == 1
    assert braked.status()["reclaims_survived"] == 1


@pytest.mark.parametrize("checkpoints", [0, 1])
def test_no_dump_is_tried_that_cannot_fit(cloud: Cloud, reference: MakeReference, checkpoints: int) -> None:
    """``run`` ends with 175 at the deadline and says from where a retry goes on; that may begin at once."""
    machine = cloud.machine()
    attempt = machine.run(*OUT, "--interval", "1" if checkpoints else "off")
    attempt.wait_trace(5)
    attempt.wait("a checkpoint", lambda: triggers(journal(cloud)).count("checkpointed") >= checkpoints)
    if not checkpoints:  # nothing was measured, so that a dump would be tried as long as any time is left
        machine.service.tell("fault", "--answer", "503", "--only", "/latest/meta-data/spot")
    deadline = machine.give_notice(0, deadly=False)
    time.sleep(max(0.0, deadline - time.monotonic()))
    machine.service.tell("fault", "--clear")
    attempt.finish(RECLAIMED)
    machine.assert_idle()
    expected = "a retry resumes from snapshot 000001-" if checkpoints else "a retry starts from nothing"
    assert expected in attempt.log.splitlines()[-1]
    machine.node.destroy()
    machine = cloud.machine()
    machine.run(*OUT).finish(0)
    assert_exact(machine, reference())
    assert triggers(audit(cloud)).count("restored") == checkpoints


def test_a_dump_that_is_late_ends_at_the_deadline(
    braked: Cloud, brake: FaultyProxy, reference: MakeReference
) -> None:
    """Nothing is claimed to be saved, and the next attempt's output is exact."""
    machine = braked.machine()
    attempt = machine.run(*OUT, "--interval", "off")
    attempt.wait_trace(5)
    brake.delay_s = 1.0
    machine.give_notice(1, deadly=False)
    attempt.finish(RECLAIMED)
    brake.delay_s = 0.0
    machine.node.destroy()
    machine = braked.machine()
    machine.run(*OUT).finish(0)
    assert_exact(machine, reference())
    audit(braked)
