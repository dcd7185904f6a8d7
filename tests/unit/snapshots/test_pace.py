"""How hard to compress follows from who waits for whom."""

from __future__ import annotations

from fsnap.snapshots.pace import FASTEST, LEVELS, USUAL, Pace


def told(pace: Pace, *on_their_way: int) -> int:
    for packs in on_their_way:
        pace.pack_is_full(on_their_way=packs, connections=4)
    return pace.level


def test_a_store_that_waits_gets_more_bytes_with_less_work() -> None:
    assert told(Pace(), 0, 1, 0) == FASTEST


def test_a_store_that_is_waited_for_gets_fewer_bytes() -> None:
    assert told(Pace(FASTEST), 4, 5, 4, 4) == LEVELS[-1]


def test_what_was_learnt_stays() -> None:
    assert told(Pace(), 2, 3, 2) == USUAL


def test_one_that_does_not_adapt() -> None:
    assert told(Pace(adapts=False), 0, 0, 0) == USUAL
