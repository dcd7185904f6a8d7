"""What a notice says, read from bytes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsnap.notices.payload import (
    DEFAULT_WINDOW_S,
    MAX_CONTENT_BYTES,
    notice_id,
    parse_file_notice,
    parse_instance_action,
    window_ms,
)

NOON = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("content", "left_s"),
    [
        (b"", DEFAULT_WINDOW_S),
        (b" \n", DEFAULT_WINDOW_S),
        (b'{"window_s": 30}', 30),
        (b'{"window_s": 2.5}', 2.5),
        (b'{"window_s": -3}', -3),
        (b'{"deadline": "2026-11-21T12:00:45Z"}', 45),
        (b'{"deadline": "2026-11-21T13:00:45.5+01:00"}', 45.5),
        (b'{"deadline": "2026-11-21T12:00:45Z", "window_s": 10}', 10),
        (b'{"window_s": 30, "comment": "drill"}', 30),
    ],
)
def test_a_notice_file_says_what_is_left(content: bytes, left_s: float) -> None:
    text = parse_file_notice(content)
    assert text.problem is None
    assert text.left_s(NOON) == left_s


@pytest.mark.parametrize(
    "content",
    [
        b"soon",
        b"\xff\xfe",
        b"[30]",
        b"30",
        b"{}",
        b'{"window": 30}',
        b'{"window_s": "30"}',
        b'{"window_s": true}',
        b'{"window_s": NaN}',
        b'{"window_s": 1' + b"0" * 400 + b"}",
        b'{"window_s": -1' + b"0" * 400 + b"}",
        b'{"window_s": 1e300}',
        b'{"window_s": 30',
        b'{"deadline": 1763726400}',
        b'{"deadline": "2026-11-21T12:00:45"}',
        b'{"deadline": "0001-01-01T00:00:00+23:00"}',
        b"[" * 20_000,
        b'{"window_s": 30}' + b" " * MAX_CONTENT_BYTES,
    ],
)
def test_a_notice_file_that_makes_no_sense_has_the_default_window(content: bytes) -> None:
    text = parse_file_notice(content)
    assert text.problem
    assert text.left_s(NOON) == DEFAULT_WINDOW_S


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_no_content_of_a_notice_file_raises(content: bytes) -> None:
    parse_file_notice(content).left_s(NOON)


def test_an_instance_action_is_read() -> None:
    found = parse_instance_action(b'{"action": "terminate", "time": "2026-11-21T12:02:00Z"}')
    assert (found.action, found.time_text) == ("terminate", "2026-11-21T12:02:00Z")
    assert found.time is not None
    assert (found.time - NOON).total_seconds() == 120


def test_hibernation_needs_no_time() -> None:
    assert parse_instance_action(b'{"action": "hibernate"}').time is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"action": "terminate"}',
        b'{"action": "stop", "time": "soon"}',
        b'{"action": "ter',
        b"[" * 20_000,
    ],
)
def test_a_broken_instance_action_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError):
        parse_instance_action(body)


def test_ids_tell_parts_apart_and_stay() -> None:
    assert notice_id("aws", "ab", "c") != notice_id("aws", "a", "bc")
    assert notice_id("aws", "a") != notice_id("file", "a")
    assert notice_id("file", 7, b"x") == notice_id("file", "7", "x")


def test_time_that_is_over_is_zero() -> None:
    assert [window_ms(seconds) for seconds in (-1.0, 0.0, 0.0019, 29.9999)] == [0, 0, 1, 29999]
