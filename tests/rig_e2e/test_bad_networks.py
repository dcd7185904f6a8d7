"""A bucket behind a network that fails a third of the requests: nothing is claimed that is not there."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.harness import assert_same_bytes
from tests.faulty_proxy import Fault, FaultyProxy
from tests.rig_e2e.bucket import Watcher, audit, triggers
from tests.rig_e2e.cloud import (
    CHECKPOINTED,
    JOB,
    Cloud,
    Reference,
    assert_same,
    assert_same_files,
    batch,
)
from tests.rig_e2e.roads import s3_cloud, serving
from tests.servers import S3Server
from tools.rig import Rig

pytestmark = pytest.mark.criu

MakeReference = Callable[..., Reference]
WEATHER = {
    Fault.DELAYED: 0.05,
    Fault.BUSY: 0.1,
    Fault.FAILED: 0.1,
    Fault.REFUSED: 0.04,
    Fault.DEAF: 0.04,
    Fault.LATE: 0.03,
    Fault.CUT: 0.03,
}


def hand_on(cloud: Cloud, proxy: FaultyProxy, expected: Reference) -> None:
    """Reclaimed twice, with periodic checkpoints as well, while the bucket is watched."""
    with Watcher(cloud):
        for _ in range(2):
            machine = cloud.machine()
            attempt = machine.run("--interval", "1")
            attempt.wait_steps(4)
            machine.give_notice(60, deadly=False)
            attempt.finish(CHECKPOINTED)
            machine.node.destroy()
        machine = cloud.machine()
        machine.run("--interval", "1").finish(0)
    assert_same(cloud, machine, expected)
    records = audit(cloud)
    assert triggers(records).count("restored") == 2
    assert cloud.status()["reclaims_survived"] == 2
    faults = sum(count for name, count in proxy.done.items() if name != "clean")
    assert faults > proxy.done["clean"] / 4


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_two_reclaims(
    rig: Rig, s3: S3Server, monkeypatch: pytest.MonkeyPatch, reference: MakeReference, seed: int
) -> None:
    proxy = FaultyProxy(s3.endpoint, WEATHER, seed=seed)
    with serving(proxy) as port:
        hand_on(s3_cloud(rig, s3, monkeypatch, port=port), proxy, reference())


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3, 11))
def test_more_reclaims(
    rig: Rig, s3: S3Server, monkeypatch: pytest.MonkeyPatch, reference: MakeReference, seed: int
) -> None:
    proxy = FaultyProxy(s3.endpoint, WEATHER, seed=seed)
    with serving(proxy) as port:
        hand_on(s3_cloud(rig, s3, monkeypatch, port=port), proxy, reference())


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_deaths_too(
    rig: Rig,
    s3: S3Server,
    shared: Path,
    monkeypatch: pytest.MonkeyPatch,
    reference: MakeReference,
    seed: int,
) -> None:
    """And the nodes die without a word."""
    dice = random.Random(seed)
    proxy = FaultyProxy(s3.endpoint, WEATHER, seed=seed)
    out = ("--stdout", str(shared / "out.txt"), "--stderr", str(shared / "err.txt"), "--interval", "1")
    with serving(proxy) as port:
        cloud = s3_cloud(rig, s3, monkeypatch, port=port)
        cloud.task = JOB
        for number in range(1, 4):
            machine = cloud.machine()
            attempt = machine.run(*out, env=batch(number))
            time.sleep(dice.uniform(1.0, 7.0))
            machine.node.destroy()
            attempt.finish()
        machine = cloud.machine()
        machine.run(*out, env=batch(4)).finish(0)
        expected = reference()
        assert_same_bytes((shared / "out.txt").read_bytes(), expected.stdout, "stdout")
        assert_same_files(machine, expected)
        audit(cloud)


def test_the_bucket_is_away_for_a_while(braked: Cloud, brake: FaultyProxy, reference: MakeReference) -> None:
    """Without a lease the task runs on; the notice's dump waits for the bucket, and is committed."""
    machine = braked.machine(metadata=False)
    attempt = machine.run("--provider", "none", "--lease", "0", "--interval", "1")
    attempt.wait_steps(4)
    machine.node.disconnect()
    attempt.wait_steps(attempt.stdout.data.count(b"step ") + 8)
    attempt.process.terminate()
    attempt.wait_stderr("dumping: ")
    time.sleep(1.0)
    machine.node.reconnect()
    attempt.finish(CHECKPOINTED)
    machine.node.destroy()
    machine = braked.machine(metadata=False)
    machine.run("--provider", "none").finish(0)
    assert_same(braked, machine, reference())
    audit(braked)


def test_a_lease_pauses_a_task_that_lost_its_bucket_and_kills_none(
    cloud: Cloud, reference: MakeReference
) -> None:
    machine = cloud.machine(metadata=False)
    attempt = machine.run("--provider", "none", "--lease", "2", "--interval", "off")
    attempt.wait_steps(4)
    machine.node.disconnect()
    attempt.wait("a pause", lambda: stands_still(attempt.stdout.data))
    machine.node.reconnect()
    attempt.finish(0)
    machine.assert_idle()
    assert_same(cloud, machine, reference())


def stands_still(output: bytearray) -> bool:
    """Nothing was printed for a second."""
    before = len(output)
    time.sleep(1.0)
    return len(output) == before
