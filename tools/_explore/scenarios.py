"""What is searched: configurations of ``run``, schedulers, and bounds."""

from __future__ import annotations

from dataclasses import dataclass

from _explore.machine import TICK_MS, Machine
from _explore.rules import Rules
from _explore.search import Search
from _explore.shell import Shell
from _explore.world import Budget
from fsnap.core.model import Config

NEVER_MS = 10**9
ALL = 10_000
"""A depth that no search reaches: it ends when every world was seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A configuration of ``run`` under one kind of scheduler."""

    scheduler: str
    proves: bool
    """It starts a later attempt only when the earlier one's host or container is gone."""
    lease: int
    """Ticks.  One is enough: no constant of the rules lies between nothing and a lease, and where every bound
    is a multiple of one length, whole multiples of it reach all that real times do."""
    after_commit: str
    about: str
    one_job: bool = True
    """All starts are attempts of one job; else each is one of a job of its own, or has no number."""


SCENARIOS = {
    "lease": Scenario(
        scheduler="slurm",
        proves=False,
        lease=1,
        after_commit="exit",
        about="attempts prove nothing, the holder has a lease, and exits after its final commit",
    ),
    "hold": Scenario(
        scheduler="slurm",
        proves=False,
        lease=1,
        after_commit="hold",
        about="attempts prove nothing, the holder has a lease, and holds after its final commit",
    ),
    "hand": Scenario(
        scheduler="manual",
        proves=False,
        one_job=False,
        lease=1,
        after_commit="exit",
        about="started by hand: no attempt tells of another one, the holder has a lease, and exits after its"
        " final commit",
    ),
    "proof": Scenario(
        scheduler="aws-batch",
        proves=True,
        lease=0,
        after_commit="hold",
        about="a later attempt proves the end of the host before it; no lease, holds after its final commit",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One search and its bounds."""

    scenario: str
    nodes: int = 2
    starts: int
    faults: int = 0
    notices: int = 0
    checkpoints: int = 0
    drift: int = 0
    depth: int = ALL

    def search(self, shell: Shell) -> Search:
        """Its worlds; the rules are taken as they are now."""
        scenario = SCENARIOS[self.scenario]
        config = Config(
            lease_ms=scenario.lease * TICK_MS, after_commit=scenario.after_commit, interval_ms=NEVER_MS
        )
        rules = Rules(config, scenario.scheduler, one_job=scenario.one_job)
        machine = Machine(rules, shell, proves=scenario.proves)
        budget = Budget(
            starts=self.starts,
            faults=self.faults,
            notices=self.notices,
            periods=self.checkpoints,
            drift=self.drift,
        )
        return Search(machine, self.nodes, budget)

    def __str__(self) -> str:
        counts = {
            "node": self.nodes,
            "start": self.starts,
            "fault": self.faults,
            "notice": self.notices,
            "checkpoint": self.checkpoints,
            "missed tick": self.drift,
        }
        told = (f"{count} {what}{'s' * (count > 1)}" for what, count in counts.items() if count)
        return f"{self.scenario}: {', '.join(told)}"


DEFAULT = (
    Run(scenario="lease", nodes=3, starts=3),
    Run(scenario="lease", starts=2, faults=1),
    Run(scenario="lease", starts=3, faults=1, notices=1, checkpoints=1, depth=15),
    Run(scenario="lease", nodes=1, starts=2, faults=1, notices=1, depth=25),
    Run(scenario="hand", starts=2, faults=1),
    Run(scenario="hold", starts=2, faults=1, notices=1, depth=16),
    Run(scenario="proof", starts=3, faults=1, notices=1, checkpoints=1, depth=24),
)
"""About a minute on one core."""

QUICK = (
    Run(scenario="hand", starts=2),
    Run(scenario="lease", starts=2, faults=1),
    Run(scenario="lease", starts=2, faults=1, notices=1, checkpoints=1, depth=13),
    Run(scenario="hold", starts=2, faults=1, notices=1, depth=14),
    Run(scenario="proof", nodes=1, starts=2, faults=1, notices=1, depth=24),
    Run(scenario="proof", starts=2, faults=1, notices=1, checkpoints=1, depth=15),
)
"""Some ten seconds: what every change is held against."""
