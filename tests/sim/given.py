"""Lives whose faults a test names itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from _simulate.main import simulate
from _simulate.plan import Fault, Plan
from _simulate.tree import Job
from _simulate.world import World

from fsnap.core.model import Config
from fsnap.crashpoints import CrashPoint

SEEDS = range(1, 301)


def fault(kind: str, at_s: float, length_s: float = 1.0) -> Fault:
    """At a time."""
    return Fault(kind=kind, at_s=at_s, point=None, nth=1, delay_s=0.0, length_s=length_s)


def at_point(kind: str, point: CrashPoint, nth: int, length_s: float = 1.0) -> Fault:
    """When an agent comes to *point* for the *nth* time."""
    return replace(fault(kind, 0.0, length_s), point=point, nth=nth)


def plan(
    *faults: Fault, policy: str = "manual", config: Config | None = None, units: int = 50, **others: Any
) -> Plan:
    """A life of *units* of half a second, with a lease of 6 s."""
    return Plan(
        job=Job(units=units, unit_s=0.5),
        policy=policy,
        config=config or Config(lease_ms=6_000),
        shared=False,
        fails_once=False,
        anew=False,
        faults=faults,
        faulty_s=30.0,
        **others,
    )


def violations(given: Plan | None = None, seeds: Iterable[int] = SEEDS) -> Iterable[str]:
    """Of the seeds that have one; each with *given*, or with the plan that it draws."""
    for seed in seeds:
        violation = simulate(seed).violation if given is None else World(seed, given=given).live().violation
        if violation:
            yield violation


def found(*invariants: str, given: Plan | None = None, seeds: Iterable[int] = SEEDS) -> bool:
    """Some seed breaks one of *invariants*."""
    return any(violation.startswith(invariants) for violation in violations(given, seeds))
