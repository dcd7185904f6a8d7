"""A node that the network lost goes on with its copy; another one takes the task over.

``--attempt`` proves nothing, as under Slurm: the new copy waits until the old one must have been stopped
by its own init.  Both copies say all the time what time it is, to a directory that both nodes see; the wall
clock is one on all nodes of a rig.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fsnap.journal.mirror import journal_prefix
from fsnap.stores.urls import open_store
from tests.faulty_proxy import Fault, FaultyProxy
from tests.rig_e2e.beats import Beats, states
from tests.rig_e2e.bucket import audit, journal, triggers
from tests.rig_e2e.cloud import (
    CHECKPOINTED,
    FENCED,
    TASK,
    Attempt,
    Cloud,
    Machine,
    Reference,
    assert_same_files,
)
from tests.rig_e2e.roads import PORT, serving
from tests.servers import S3Server

pytestmark = pytest.mark.criu

MakeReference = Callable[..., Reference]
LEASE_S = 5.0
WHOLE = {"STEPS": "70"}
LONG = {"STEPS": "150"}
"""At 0.1 s a step more than the first checkpoint and the lease take together, on a busy machine too: the
first copy must be alive when its lease ends."""
ENDLESS = {"STEPS": "1000"}
"""For tests that end before the task does."""


def start(machine: Machine, shared: Path, number: int, *, interval: str = "1") -> Attempt:
    """An attempt whose output goes to a file that all nodes see."""
    flags = ["--attempt", str(number), "--lease", str(LEASE_S), "--interval", interval]
    flags += ["--provider", "none", "--stdout", str(shared / "out.txt"), "--stderr", str(shared / "err.txt")]
    return machine.run(*flags)


def committed(cloud: Cloud, count: int) -> Callable[[], bool]:
    """Whether the task's journal has *count* snapshots."""
    return lambda: triggers(journal(cloud)).count("checkpointed") >= count


def begin(
    cloud: Cloud, beats: Beats, shared: Path, *, snapshots: int = 1, env: dict[str, str] = ENDLESS
) -> tuple[Machine, Attempt]:
    """The first copy, at work and with so many snapshots in the store."""
    cloud.env |= {**env, **beats.env}
    machine = cloud.machine(metadata=False)
    attempt = start(machine, shared, 1)
    attempt.wait_trace(5)
    attempt.wait("a checkpoint", committed(cloud, snapshots))
    return machine, attempt


def come_back(first: Attempt, last: Attempt, beats: Beats) -> None:
    """Once the last copy runs: the first one stands still, and is killed when its node hears of it."""
    last.wait("progress", lambda: bool(beats.of(last.machine)))
    beats.assert_apart(first.machine, last.machine)
    assert states(first.machine) == {"T"}
    first.machine.node.reconnect()
    first.finish(FENCED)
    first.machine.assert_idle()
    beats.assert_apart(first.machine, last.machine)


def test_the_old_copy_stops_before_the_new_one_begins(
    cloud: Cloud, shared: Path, beats: Beats, reference: MakeReference
) -> None:
    old, first = begin(cloud, beats, shared, env=LONG)
    old.node.disconnect()
    new = cloud.machine(metadata=False)
    second = start(new, shared, 2)
    come_back(first, second, beats)
    second.finish(0)
    new.assert_idle()
    expected = reference(**LONG)
    assert (shared / "out.txt").read_bytes() == expected.stdout
    assert (shared / "err.txt").read_bytes() == expected.stderr
    assert_same_files(new, expected)
    audit(cloud)


def test_a_lower_or_equal_attempt_takes_nothing_over(cloud: Cloud, shared: Path, beats: Beats) -> None:
    _, first = begin(cloud, beats, shared, env=WHOLE)
    for number in (0, 1):
        other = cloud.machine(metadata=False)
        start(other, shared, number).finish(FENCED)
        assert not beats.of(other)
    first.finish(0)
    assert cloud.status()["epoch"] == 1


@pytest.mark.slow
def test_a_damaged_snapshot_does_not_shorten_the_wait(cloud: Cloud, shared: Path, beats: Beats) -> None:
    """The older snapshot that is taken instead is released no sooner."""
    old, first = begin(cloud, beats, shared, snapshots=2)
    old.node.disconnect()
    store = open_store(cloud.store)
    newest = [row.key for row in store.list(f"tasks/{TASK}/snapshots/") if row.key.endswith("/index")][-1]
    store.put(newest, store.get(newest)[:-1])
    new = cloud.machine(metadata=False)
    come_back(first, start(new, shared, 2), beats)


