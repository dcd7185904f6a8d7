"""Warm passes and deltas: a dump after a pass, scattered changes, and what passes cost the task."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from _bench.agent import AgentRun, freeze_to_commit_s, last_snapshot
from _bench.failure import BenchFailure
from _bench.lives import Delta, changed_bytes
from _bench.naive import NaiveRound, naive_round
from _bench.task import PATIENCE_S, Voice, base_of, rewrite
from fsnap.agent.warm import SHARE_PER_OVERHEAD, be_nice, niceness
from fsnap.clock import SystemClock
from fsnap.core.model import Config
from fsnap.criu import memory
from fsnap.snapshots.errors import Interrupted
from fsnap.snapshots.known import KnownChunks
from fsnap.snapshots.pageindex import PageIndex
from fsnap.snapshots.warm import WarmPass
from fsnap.stores.file import FileStore

if TYPE_CHECKING:
    from _bench.bench import Bench

WHOLE = ("--verbose", "--interval", "off", "--max-overhead", "100")
"""A pass that takes a whole processor, for a bench that would wait minutes for a throttled one."""
PASS = "warm pass: "
SLOT_S = 0.8
"""So long passes are made, and so long none are: short, so that load from elsewhere meets both alike."""
ROUNDS = 3
"""Of four slots each in a run: without, with, with, without, or the other way round."""
SETTLE_S = 0.2
OVERHEAD = Config().max_overhead_permille / 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmDump:
    """A final dump after a pass, and the naive way beside it."""

    warm_s: float
    put_bytes: int
    naive: NaiveRound


def warm_dumps(bench: Bench, store: str) -> list[WarmDump]:
    """Pass, rewrite 2 % in runs of 1 MiB, dump; interleaved with the naive way."""
    side = bench.side(store)

    def once(number: int) -> WarmDump:
        folder, command = bench.folder("warm"), bench.command()
        naive: NaiveRound | None = None
        try:
            if number % 2:
                naive = naive_round(folder, command, side, f"naive-{number}", restore=False)
            run = AgentRun(folder, command, side.url(number), side.env, *WHOLE)
            try:
                run.wait_ready()
                run.wait_log(PASS)
                rewrite(run.pid, run.voice, scattered=False, alive=run.check)
                os.sync()
                run.reclaim()
                warm_s, put_bytes = freeze_to_commit_s(run), last_snapshot(run).stored_bytes
            finally:
                run.kill()
            if naive is None:
                naive = naive_round(folder, command, side, f"naive-{number}", restore=False)
            return WarmDump(warm_s=warm_s, put_bytes=put_bytes, naive=naive)
        finally:
            side.clear()
            shutil.rmtree(folder, ignore_errors=True)

    return bench.repeat(f"dumps after a warm pass, {store}", once)


def scattered_deltas(bench: Bench, store: str) -> list[Delta]:
    """The second snapshot, on the node that restored the first and has made a pass of what it restored."""
    side = bench.side(store)

    def once(number: int) -> Delta:
        folder, command = bench.folder("scattered"), bench.command()
        try:
            first = AgentRun(folder, command, side.url(number), side.env, "--interval", "off")
            try:
                base = base_of(first.wait_ready())
                first.reclaim()
            finally:
                first.kill()
            shutil.rmtree(folder / "home")
            began_s = time.time()
            second = AgentRun(folder, command, side.url(number), side.env, *WHOLE)
            try:
                second.wait_resumed(began_s)
                second.wait_log(PASS)
                changed = changed_bytes(second, base, scattered=True)
                second.reclaim()
                return Delta(put_bytes=last_snapshot(second).stored_bytes, changed_bytes=changed)
            finally:
                second.kill()
        finally:
            side.clear()
            shutil.rmtree(folder, ignore_errors=True)

    return bench.repeat(f"scattered changes, {store}", once)


def overhead_pairs(bench: Bench) -> list[tuple[float, float]]:
    """Bytes per second that the task moves without passes, and while one follows the other.

    One process per processor adds arrays.  All of its memory changes all the time, so each pass
    compresses and puts everything: the dearest there is.
    """
    folder = bench.folder("overhead")
    cores = len(os.sched_getaffinity(0))
    command = [str(bench.program), "stream", str(max(8, bench.size_mib // cores))]
    tasks = [_Stream(command, folder / f"said-{number}") for number in range(cores)]
    proc = folder / "proc"
    proc.mkdir()
    for task in tasks:
        (proc / str(task.pid)).symlink_to(f"/proc/{task.pid}")
    try:
        for task in tasks:
            task.voice.wait("ready", task.check)

        def once(number: int) -> tuple[float, float]:
            without, slowed = 0.0, 0.0
            for with_passes in [bool(number % 2), not number % 2, not number % 2, bool(number % 2)] * ROUNDS:
                if with_passes:
                    slowed += _with_passes(tasks, proc, folder / "store")
                else:
                    without += _speed(tasks)
            return without / (2 * ROUNDS), slowed / (2 * ROUNDS)

        return bench.repeat("passes beside a task bound by memory", once)
    finally:
        for task in tasks:
            task.end()
        shutil.rmtree(folder, ignore_errors=True)


class _Stream:
    """A process that tells how fast it is."""

    def __init__(self, command: list[str], said: Path) -> None:
        with said.open("wb") as out:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out)
        self.pid = self._process.pid
        self.voice = Voice(said)

    def check(self) -> None:
        if self._process.poll() is not None:
            raise BenchFailure(f"the workload ended with {self._process.returncode}")

    def end(self) -> None:
        self._process.kill()
        self._process.wait(PATIENCE_S)


def _speed(tasks: list[_Stream]) -> float:
    """Bytes per second of all *tasks* together, over one slot."""
    time.sleep(SETTLE_S)
    for task in tasks:
        task.voice.mark()
    time.sleep(SLOT_S)
    total = 0.0
    for task in tasks:
        task.check()
        words = [line.split() for line in task.voice.lines() if line.startswith("speed ")]
        total += sum(int(word[1]) for word in words) / sum(int(word[2]) for word in words) * 1e9
    return total


def _with_passes(tasks: list[_Stream], proc: Path, store: Path) -> float:
    """The same while passes are made as the agent makes them, without a pause between them."""
    stop = threading.Event()
    problems: list[BaseException] = []

    def run() -> None:
        be_nice(niceness(OVERHEAD, len(tasks)))
        try:
            while not stop.is_set():
                _pass(proc, store, stop)
        except Interrupted:
            pass
        except OSError as problem:
            problems.append(problem)

    passes = threading.Thread(target=run)
    passes.start()
    try:
        return _speed(tasks)
    finally:
        stop.set()
        passes.join()
        shutil.rmtree(store, ignore_errors=True)
        if problems:
            raise BenchFailure(f"a warm pass failed: {problems[0]}")


def _pass(proc: Path, store: Path, stop: threading.Event) -> None:
    with WarmPass(
        store=FileStore(str(store)),
        prefix="tasks/bench",
        known=KnownChunks(pages=PageIndex()),
        clock=SystemClock(),
        share=SHARE_PER_OVERHEAD * OVERHEAD,
        may_go_on=lambda: not stop.is_set(),
    ) as warm:
        for segment in memory.segments(proc):
            warm.pages(segment.fill)
        warm.finish()
