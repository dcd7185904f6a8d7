"""How long a periodic checkpoint freezes, beside a bare dump of a like process to a like place."""

from __future__ import annotations

import os
import shutil
import time
from itertools import pairwise
from typing import TYPE_CHECKING

from _bench.agent import AgentRun
from _bench.naive import BareCapsule
from fsnap.core.events import SnapshotSaved

if TYPE_CHECKING:
    from _bench.bench import Bench

MIB_PER_S = 64
"""A checkpoint of this size is over in a second, so that the next one does not meet a bare dump."""
SPARE_S = 6


def freeze_pairs(bench: Bench, store: str) -> list[tuple[float, float]]:
    """Seconds frozen, by CRIU's own account: a periodic checkpoint, and ``criu dump --leave-running``."""
    folder, side = bench.folder("freeze"), bench.side(store)
    state = folder / "bare-state"
    state.mkdir()
    interval_s = SPARE_S + bench.size_mib // MIB_PER_S
    flags = ("--interval", str(interval_s), "--max-overhead", "100", "--warm", "off")
    bare = BareCapsule(folder / "bare", state)
    run = AgentRun(folder, bench.command(), side.url(0), side.env, *flags)
    bares: list[float] = []
    try:
        bare.start(bench.command())
        run.wait_ready()

        def once(number: int) -> None:
            run.wait_snapshot(number + 1)
            # Not at once: memory that was just given back is found sooner than what has lain idle, and
            # fsnap's next checkpoint comes as long after this dump.
            time.sleep(interval_s / 2)
            bares.append(bare.dump(leave_running=True))
            bare.unlock_network()
            shutil.rmtree(bare.images)
            os.sync()

        bench.repeat(f"periodic checkpoints, every {interval_s} s", once)
        run.cancel()
        return list(zip(_frozen_s(run)[: bench.runs], bares, strict=True))
    finally:
        run.kill()
        bare.end()
        side.clear()
        shutil.rmtree(folder, ignore_errors=True)


def _frozen_s(run: AgentRun) -> list[float]:
    """Of each checkpoint, as the facts of the decision after it tell."""
    records = run.records()
    return [
        after.facts.last_freeze_ms / 1000
        for record, after in pairwise(records)
        if isinstance(record.event, SnapshotSaved)
    ]
