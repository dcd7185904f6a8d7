"""What the EC2 poller makes of answers; the service and the clock are scripted."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from fsnap.core.events import NoticeCancelled
from fsnap.notices.aws import (
    ACTION_PATH,
    CLEAR_AFTER,
    MAX_GAP_S,
    REBALANCE_PATH,
    REBALANCE_POLL_S,
    UNREADABLE_AFTER,
    AwsNotice,
)
from fsnap.notices.imds import Answer, FailureKind, MetadataError, parse_endpoint

INSTANCE_PATH = "/latest/meta-data/instance-id"
Step = Callable[[], Answer]


class Service:
    """Answers 404 unless told otherwise; each answer takes ``took_s`` on the fake clock."""

    def __init__(self, clock: Any) -> None:
        self.clock = clock
        self.endpoint = parse_endpoint("http://127.0.0.1:1")
        self.answer_timeout_s = 2.0
        self.had_answer = False
        self.took_s = 0.0
        self.server_ahead_s = 0.0
        self.sends_date = True
        self.bodies: dict[str, bytes] = {INSTANCE_PATH: b"i-0123456789abcdef0"}
        self.failure: dict[str, FailureKind] = {}
        self.asked: dict[str, int] = defaultdict(int)

    def get(self, path: str) -> Answer:
        self.asked[path] += 1
        sent_s = self.clock.mono_s()
        self.clock.pass_s(self.took_s)
        for prefix, kind in self.failure.items():
            if path.startswith(prefix):
                raise MetadataError(kind, f"{kind} it is", hint="Do something.")
        self.had_answer = True
        date = self.now().replace(microsecond=0) if self.sends_date else None
        body = self.bodies.get(path)
        return Answer(
            status=404 if body is None else 200,
            body=body or b"",
            date=date,
            server="EC2ws",
            token_ttl_s="",
            sent_mono_s=sent_s,
            received_mono_s=self.clock.mono_s(),
        )

    def now(self) -> datetime:
        moment: datetime = self.clock.wall() + timedelta(seconds=self.server_ahead_s)
        return moment

    def give(self, window_s: float, action: str = "terminate") -> str:
        deadline = f"{self.now() + timedelta(seconds=window_s):%Y-%m-%dT%H:%M:%SZ}"
        self.bodies[ACTION_PATH] = json.dumps({"action": action, "time": deadline}).encode()
        return deadline

    def left_ms(self) -> float:
        """How long it truly is to the deadline."""
        deadline = datetime.fromisoformat(json.loads(self.bodies[ACTION_PATH])["time"])
        return (deadline - self.now()).total_seconds() * 1000

    def take_back(self) -> None:
        self.bodies.pop(ACTION_PATH, None)


class Bench:
    """A poller that is driven by hand."""

    def __init__(self, clock: Any, inbox: Any) -> None:
        self.clock, self.inbox = clock, inbox
        self.service = Service(clock)
        self.source = AwsNotice(self.service, clock, seed=1)  # type: ignore[arg-type]
        self.source._post = inbox.post

    def poll(self, times: int = 1) -> None:
        for _ in range(times):
            self.clock.pass_s(self.source.poll())


@pytest.fixture
def bench(clock: Any, inbox: Any) -> Bench:
    return Bench(clock, inbox)


@pytest.mark.parametrize("ahead_s", [0.0, -7200.0, 86400.0])
def test_the_window_is_told_by_the_servers_clock(bench: Bench, ahead_s: float) -> None:
    bench.service.server_ahead_s = ahead_s
    bench.poll()
    deadline = bench.service.give(120)
    left_ms = bench.service.left_ms()
    bench.poll()
    notice = bench.inbox.notice(0)
    assert left_ms - 1000 <= notice.window_ms <= left_ms
    assert (notice.provider, notice.action, notice.deadline_at) == ("aws", "terminate", deadline)


def test_after_a_minute_the_window_is_known_to_a_tenth_of_a_second(bench: Bench) -> None:
    bench.service.took_s = 0.001
    bench.poll(60)
    bench.service.give(120)
    left_ms = bench.service.left_ms()
    bench.poll()
    assert left_ms - 100 < bench.inbox.notice(0).window_ms <= left_ms


def test_a_slow_answer_costs_its_own_time(bench: Bench) -> None:
    bench.service.took_s = 1.5
    bench.service.give(120)
    asked_s = bench.clock.mono_s()
    bench.poll()
    assert bench.inbox.seen_s == [asked_s]
    assert bench.inbox.notice(0).window_ms <= 120_000


def test_without_a_date_the_local_clock_serves_and_it_says_so(bench: Bench, log: list[str]) -> None:
    bench.service.sends_date = False
    bench.service.give(90)
    bench.poll(3)
    assert bench.inbox.notice(0).window_ms == 90_000
    assert len(log) == 1
    assert "no Date" in log[0]


def test_a_deadline_that_is_over_is_now(bench: Bench) -> None:
    bench.service.give(-30)
    bench.poll()
    assert bench.inbox.notice(0).window_ms == 0


def test_a_notice_is_posted_once(bench: Bench) -> None:
    bench.service.give(120)
    bench.poll(5)
    assert len(bench.inbox.events) == 1


def test_a_notice_that_changes_is_a_new_one_and_taking_back_ends_both(bench: Bench) -> None:
    bench.service.give(120, "stop")
    bench.poll()
    bench.service.give(60)
    bench.poll()
    bench.service.take_back()
    bench.poll(CLEAR_AFTER + 3)
    actions = [bench.inbox.notice(0).action, bench.inbox.notice(1).action]
    ids = [bench.inbox.notice(0).notice_id, bench.inbox.notice(1).notice_id]
    assert actions == ["stop", "terminate"]
    assert bench.inbox.events[2:] == [NoticeCancelled(notice_id=identity) for identity in ids]


def test_one_404_takes_nothing_back(bench: Bench) -> None:
    deadline = bench.service.give(120)
    body = bench.service.bodies[ACTION_PATH]
    bench.poll()
    for _ in range(3):
        bench.service.take_back()
        bench.poll(1)
        bench.service.bodies[ACTION_PATH] = body
        bench.poll()
    assert [event.deadline_at for event in bench.inbox.events] == [deadline]


def test_a_failure_is_no_404(bench: Bench) -> None:
    bench.service.give(120)
    bench.poll()
    bench.service.failure["/"] = "unreachable"
    bench.poll(10)
    assert len(bench.inbox.events) == 1


def test_a_notice_that_comes_again_after_it_was_taken_back_counts(bench: Bench) -> None:
    bench.service.give(120)
    bench.poll()
    bench.service.take_back()
    bench.poll(CLEAR_AFTER)
    bench.service.give(120)
    bench.poll()
    assert len(bench.inbox.events) == 3
    assert bench.inbox.notice(2).window_ms > 110_000


def test_hibernation_begins_at_once(bench: Bench) -> None:
    bench.service.bodies[ACTION_PATH] = b'{"action": "hibernate"}'
    bench.poll()
    assert (bench.inbox.notice(0).action, bench.inbox.notice(0).window_ms) == ("hibernate", 0)


def test_an_unknown_action_is_taken_for_the_worst(bench: Bench, log: list[str]) -> None:
    bench.service.give(120, "vaporise")
    bench.poll(2)
    assert bench.inbox.notice(0).action == "terminate"
    assert len(log) == 1


def test_an_unreadable_notice_counts_when_it_stays_so(bench: Bench, log: list[str]) -> None:
    bench.service.bodies[ACTION_PATH] = b'{"action": "termi'
    bench.poll(UNREADABLE_AFTER - 1)
    assert bench.inbox.events == []
    bench.poll(3)
    assert [event.window_ms for event in bench.inbox.events] == [120_000]
    assert len(log) == 1
    bench.service.give(60)
    bench.poll()
    assert 59_000 <= bench.inbox.notice(1).window_ms <= 60_000


def test_two_nodes_notices_that_read_the_same_have_two_ids(clock: Any, inbox: Any) -> None:
    for instance in (b"i-00000000000000001", b"i-00000000000000002", b"i-00000000000000002"):
        bench = Bench(clock, inbox)
        bench.service.bodies[INSTANCE_PATH] = instance
        bench.service.bodies[ACTION_PATH] = b'{"action": "terminate", "time": "2026-11-21T12:02:00Z"}'
        bench.poll()
    first, second, again = (inbox.notice(index).notice_id for index in range(3))
    assert first != second == again


def test_an_id_stays_when_the_instance_becomes_known_later(bench: Bench) -> None:
    bench.service.failure[INSTANCE_PATH] = "busy"
    bench.service.give(120)
    bench.poll()
    bench.service.failure.clear()
    bench.poll(3)
    assert len(bench.inbox.events) == 1


def test_a_recommendation_has_no_deadline_and_is_asked_for_rarely(bench: Bench) -> None:
    bench.service.bodies[REBALANCE_PATH] = b'{"noticeTime": "2026-11-21T12:00:00Z"}'
    bench.poll(round(3 * REBALANCE_POLL_S))
    notice = bench.inbox.notice(0)
    assert (notice.action, notice.window_ms, notice.deadline_at) == ("rebalance", 0, None)
    assert len(bench.inbox.events) == 1
    assert bench.service.asked[REBALANCE_PATH] == 3
    del bench.service.bodies[REBALANCE_PATH]
    bench.poll(round((CLEAR_AFTER + 1) * REBALANCE_POLL_S))
    assert bench.inbox.events[1:] == [NoticeCancelled(notice_id=notice.notice_id)]


def test_a_failing_recommendation_slows_nothing(bench: Bench, log: list[str]) -> None:
    bench.service.failure[REBALANCE_PATH] = "busy"
    began_s = bench.clock.mono_s()
    bench.poll(50)
    assert bench.clock.mono_s() - began_s <= 50
    assert log == []


@pytest.mark.parametrize("took_s", [0.0, 0.5, 2.0, 4.9])
@pytest.mark.parametrize("kind", ["unreachable", "silent", "broken", "denied", "foreign", "busy"])
def test_no_failure_makes_it_ask_more_rarely_than_it_may(
    bench: Bench, kind: FailureKind, took_s: float, log: list[str]
) -> None:
    bench.service.failure["/"] = kind
    bench.service.took_s = took_s
    gaps = []
    for _ in range(20):
        began_s = bench.clock.mono_s()
        bench.poll()
        gaps.append(bench.clock.mono_s() - began_s)
    assert max(gaps) <= MAX_GAP_S + 0.001
    assert bench.inbox.events == []
    assert len(log) == 1, "said once, not twenty times"


def test_waits_grow_and_differ(bench: Bench) -> None:
    bench.service.failure["/"] = "busy"
    waits = [bench.source.poll() for _ in range(6)]
    assert waits[0] < 1.0 < waits[3]
    assert len(set(waits[3:])) > 1


def test_a_silent_service_is_given_more_time_until_it_is_fast_again(bench: Bench) -> None:
    bench.service.failure["/"] = "silent"
    bench.poll()
    assert bench.service.answer_timeout_s > 2.0
    bench.service.failure.clear()
    bench.poll()
    assert bench.service.answer_timeout_s == 2.0


def test_a_service_that_never_answers_gets_the_hop_limit_hint(bench: Bench, log: list[str]) -> None:
    bench.service.failure["/"] = "silent"
    bench.poll(4)
    assert "hop limit" in log[0]


def test_nothing_is_posted_after_stop(bench: Bench) -> None:
    bench.source.stop()
    bench.service.give(120)
    bench.poll()
    assert bench.inbox.events == []
