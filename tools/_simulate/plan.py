"""What a seed means: the task, its scheduler, and everything that will go wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from _simulate.store import StoreFaults
from _simulate.tree import Job
from fsnap.core.model import Config
from fsnap.crashpoints import CrashPoint

KINDS = {
    "agent killed": 4,
    "agent stopped": 3,
    "agent defect": 1,
    "node dies": 3,
    "node restarts": 1,
    "node paused": 1,
    "partition": 3,
    "outage": 2,
    "notice": 8,
    "false notice": 3,
    "notice taken back": 2,
    "notice twice": 1,
    "SIGTERM": 2,
    "cancelled": 0.5,
    "init dies": 1,
    "wall clock jumps": 1,
    "pack rots": 0.5,
    "early attempt": 4,
    "equal attempt": 1,
    "lower attempt": 1,
    "fresh attempt": 0.3,
    "checkpoint asked": 1,
}
"""Kinds of faults, and how often each is chosen."""

RATES = {
    "dump fails": 0.3,
    "dump fails late": 0.2,
    "restore fails": 0.4,
    "CRIU dies at the gate": 0.2,
    "no such command": 0.3,
    "capsule made slowly": 0.5,
    "restored tree dies": 0.7,
}
"""The most that each may come to, in a life in which it happens at all."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong: at a time, or when an agent comes to a point for the *nth* time."""

    kind: str
    at_s: float
    point: CrashPoint | None
    nth: int
    delay_s: float
    """From the point on."""
    length_s: float


@dataclass(frozen=True, slots=True)
class Plan:
    """One life."""

    job: Job
    policy: str
    """``aws-batch``: a later attempt proves the end of the one before; ``manual``: it proves nothing;
    ``plain``: attempts are not counted, and wait for the lease."""
    config: Config
    shared: bool
    fails_once: bool
    anew: bool
    """When it has ended it is asked for with ``--fresh``, not just once more."""
    faults: tuple[Fault, ...]
    faulty_s: float
    """The faults stop here."""
    store: StoreFaults = field(default_factory=StoreFaults)
    rates: dict[str, float] = field(default_factory=dict)


def draw(rng: Random) -> Plan:
    """The plan of the life whose seed *rng* has."""
    policy = rng.choice(("aws-batch", "manual", "manual", "plain"))
    faulty_s = rng.uniform(15.0, 60.0)
    shared = rng.random() < 0.15
    rates = {name: most * rng.random() for name, most in RATES.items() if rng.random() < 0.15}
    kinds = {kind: weight for kind, weight in KINDS.items() if _may(kind, policy, shared=shared)}
    return Plan(
        job=Job(units=rng.randrange(10, 60), unit_s=rng.choice((0.3, 0.5, 1.0))),
        policy=policy,
        config=Config(
            lease_ms=0 if policy == "aws-batch" else rng.choice((6_000, 8_000, 12_000)),
            after_commit=rng.choice(("hold", "exit", "exit")) if policy != "aws-batch" else "hold",
            interval_ms=rng.choice((None, 4_000, 8_000, 15_000)),
            shared_state=shared,
            on_restore_failure=rng.choice(("restart", "fail")),
        ),
        shared=shared,
        fails_once=rng.random() < 0.08,
        anew=rng.random() < 0.05,
        faults=tuple(_fault(rng, kinds, faulty_s) for _ in range(rng.choice((1, 2, 2, 3, 3, 4, 6)))),
        faulty_s=faulty_s,
        store=_store(rng),
        rates=rates,
    )


def _may(kind: str, policy: str, *, shared: bool) -> bool:
    """A later attempt that proves the end of the one before can't be early."""
    if kind in ("early attempt", "equal attempt", "lower attempt"):
        return policy == "manual"
    return kind != "node paused" or not shared


def _store(rng: Random) -> StoreFaults:
    if rng.random() < 0.5:
        return StoreFaults()
    return StoreFaults(
        busy=rng.choice((0.0, 0.02, 0.2)),
        lost=rng.choice((0.0, 0.02, 0.1, 0.3)),
        slow=rng.choice((0.0, 0.1)),
    )


def _fault(rng: Random, kinds: dict[str, float], faulty_s: float) -> Fault:
    kind = rng.choices(list(kinds), weights=list(kinds.values()))[0]
    at_point = kind.startswith(("agent", "node", "partition", "SIGTERM", "early")) and rng.random() < 0.6
    return Fault(
        kind=kind,
        at_s=rng.uniform(0.0, faulty_s * 0.8),
        point=rng.choice(list(CrashPoint)) if at_point or kind == "agent defect" else None,
        nth=rng.choice((1, 1, 1, 2, 3, 5)),
        delay_s=0.0 if kind == "agent defect" else rng.choice((0.0, 0.0, 0.01, 0.1)) * rng.random(),
        length_s=rng.choice((1.0, 5.0, 15.0, 25.0)) * (0.5 + rng.random()),
    )
