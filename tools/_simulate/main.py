"""``tools/simulate``: many seeds, what they met, and the first that broke an invariant."""

from __future__ import annotations

import argparse
import functools
import itertools
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from _simulate.plan import KINDS, RATES
from _simulate.world import Result, World
from fsnap.charts import task_chart
from fsnap.journal.local import Journal


def simulate(seed: int, journal: str = "memory") -> Result:
    """The life of one seed, with journals in ``memory`` or in ``sqlite`` files."""
    from loguru import logger

    logger.remove()
    if journal == "memory":
        return World(seed).live()
    with tempfile.TemporaryDirectory(prefix="fsnap-simulate-") as folder:
        numbers = itertools.count()
        return World(seed, new_journal=lambda: Journal.open(Path(folder) / f"{next(numbers)}.db")).live()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tools/simulate",
        description="Lives of one task under faults; a seed always lives the same life.",
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="the first seed (1)")
    parser.add_argument("--count", type=int, default=1, metavar="M", help="how many seeds from there on (1)")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, metavar="J", help="processes (one per CPU)"
    )
    parser.add_argument(
        "--journal",
        choices=("memory", "sqlite"),
        default="memory",
        help="the double, or the real one, 20 times slower",
    )
    parser.add_argument("--until-failure", action="store_true", help="go on until an invariant is broken")
    parser.add_argument("--verbose", action="store_true", help="print each life's trace")
    return parser


def main(arguments: list[str]) -> int:
    """1 when an invariant was broken, else 0."""
    options = _parser().parse_args(arguments)
    began = time.monotonic()
    table = Coverage()
    for result in _results(options):
        table.add(result)
        if options.verbose or result.violation:
            print(f"seed {result.seed}:")
            print("\n".join(result.trace))
        if result.violation:
            print(f"seed {result.seed} FAILED after {result.simulated_s:.1f} simulated s: {result.violation}")
            print(f"again: tools/simulate --seed {result.seed} --verbose --journal {options.journal}")
            return 1
    took_s = time.monotonic() - began
    table.print()
    last = options.seed + table.lives - 1
    print(f"seeds {options.seed} to {last}: nothing broken; {table.lives / took_s:.0f} lives a second")
    return 0


def _results(options: argparse.Namespace) -> Iterator[Result]:
    seeds = _seeds(options)
    live = functools.partial(simulate, journal=options.journal)
    if options.jobs < 2 or (options.count < 50 and not options.until_failure):
        yield from map(live, seeds)
        return
    with multiprocessing.get_context("fork").Pool(options.jobs) as pool:
        yield from pool.imap(live, seeds, chunksize=8)


def _seeds(options: argparse.Namespace) -> Iterator[int]:
    seed = options.seed
    while options.until_failure or seed < options.seed + options.count:
        yield seed
        seed += 1


class Coverage:
    """In how many lives each fault happened and each arrow of the chart was taken."""

    def __init__(self) -> None:
        self.lives = 0
        self.attempts = 0
        self.met: Counter[str] = Counter()
        self.arrows: Counter[tuple[str, str, str]] = Counter()

    def add(self, result: Result) -> None:
        """One life more."""
        self.lives += 1
        self.attempts += result.attempts
        self.met.update(result.met)
        self.arrows.update(result.arrows)

    def never(self) -> list[tuple[str, str, str]]:
        """Arrows that no life took."""
        chart = task_chart()
        return sorted({(a.trigger, a.source, a.dest) for a in chart.arrows} - set(self.arrows))

    def print(self) -> None:
        """The table."""
        print(f"{self.lives} lives, {self.attempts} attempts; lives that met each fault:")
        for name in sorted({*self.met, *KINDS, *RATES}):
            print(f"  {self.met[name]:6}  {name}")
        print("lives that took each arrow:")
        for (trigger, source, dest), count in sorted(self.arrows.items()):
            print(f"  {count:6}  {trigger}: {source} -> {dest}")
        for trigger, source, dest in self.never():
            print(f"   NEVER  {trigger}: {source} -> {dest}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
