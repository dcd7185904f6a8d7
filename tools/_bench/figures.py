"""The figures: name, goal, and how each is measured."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import TYPE_CHECKING

from _bench.cutting import cut_pairs
from _bench.freezing import freeze_pairs
from _bench.lives import Life
from _bench.output import Figure, Goal, compared
from _bench.sinking import sink_pairs
from _bench.stats import interval, ratio_of_medians
from _bench.warming import overhead_pairs, scattered_deltas, warm_dumps

if TYPE_CHECKING:
    from _bench.bench import Bench

MIB = 1 << 20


def cold(bench: Bench) -> list[Figure]:
    """Freeze to commit of a first snapshot."""
    found = []
    for store in bench.stores("file", "s3"):
        lives = bench.lives(store)
        if store == "file":
            pairs = [(life.cold_s, life.naive.dump_s) for life in lives if life.naive is not None]
            goal, name = Goal(at=0.7), "naive"
        else:
            pairs = [
                (life.cold_s, life.stored_bytes / life.put_rate_bps) for life in lives if life.put_rate_bps
            ]
            goal, name = Goal(at=1.25), "floor"
        found.append(
            compared(
                "freeze-to-commit-cold",
                pairs,
                goal=goal,
                unit="s",
                baseline_name=name,
                store=store,
                size_mib=bench.size_mib,
            )
        )
    return found


def restore(bench: Bench) -> list[Figure]:
    """Start of the fetch to a running tree."""
    found = []
    for store in bench.stores("s3"):
        pairs = [
            (life.restore_s, life.naive.restore_s)
            for life in bench.lives(store)
            if life.restore_s and life.naive and life.naive.restore_s
        ]
        found.append(
            compared(
                "restore",
                pairs,
                goal=Goal(at=0.7),
                unit="s",
                baseline_name="naive",
                store=store,
                size_mib=bench.size_mib,
            )
        )
    return found


def freeze(bench: Bench) -> list[Figure]:
    """CRIU's frozen_time of a periodic checkpoint and of a bare dump."""
    return [
        compared(
            "freeze",
            freeze_pairs(bench, store),
            goal=Goal(at=1.15),
            unit="s",
            baseline_name="criu dump",
            store=store,
            size_mib=bench.size_mib,
        )
        for store in bench.stores("file")
    ]


def delta(bench: Bench) -> list[Figure]:
    """What a second snapshot puts."""
    found = []
    for store in bench.stores("file"):
        deltas = [life.delta for life in bench.lives(store) if life.delta is not None]
        found.append(
            compared(
                "delta",
                [(float(one.put_bytes), float(one.changed_bytes)) for one in deltas],
                goal=Goal(at=1.5),
                unit="bytes",
                baseline_name="changed pages",
                store=store,
                size_mib=bench.size_mib,
            )
        )
    return found


def delta_scattered(bench: Bench) -> list[Figure]:
    """The same, with single pages changed at random."""
    return [
        compared(
            "delta-scattered",
            [(float(one.put_bytes), float(one.changed_bytes)) for one in scattered_deltas(bench, store)],
            goal=Goal(at=3),
            unit="bytes",
            baseline_name="changed pages",
            store=store,
            size_mib=bench.size_mib,
        )
        for store in bench.stores("file")
    ]


def warm(bench: Bench) -> list[Figure]:
    """Freeze to commit after a warm pass, when 2 % of the memory have been rewritten since."""
    found = []
    for store in bench.stores("file", "s3"):
        dumps = warm_dumps(bench, store)
        bare = store == "file"
        found.append(
            compared(
                "freeze-to-commit-warm",
                [(one.warm_s, one.naive.criu_s if bare else one.naive.dump_s) for one in dumps],
                goal=Goal(at=1.5 if bare else 0.35),
                unit="s",
                baseline_name="criu dump" if bare else "naive",
                store=store,
                size_mib=bench.size_mib,
            )
        )
    return found


def warm_overhead(bench: Bench) -> list[Figure]:
    """What a task loses while passes are made, that keeps each processor waiting for memory."""
    pairs = overhead_pairs(bench)
    low, high = interval(pairs)
    without, with_passes = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    return [
        Figure(
            name="warm-overhead",
            value=100 * (ratio_of_medians(without, with_passes) - 1),
            unit="%",
            goal=Goal(at=2),
            baseline=median(without) / MIB,
            baseline_name="without",
            measured=median(with_passes) / MIB,
            measured_unit="MiB/s",
            runs=len(pairs),
            store=None,
            size_mib=bench.size_mib,
            low=100 * (low - 1),
            high=100 * (high - 1),
        )
    ]


def agent_memory(bench: Bench) -> list[Figure]:
    """Peak of the agent above its idle size; the largest of all runs."""
    found = []
    for store in bench.stores("s3"):
        lives: list[Life] = bench.lives(store)
        idle_mib = median(life.idle_bytes for life in lives) / MIB
        peak_mib = max(life.above_idle_bytes for life in lives) / MIB
        found.append(
            Figure(
                name="agent-memory",
                value=peak_mib,
                unit="MiB",
                goal=Goal(at=400),
                baseline=idle_mib,
                baseline_name="idle agent",
                measured=idle_mib + peak_mib,
                measured_unit="MiB",
                runs=len(lives),
                store=store,
                size_mib=bench.size_mib,
            )
        )
    return found


def cut(bench: Bench) -> list[Figure]:
    """Cutting and hashing on one core, against hashing alone."""
    bench.progress.say("cut")
    return [
        compared(
            "cut",
            cut_pairs(bench.program, bench.size_mib, bench.runs),
            goal=Goal(at=0.5, at_most=False),
            unit="MiB/s",
            baseline_name="BLAKE3",
            store=None,
            size_mib=bench.size_mib,
        )
    ]


def s3_sink(bench: Bench) -> list[Figure]:
    """The put path without a server that has to do anything."""
    bench.progress.say("s3-sink")
    return [
        compared(
            "s3-sink",
            sink_pairs(bench),
            goal=Goal(at=0.6, at_most=False),
            unit="MiB/s",
            baseline_name="curl -T",
            store="s3",
            size_mib=bench.size_mib,
        )
    ]


FIGURES: dict[str, Callable[[Bench], list[Figure]]] = {
    "freeze-to-commit-cold": cold,
    "freeze-to-commit-warm": warm,
    "freeze": freeze,
    "delta": delta,
    "delta-scattered": delta_scattered,
    "restore": restore,
    "warm-overhead": warm_overhead,
    "agent-memory": agent_memory,
    "cut": cut,
    "s3-sink": s3_sink,
}
NEED_NO_CRIU = frozenset({"cut", "s3-sink", "warm-overhead"})
