"""A metadata service that is slow, fails or goes away when the notice comes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fsnap.core.events import Notice
from tests.rig_e2e.bucket import audit, journal
from tests.rig_e2e.cloud import CHECKPOINTED, Cloud, Reference, assert_same
from tools.rig import RigError

pytestmark = pytest.mark.criu

MakeReference = Callable[..., Reference]
ACTION = ("--only", "/latest/meta-data/spot")
ENDLESS = {"STEPS": "100000"}


def seen_window_s(cloud: Cloud) -> float:
    """The time that was left when the one notice was seen."""
    (window_ms,) = [r.event.window_ms for r in journal(cloud) if isinstance(r.event, Notice)]
    return window_ms / 1000


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param(("--answer", "401:3"), id="expired-tokens"),
        pytest.param(("--answer", "429:0.5"), id="too-many-requests"),
        pytest.param(("--answer", "500:0.5", "--cut", "0.3"), id="errors-and-cut-answers"),
        pytest.param(("--slow", "1.5:0.5"), id="slow"),
    ],
)
def test_the_notice_is_seen_all_the_same(cloud: Cloud, faults: tuple[str, ...]) -> None:
    cloud.env |= ENDLESS
    machine = cloud.machine("--seed", "1")
    attempt = machine.run()
    attempt.wait_steps(2)
    machine.service.tell("fault", *faults)
    machine.give_notice(60, deadly=False)
    attempt.finish(CHECKPOINTED)
    assert 30 < seen_window_s(cloud) <= 61


def test_a_service_that_is_gone_when_the_notice_comes(cloud: Cloud) -> None:
    cloud.env |= ENDLESS
    machine = cloud.machine()
    attempt = machine.run()
    attempt.wait_steps(2)
    machine.service.tell("fault", "--answer", "503", *ACTION)
    machine.give_notice(60, deadly=False)
    machine.service.tell("fault", "--clear", "--vanish", "4")
    with pytest.raises(RigError):
        machine.service.tell("status")
    attempt.finish(CHECKPOINTED)
    assert 30 < seen_window_s(cloud) <= 57


def test_a_service_that_comes_late(cloud: Cloud) -> None:
    """It fails while ``run`` finds out on which cloud it is: it is asked on."""
    cloud.env |= ENDLESS
    machine = cloud.machine("--answer", "503")
    attempt = machine.run()
    attempt.wait_steps(2)
    machine.service.tell("fault", "--clear")
    machine.give_notice(60, deadly=False)
    attempt.finish(CHECKPOINTED)


@pytest.mark.parametrize("offset_s", ["3600", "-3600"])
def test_a_clock_that_is_wrong_by_an_hour(cloud: Cloud, offset_s: str) -> None:
    """The deadline is a time of the service's clock, and so is what the window is counted from."""
    cloud.env |= ENDLESS
    machine = cloud.machine("--clock-offset", offset_s)
    attempt = machine.run()
    attempt.wait_steps(2)
    machine.give_notice(60, deadly=False)
    attempt.finish(CHECKPOINTED)
    assert 30 < seen_window_s(cloud) <= 61


def test_the_instances_role_opens_the_bucket(cloud: Cloud, reference: MakeReference) -> None:
    """And the service that gives its keys fails now and then."""
    cloud.env |= {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    machine = cloud.machine("--answer", "500:0.2", "--seed", "2")
    attempt = machine.run()
    attempt.wait_steps(4)
    machine.give_notice(30)
    attempt.finish(CHECKPOINTED)
    machine.node.destroy()
    machine = cloud.machine()
    machine.run().finish(0)
    assert_same(cloud, machine, reference())
    audit(cloud)


@pytest.mark.parametrize("route", ["no-route", "silence"])
def test_off_the_cloud(cloud: Cloud, route: str) -> None:
    """``--provider auto`` finds no service, says so, and the task starts."""
    machine = cloud.machine(metadata=False)
    if route == "silence":
        machine.node.exec(["ip", "route", "add", "169.254.169.254", "dev", "eth0"])
    attempt = machine.run(env={"AWS_EC2_METADATA_DISABLED": "false"})
    attempt.wait_steps(2)
    assert "no cloud's metadata service answers here" in attempt.log
    attempt.process.terminate()
    attempt.finish(CHECKPOINTED)
    assert cloud.status()["node"] == machine.node.name
