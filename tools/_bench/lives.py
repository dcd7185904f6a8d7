"""One life: a process is started, dumped, restored on a new node, dumped again; the naive way beside it."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import zstandard

from _bench.agent import AgentRun, freeze_to_commit_s, last_snapshot, restore_s
from _bench.naive import NaiveRound, naive_round
from _bench.sides import S3Side, Side
from _bench.task import base_of, read_pages, rewrite

if TYPE_CHECKING:
    from _bench.bench import Bench

QUIET = ("--interval", "off", "--warm", "off")
"""Nothing is stored before the notice."""

MAX_RATE_BYTES = 256 << 20
"""As many bytes tell the server's rate as well as more would."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Which parts of a life are wanted."""

    naive: bool
    restore: bool
    changed: bool
    """Rewrite pages and take a second snapshot."""
    put_rate: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """What was measured of one; ``None`` for parts that were not wanted."""

    cold_s: float
    stored_bytes: int
    naive: NaiveRound | None
    put_rate_bps: float | None
    restore_s: float | None
    delta: Delta | None
    idle_bytes: int
    above_idle_bytes: int
    """Of the agent, whichever of its snapshots and restores took most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """A second snapshot."""

    put_bytes: int
    changed_bytes: int
    """The changed pages, compressed by zstd -1."""


def live(bench: Bench, side: Side, number: int, parts: Parts) -> Life:
    """Run one life with *side* as its store; whether fsnap or the naive way comes first alternates."""
    naive: NaiveRound | None = None
    folder = bench.folder("life")
    command = bench.command()

    def other() -> NaiveRound | None:
        return (
            naive_round(folder, command, side, f"naive-{number}", restore=parts.restore)
            if parts.naive
            else None
        )

    try:
        if number % 2:
            naive = other()
        found = _fsnap(bench, folder, side, number, parts)
        if not number % 2:
            naive = other()
        rate = None
        if parts.put_rate and isinstance(side, S3Side):
            rate = side.put_rate_bps(folder, min(found.stored_bytes, MAX_RATE_BYTES))
        return Life(
            cold_s=found.cold_s,
            stored_bytes=found.stored_bytes,
            naive=naive,
            put_rate_bps=rate,
            restore_s=found.restore_s,
            delta=found.delta,
            idle_bytes=found.idle_bytes,
            above_idle_bytes=found.above_idle_bytes,
        )
    finally:
        side.clear()
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Own:
    """fsnap's half of a life."""

    cold_s: float
    stored_bytes: int
    restore_s: float | None
    delta: Delta | None
    idle_bytes: int
    above_idle_bytes: int


def _fsnap(bench: Bench, folder: Path, side: Side, number: int, parts: Parts) -> _Own:
    url, command = side.url(number), bench.command()
    first = AgentRun(folder, command, url, side.env, *QUIET)
    try:
        base = base_of(first.wait_ready())
        first.memory.begin()
        os.sync()
        first.reclaim()
        cold_s, stored_bytes = freeze_to_commit_s(first), last_snapshot(first).stored_bytes
    finally:
        first.kill()
    idle_bytes, above = first.memory.idle_bytes, first.memory.above_idle_bytes
    if not (parts.restore or parts.changed):
        return _Own(
            cold_s=cold_s,
            stored_bytes=stored_bytes,
            restore_s=None,
            delta=None,
            idle_bytes=idle_bytes,
            above_idle_bytes=above,
        )
    shutil.rmtree(folder / "home")  # the next node knows nothing
    os.sync()
    began_s = time.time()
    second = AgentRun(folder, command, url, side.env, *QUIET)
    try:
        second.memory.begin(idle_bytes)
        took_s = restore_s(second, second.wait_resumed(began_s))
        delta = None
        if parts.changed:
            delta = _second_snapshot(second, base)
        else:
            second.cancel()
    finally:
        second.kill()
    return _Own(
        cold_s=cold_s,
        stored_bytes=stored_bytes,
        restore_s=took_s,
        delta=delta,
        idle_bytes=idle_bytes,
        above_idle_bytes=max(above, second.memory.above_idle_bytes),
    )


def _second_snapshot(run: AgentRun, base: int, *, scattered: bool = False) -> Delta:
    time.sleep(1.0)
    changed = changed_bytes(run, base, scattered=scattered)
    run.reclaim()
    return Delta(put_bytes=last_snapshot(run).stored_bytes, changed_bytes=changed)


def changed_bytes(run: AgentRun, base: int, *, scattered: bool) -> int:
    """Rewrite 2 % of the memory; what the changed pages come to by zstd -1, as one stream."""
    runs = rewrite(run.pid, run.voice, scattered=scattered, alive=run.check)
    return len(zstandard.ZstdCompressor(level=1).compress(read_pages(run.pid, base, runs)))
