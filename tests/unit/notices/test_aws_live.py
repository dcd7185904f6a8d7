"""The EC2 source in its own thread against ``tools/metadata``, with and without its faults."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from fsnap.clock import SystemClock
from fsnap.core.events import NoticeCancelled
from fsnap.notices import aws
from fsnap.notices.aws import open_aws
from tools.rig import MetadataService

pytestmark = pytest.mark.server

FAULTS = {
    "none": [],
    "errors": ["--answer", "500:0.3", "--answer", "429:0.2"],
    "tokens that are refused": ["--answer", "401:0.3"],
    "cut answers": ["--cut", "0.4"],
    "a clock two hours behind": ["--clock-offset", "-7200"],
    "a clock a day ahead": ["--clock-offset", "86400"],
    "all of it": ["--answer", "500:0.2", "--answer", "401:0.2", "--cut", "0.2", "--clock-offset", "600"],
}


@pytest.fixture
def service(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[MetadataService]:
    monkeypatch.setattr(aws, "POLL_S", 0.02)
    monkeypatch.setattr(aws, "MAX_GAP_S", 0.2)
    service = MetadataService("--seed", "7", *getattr(request, "param", []))
    yield service
    service.close()


@pytest.mark.parametrize("service", FAULTS.values(), ids=FAULTS.keys(), indirect=True)
def test_a_notice_and_its_end_arrive(service: MetadataService, inbox: Any) -> None:
    source = open_aws(clock=SystemClock(), env=service.env)
    source.start(inbox.post)
    try:
        said = service.tell("notice", "--window", "30")
        said_mono_s = time.monotonic()
        inbox.wait(1)
        service.tell("cancel")
        inbox.wait(2)
    finally:
        source.stop()
    notice = inbox.notice(0)
    assert inbox.events[1] == NoticeCancelled(notice_id=notice.notice_id)
    told = re.search(r"terminate at (\S+), in ([0-9.]+) s", said)
    assert told
    assert notice.deadline_at == told[1]
    deadline_mono_s = inbox.seen_s[0] + notice.window_ms / 1000
    latest_mono_s = said_mono_s + float(told[2])
    assert deadline_mono_s <= latest_mono_s, "a deadline must not be taken for later than it is"
    assert deadline_mono_s > latest_mono_s - 5, "the tool's run, and a second for the resolution of Date"


def test_a_service_that_vanishes_is_found_again(service: MetadataService, inbox: Any) -> None:
    source = open_aws(clock=SystemClock(), env=service.env)
    service.tell("notice", "--window", "60")
    service.tell("fault", "--vanish", "0.5")
    source.start(inbox.post)
    try:
        inbox.wait(1)
    finally:
        source.stop()
    assert inbox.notice(0).window_ms > 50_000


def test_a_recommendation_arrives(service: MetadataService, inbox: Any) -> None:
    service.tell("notice", "--rebalance")
    source = open_aws(clock=SystemClock(), env=service.env)
    source.start(inbox.post)
    try:
        inbox.wait(1)
    finally:
        source.stop()
    assert (inbox.notice(0).action, inbox.notice(0).window_ms) == ("rebalance", 0)
