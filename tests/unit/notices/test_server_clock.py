"""Seconds left by the server's clock, whatever the local one says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from fsnap.notices.server_clock import DATE_RESOLUTION_S, ServerClock

EPOCH = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
DELAY_S = st.floats(min_value=0.0, max_value=2.0)


def exchange(
    clock: ServerClock, offset_s: float, sent_s: float, to_server_s: float, from_server_s: float
) -> None:
    """One exchange with a server whose clock reads EPOCH + *offset_s* at local monotonic 0."""
    server = EPOCH + timedelta(seconds=offset_s + sent_s + to_server_s)
    clock.observe(server.replace(microsecond=0), sent_s, sent_s + to_server_s + from_server_s)


@given(
    offset_s=st.floats(min_value=-1e6, max_value=1e6),
    exchanges=st.lists(
        st.tuples(st.floats(min_value=0.9, max_value=5.0), DELAY_S, DELAY_S), min_size=1, max_size=80
    ),
)
def test_a_deadline_is_never_taken_for_later_than_it_is(
    offset_s: float, exchanges: list[tuple[float, float, float]]
) -> None:
    clock, now_s, shortest_s = ServerClock(), 0.0, 10.0
    for pause_s, to_server_s, from_server_s in exchanges:
        now_s += pause_s
        exchange(clock, offset_s, now_s, to_server_s, from_server_s)
        now_s += to_server_s + from_server_s
        shortest_s = min(shortest_s, to_server_s)
    found_s = clock.mono_s_of(EPOCH + timedelta(seconds=offset_s + 500))
    assert found_s is not None
    assert 500 - DATE_RESOLUTION_S - max(shortest_s, 2.0) - 0.001 <= found_s <= 500 + 0.001


def test_several_exchanges_tell_more_than_the_header_does() -> None:
    clock = ServerClock()
    for number in range(60):
        exchange(clock, 0.0, number * 1.017, 0.001, 0.001)
    found_s = clock.mono_s_of(EPOCH + timedelta(seconds=100))
    assert found_s is not None
    assert 100 - 0.02 < found_s <= 100


def test_a_clock_that_was_set_anew_is_believed() -> None:
    clock = ServerClock()
    exchange(clock, 0.0, 1.0, 0.0, 0.0)
    exchange(clock, -3600.0, 2.0, 0.0, 0.0)
    found_s = clock.mono_s_of(EPOCH)
    assert found_s is not None
    assert 3599 - 0.001 <= found_s <= 3600 + 0.001


def test_nothing_is_known_before_a_date() -> None:
    assert ServerClock().mono_s_of(EPOCH) is None
