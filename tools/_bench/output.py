"""A figure, and the two ways in which figures are shown."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from _bench.stats import interval, ratio_of_medians

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What a figure should be."""

    at: float
    at_most: bool = True

    def met_by(self, value: float) -> bool:
        """Whether *value* reaches it."""
        return value <= self.at if self.at_most else value >= self.at


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured figure."""

    name: str
    value: float | None
    """``None`` where this machine can't measure it; then *reason* says why."""
    unit: str
    goal: Goal
    baseline: float | None
    """The median of what fsnap is compared with, in *measured_unit*."""
    baseline_name: str
    measured: float | None
    """fsnap's own median, in *measured_unit*."""
    measured_unit: str
    runs: int
    store: str | None
    size_mib: int
    low: float | None = None
    high: float | None = None
    """Ends of the 95 % interval of *value*."""
    reason: str | None = None

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; ``None``: not measured."""
        return None if self.value is None else self.goal.met_by(self.value)

    def plain(self) -> dict[str, Any]:
        """As JSON data."""
        return {
            "name": self.name,
            "value": _rounded(self.value),
            "unit": self.unit,
            "goal": self.goal.at,
            "goal_kind": "at most" if self.goal.at_most else "at least",
            "met": self.met,
            "baseline": _rounded(self.baseline),
            "baseline_name": self.baseline_name,
            "measured": _rounded(self.measured),
            "measured_unit": self.measured_unit,
            "low": _rounded(self.low),
            "high": _rounded(self.high),
            "runs": self.runs,
            "store": self.store,
            "size_mib": self.size_mib,
            "reason": self.reason,
        }

    def line(self) -> str:
        """As a line for people."""
        if self.value is None:
            return f"{self._head()} not measured: {self.reason}"
        sign = "<=" if self.goal.at_most else ">="
        verdict = "met" if self.met else "NOT MET"
        told = f"{self._head()} {self.value:8.3f} {self.unit:5} {sign} {self.goal.at:<6g} {verdict:8}"
        if self.measured is not None and self.baseline is not None:
            told += f" {self.measured:.6g} {self.measured_unit} : {self.baseline:.6g} {self.baseline_name}"
        spread = f", {self.low:.3f} to {self.high:.3f}" if self.low is not None else ""
        return f"{told} ({self.runs} runs{spread})"

    def _head(self) -> str:
        return f"{self.name:22} {self.store or '-':5} {self.size_mib:5} MiB"


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")


def compared(
    name: str,
    pairs: Sequence[tuple[float, float]],
    *,
    goal: Goal,
    unit: str,
    baseline_name: str,
    store: str | None,
    size_mib: int,
) -> Figure:
    """The figure of interleaved *pairs*, fsnap's first: the ratio of their medians.  They are in *unit*."""
    ours, theirs = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    low, high = interval(pairs)
    return Figure(
        name=name,
        value=ratio_of_medians(ours, theirs),
        unit="ratio",
        goal=goal,
        baseline=median(theirs),
        baseline_name=baseline_name,
        measured=median(ours),
        measured_unit=unit,
        runs=len(pairs),
        store=store,
        size_mib=size_mib,
        low=low,
        high=high,
    )


def document(figures: Sequence[Figure]) -> str:
    """What ``--json`` prints."""
    return json.dumps({"schema": SCHEMA, "figures": [figure.plain() for figure in figures]}, indent=1)


class Progress:
    """Tells on stderr what goes on, with the seconds since the start."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()

    def say(self, text: str) -> None:
        """One line."""
        print(f"bench {time.monotonic() - self._began_s:6.1f} s  {text}", file=sys.stderr, flush=True)
