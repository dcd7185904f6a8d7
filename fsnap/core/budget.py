"""Deadline arithmetic: how long a commit takes, and whether it fits."""

from __future__ import annotations

from dataclasses import dataclass

from fsnap.core.model import Config, Facts

ASSUMED_COMMIT_BPS = 200 * 1024 * 1024
"""Freeze to commit before anything was measured: what two cores and one disk do."""

ASSUMED_WINDOW_MS = {"aws": 120_000, "gcp": 30_000, "azure": 30_000, "slurm": 30_000, "none": 25_000}
"""The window that is planned for while no notice says another: each cloud's documented least; with no
provider SIGTERM alone is a notice, and ``--term-window`` is 25 s unless told otherwise."""

OTHER_WINDOW_MS = 120_000

DUMPS_PER_NOTICE = 5
"""A dump that fails this often within one window is not tried again in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What can be done in the time left."""

    commit_ms: int
    """From the freeze to the commit."""
    left_ms: int
    measured: bool
    """The rate was measured on this node; an assumed one never forbids a dump."""

    @property
    def margin_ms(self) -> int:
        """Left over between the planned commit and the deadline; negative: it does not fit."""
        return self.left_ms - self.commit_ms

    @property
    def go(self) -> bool:
        """Try the dump.  Only a measured rate that does not fit says no: a try costs a pause at most."""
        return self.left_ms > 0 and (self.margin_ms >= 0 or not self.measured)


def plan_evacuation(facts: Facts, left_ms: int) -> Plan:
    """The plan for a final dump with *left_ms* to go."""
    rate = max(1, facts.commit_bps or ASSUMED_COMMIT_BPS)
    total = facts.tree_bytes + facts.files_bytes
    # What a warm pass has put is dumped, read and hashed, but neither compressed nor put again.
    warm = min(total, facts.warm_bytes)
    commit_ms = facts.fixed_ms + (total - warm) * 1000 // rate
    commit_ms += warm * 1000 // max(rate, facts.warm_bps or 0)
    return Plan(commit_ms=commit_ms, left_ms=left_ms, measured=facts.commit_bps is not None)


def assumed_window_ms(provider: str) -> int:
    """The window to expect of *provider* (the part before a colon)."""
    return ASSUMED_WINDOW_MS.get(provider.split(":", 1)[0], OTHER_WINDOW_MS)


def interval_ms(config: Config, facts: Facts) -> int:
    """Time between periodic checkpoints.

    The user's, or the planner's: five minutes, stretched until the freeze of one costs no more
    than the allowed slowdown.
    """
    if config.interval_ms is not None:
        return config.interval_ms
    stretched = facts.last_freeze_ms * 1000 // max(1, config.max_overhead_permille)
    return max(300_000, stretched)
