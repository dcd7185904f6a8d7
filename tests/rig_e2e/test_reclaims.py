"""A task that three nodes hand on; each is gone at its deadline or before."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from tests.rig_e2e.bucket import audit, triggers
from tests.rig_e2e.cloud import CHECKPOINTED, Cloud, Machine, Reference, assert_same
from tests.rig_e2e.roads import s3_cloud
from tests.servers import seaweedfs
from tools.rig import Rig

pytestmark = pytest.mark.criu

MakeReference = Callable[..., Reference]


def hand_on(cloud: Cloud, *, times: int = 2) -> Machine:
    """Reclaimed so many times, with 30 s of notice; the node on which it came to its end."""
    for _ in range(times):
        machine = cloud.machine()
        attempt = machine.run()
        attempt.wait_steps(4)
        machine.give_notice(30)
        attempt.finish(CHECKPOINTED)
        machine.assert_idle()
        machine.node.destroy()
        assert cloud.status()["state"] == "uploaded"
    machine = cloud.machine()
    machine.run().finish()
    machine.assert_idle()
    return machine


def assert_figures(snapshot: dict[str, Any]) -> None:
    """The snapshot's numbers can be true."""
    assert 0 < snapshot["new_bytes"] <= snapshot["bytes"]
    assert 0 < snapshot["stored_bytes"]
    assert datetime.fromisoformat(snapshot["committed_at"]).tzinfo is not None


@pytest.mark.parametrize("kind", ["cloud", "file_cloud"])
def test_two_reclaims(kind: str, request: pytest.FixtureRequest, reference: MakeReference) -> None:
    cloud: Cloud = request.getfixturevalue(kind)
    last = hand_on(cloud)
    assert cloud.attempts[-1].exit_code == 0
    assert_same(cloud, last, reference())
    state = cloud.status()
    assert (state["state"], state["epoch"], state["reclaims_survived"]) == ("completed", 3, 2)
    assert state["node"] == last.service.instance_id
    assert 0 < state["work_saved_s"]
    assert_figures(state["snapshot"])
    assert triggers(audit(cloud)) == [
        *["begin", "dump", "commit"],
        *["claim", "restored", "dump", "commit"],
        *["claim", "restored", "finish", "complete"],
    ]


@pytest.mark.slow
def test_two_reclaims_with_seaweedfs(
    rig: Rig, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, reference: MakeReference
) -> None:
    """A server that checks signatures, which name the host that the nodes see."""
    with seaweedfs(tmp_path / "weed") as server:
        cloud = s3_cloud(rig, server, monkeypatch)
        last = hand_on(cloud)
        assert_same(cloud, last, reference())
        assert cloud.status()["reclaims_survived"] == 2
        audit(cloud)


def test_the_tasks_own_exit_code(cloud: Cloud, reference: MakeReference) -> None:
    cloud.env["EXIT"] = "7"
    last = hand_on(cloud, times=1)
    assert cloud.attempts[-1].exit_code == 7
    assert_same(cloud, last, reference(EXIT="7"))
    state = cloud.status()
    assert (state["state"], state["reclaims_survived"]) == ("failed", 1)


@pytest.mark.slow
def test_the_next_attempt_begins_while_the_node_before_still_stands(
    cloud: Cloud, reference: MakeReference
) -> None:
    """The deadline comes when the task is long at work elsewhere."""
    first = cloud.machine()
    attempt = first.run()
    attempt.wait_steps(4)
    first.give_notice(6)
    attempt.finish(CHECKPOINTED)
    second = cloud.machine()
    attempt = second.run()
    attempt.wait_steps(4)
    second.give_notice(6)
    attempt.finish(CHECKPOINTED)
    third = cloud.machine()
    third.run().finish(0)
    first.wait_gone()
    second.wait_gone()
    assert_same(cloud, third, reference())
    assert cloud.status()["reclaims_survived"] == 2
    audit(cloud)
