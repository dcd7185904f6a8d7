"""How a warm pass gives way, and what its thread notes of it."""

from __future__ import annotations

from typing import Any, cast

import pytest

from fsnap.agent.warm import LEAST_S, NICE_STEP, Warm, niceness
from fsnap.clock import SystemClock
from fsnap.core.budget import plan_evacuation
from fsnap.core.model import Facts
from fsnap.snapshots.known import KnownChunks
from fsnap.snapshots.warm import WarmStats
from fsnap.stores.memory import MemoryStore

MIB = 1 << 20


@pytest.mark.parametrize("processors", [1, 2, 4, 16, 96])
def test_a_busy_machine_loses_about_half_of_what_it_may(processors: int) -> None:
    weight = NICE_STEP ** -niceness(0.02, processors)
    lost = weight / (weight + 1) / processors
    assert lost <= 0.0155
    assert lost > 0.004


def test_where_everything_may_be_lost_nothing_is_nice() -> None:
    assert niceness(1.0, 2) == 0


class Book:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int]] = []

    def warmed(self, read_bytes: int, same_bytes: int, busy_s: float) -> None:
        self.told.append((read_bytes, same_bytes))


def stats(new_mib: int) -> WarmStats:
    return WarmStats(
        read_bytes=100 * MIB,
        pages_bytes=100 * MIB,
        new_bytes=new_mib * MIB,
        put_bytes=new_mib * MIB,
        busy_s=0.1,
        took_s=1.0,
    )


def test_passes_that_find_much_new_become_rarer() -> None:
    book = Book()
    warm = Warm(
        capsules=cast(Any, None),
        trees=cast(Any, None),
        store=MemoryStore(),
        prefix="tasks/t",
        known=KnownChunks(),
        clock=SystemClock(),
        overhead_permille=20,
        may_run=lambda: True,
        on_pass=book.warmed,
    )
    waits = []
    for new_mib in (100, 50, 50, 1):
        warm._note(stats(new_mib))
        waits.append(warm._wait_s)
    assert waits == [LEAST_S, 2 * LEAST_S, 4 * LEAST_S, LEAST_S]
    assert [same // MIB for _, same in book.told] == [0, 50, 50, 99]


def test_what_passes_stored_shortens_the_plan_and_never_lengthens_it() -> None:
    cold = Facts(tree_bytes=1000 * MIB, commit_bps=100 * MIB)
    warm = Facts(tree_bytes=1000 * MIB, commit_bps=100 * MIB, warm_bytes=900 * MIB, warm_bps=1000 * MIB)
    slow = Facts(tree_bytes=1000 * MIB, commit_bps=100 * MIB, warm_bytes=5000 * MIB, warm_bps=1)
    plans = [plan_evacuation(facts, 5_000) for facts in (cold, warm, slow)]
    assert [plan.commit_ms - cold.fixed_ms for plan in plans] == [10_000, 1_900, 10_000]
    assert [plan.go for plan in plans] == [False, True, False]