def test_no_snapshot_at_all_does_not_shorten_the_wait(cloud: Cloud, shared: Path, beats: Beats) -> None:
    """Nor does a checkpoint that would be due meanwhile: nothing is there yet that could be saved."""
    cloud.env |= {**ENDLESS, **beats.env}
    old = cloud.machine(metadata=False)
    first = start(old, shared, 1, interval="off")
    first.wait_trace(5)
    old.node.disconnect()
    new = cloud.machine(metadata=False)
    come_back(first, start(new, shared, 2), beats)


def test_a_node_that_goes_while_it_waits_does_not_shorten_the_wait(
    cloud: Cloud, shared: Path, beats: Beats
) -> None:
    """The node after it does not know that the first copy has stopped either."""
    old, first = begin(cloud, beats, shared)
    old.node.disconnect()
    between = cloud.machine(metadata=False)
    second = start(between, shared, 2)
    second.wait_stderr("restoring: ")
    second.process.terminate()
    second.finish(CHECKPOINTED)
    assert not beats.of(between)
    new = cloud.machine(metadata=False)
    come_back(first, start(new, shared, 3), beats)


def test_an_agent_that_dies_while_it_waits_does_not_shorten_the_wait(
    cloud: Cloud, shared: Path, beats: Beats
) -> None:
    """Started again on the same node, it finds its own capsule gone, which says nothing of the first copy."""
    old, first = begin(cloud, beats, shared)
    old.node.disconnect()
    new = cloud.machine(metadata=False)
    second = start(new, shared, 2)
    second.wait_stderr("restoring: ")
    second.process.kill()
    second.finish()
    come_back(first, start(new, shared, 2), beats)


class SlowClaim(FaultyProxy):
    """A way to the store on which one create of a journal object takes long."""

    slow_s = 0.0

    def draw(self, method: str, path: str) -> Fault | None:
        if method == "PUT" and journal_prefix(TASK) in path and self.slow_s:
            self.delay_s, self.slow_s = self.slow_s, 0.0
            return Fault.DELAYED
        return None


@pytest.fixture
def slow_claim(cloud: Cloud, s3: S3Server) -> Iterator[Callable[[float], SlowClaim]]:
    """Makes the next node's way to the bucket one on which its claim takes so many seconds."""
    proxy = SlowClaim(s3.endpoint, {}, seed=0)
    with serving(proxy) as port:
        way = cloud.rig.forward(PORT + 1, to_port=port)

        def arm(seconds: float) -> SlowClaim:
            proxy.slow_s = seconds
            cloud.env["AWS_ENDPOINT_URL"] = f"http://{way}"
            return proxy

        yield arm


def test_the_wait_begins_when_the_claim_is_made_not_when_it_was_asked_for(
    cloud: Cloud, slow_claim: Callable[[float], SlowClaim], shared: Path, beats: Beats
) -> None:
    """The old copy may renew its lease until the claim is there."""
    _, zeroth = begin(cloud, beats, shared)
    zeroth.process.terminate()
    zeroth.finish(CHECKPOINTED)
    old = cloud.machine(metadata=False)
    first = start(old, shared, 2, interval="off")
    first.wait("progress", lambda: bool(beats.of(old)))
    new = cloud.machine(metadata=False)
    proxy = slow_claim(5.0)
    second = start(new, shared, 3)
    second.wait("the claim", lambda: not proxy.slow_s)
    time.sleep(4.5)
    old.node.disconnect()
    come_back(first, second, beats)


def test_a_claim_that_was_overtaken_by_the_old_copys_record_is_made_again(
    cloud: Cloud, slow_claim: Callable[[float], SlowClaim], shared: Path, beats: Beats
) -> None:
    """That a checkpoint of the old copy came first changes nothing: the attempt is still the later one."""
    old, first = begin(cloud, beats, shared)
    new = cloud.machine(metadata=False)
    proxy = slow_claim(2.5)
    second = start(new, shared, 2)
    second.wait("the claim", lambda: not proxy.slow_s)
    first.finish(FENCED)
    second.wait("progress", lambda: bool(beats.of(new)))
    beats.assert_apart(old, new)
    second.process.terminate()
    second.finish(CHECKPOINTED)
    assert [record.trigger for record in audit(cloud)].count("claim") == 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_cut_off_at_any_moment(
    cloud: Cloud, shared: Path, beats: Beats, reference: MakeReference, seed: int
) -> None:
    """In the middle of a checkpoint, of its upload, of a renewal."""
    dice = random.Random(seed)
    old, first = begin(cloud, beats, shared, env=LONG)
    time.sleep(dice.uniform(0.0, 1.5))
    old.node.disconnect()
    new = cloud.machine(metadata=False)
    second = start(new, shared, 2)
    come_back(first, second, beats)
    second.finish(0)
    expected = reference(**LONG)
    assert (shared / "out.txt").read_bytes() == expected.stdout
    assert_same_files(new, expected)
    audit(cloud)
