"""The times that the metadata service tells, under a frozen clock."""

from __future__ import annotations

from email.message import Message

import pytest
from freezegun import freeze_time

from tools._metadata.faults import Faults, parse_rules
from tools._metadata.imds import BadRequest, Imds, Instance, instance_id_for

INSTANCE = Instance(instance_id="i-0123456789abcdef0")


@pytest.mark.parametrize(
    ("now", "offset_s", "window_s", "deadline", "left_s"),
    [
        ("2026-11-21T12:00:00", 0, 30, "2026-11-21T12:00:30Z", 30.0),
        ("2026-11-21T12:00:00.250", 0, 30, "2026-11-21T12:00:31Z", 30.75),
        ("2026-11-21T12:00:00", 3600, 120, "2026-11-21T13:02:00Z", 120.0),
        ("2026-11-21T12:00:00", -0.5, 0, "2026-11-21T12:00:00Z", 0.5),
    ],
)
def test_a_deadline_is_a_whole_second_and_never_early(
    now: str, offset_s: float, window_s: float, deadline: str, left_s: float
) -> None:
    with freeze_time(now):
        said = Imds(INSTANCE, clock_offset_s=offset_s).announce(
            window_s=window_s, action="terminate", rebalance=False
        )
    assert said == {"action": "terminate", "time": deadline, "left_s": left_s}


def test_a_bad_notice_changes_nothing() -> None:
    imds = Imds(INSTANCE)
    for window_s, action in ((-1.0, "terminate"), (float("nan"), "stop"), (30.0, "boom")):
        with pytest.raises(BadRequest):
            imds.announce(window_s=window_s, action=action, rebalance=True)
    assert (imds.status()["notice"], imds.status()["rebalance"]) == (None, None)


def test_tokens_live_on_the_monotonic_clock() -> None:
    with freeze_time("2026-11-21T12:00:00") as frozen:
        imds = Imds(INSTANCE)
        asked: Message[str, str] = Message()
        asked["X-aws-ec2-metadata-token-ttl-seconds"] = "60"
        header: Message[str, str] = Message()
        header["X-aws-ec2-metadata-token"] = imds.reply("PUT", "/latest/api/token", asked).body.decode()
        frozen.tick(59)
        assert imds.reply("GET", "/latest/meta-data/instance-id", header).status == 200
        frozen.tick(2)
        assert imds.reply("GET", "/latest/meta-data/instance-id", header).status == 401


def test_the_same_seed_gives_the_same_faults() -> None:
    def drawn(seed: int) -> list[int]:
        faults = Faults(seed)
        faults.add(parse_rules(slow=[], answer=["500:0.5"], cut=[], only="/"))
        return [faults.draw("/latest").answer for _ in range(64)]

    assert drawn(1) == drawn(1) != drawn(2)


def test_a_place_keeps_its_instance_id() -> None:
    assert instance_id_for("127.0.0.1:1338") == instance_id_for("127.0.0.1:1338")
    assert instance_id_for("127.0.0.1:1338") != instance_id_for("127.0.0.1:1339")
    assert len(instance_id_for("x")) == len("i-0123456789abcdef0")
