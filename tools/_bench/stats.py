"""Medians of few runs, and how sure they are."""

from __future__ import annotations

import random
from collections.abc import Sequence
from statistics import median

RESAMPLES = 2000
OUTER = 0.025
"""What is left out at either end: an interval of 95 %."""


def ratio_of_medians(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Median over median."""
    return median(ours) / median(theirs)


def interval(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Where the ratio of medians lies with 95 % confidence, by resampling the interleaved *pairs*."""
    source = random.Random(0)
    found = sorted(
        ratio_of_medians([pair[0] for pair in drawn], [pair[1] for pair in drawn])
        for drawn in (source.choices(pairs, k=len(pairs)) for _ in range(RESAMPLES))
    )
    return found[int(RESAMPLES * OUTER)], found[int(RESAMPLES * (1 - OUTER))]
