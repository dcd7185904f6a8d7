"""Nodes that die without a word, at any moment: what the last one leaves is exact."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.harness import assert_same_bytes
from tests.rig_e2e.bucket import audit
from tests.rig_e2e.cloud import JOB, Cloud, Reference, assert_same_files, batch

pytestmark = pytest.mark.criu

MakeReference = Callable[..., Reference]
DEATHS = 3


def live_through(cloud: Cloud, shared: Path, expected: Reference, seed: int) -> None:
    """Some deaths, each within the first five seconds of an attempt, then an undisturbed one."""
    dice = random.Random(seed)
    cloud.task = JOB
    out = ("--stdout", str(shared / "out.txt"), "--stderr", str(shared / "err.txt"), "--interval", "1")
    for number in range(1, DEATHS + 1):
        machine = cloud.machine()
        attempt = machine.run(*out, env=batch(number))
        time.sleep(dice.uniform(0.3, 5.0))
        machine.node.destroy()
        attempt.finish()
    machine = cloud.machine()
    machine.run(*out, env=batch(DEATHS + 1)).finish(0)
    machine.assert_idle()
    assert_same_bytes((shared / "out.txt").read_bytes(), expected.stdout, "stdout")
    assert_same_bytes((shared / "err.txt").read_bytes(), expected.stderr, "stderr")
    assert_same_files(machine, expected)
    audit(cloud)


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_deaths_at_any_moment(cloud: Cloud, shared: Path, reference: MakeReference, seed: int) -> None:
    live_through(cloud, shared, reference(), seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3, 13))
def test_more_deaths(cloud: Cloud, shared: Path, reference: MakeReference, seed: int) -> None:
    cloud.env["STEPS"] = "80"
    live_through(cloud, shared, reference(STEPS="80"), seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(13, 17))
def test_more_deaths_with_a_shared_directory(
    file_cloud: Cloud, shared: Path, reference: MakeReference, seed: int
) -> None:
    live_through(file_cloud, shared, reference(), seed)
