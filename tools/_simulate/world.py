"""One life of a task, from its seed: nodes, attempts, faults, until the task has ended."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from _simulate import faults, plan, seams
from _simulate.checks import Checks
from _simulate.fibers import Endless, Fiber, Killed, Process, Scheduler
from _simulate.journal import AgentsJournal, MemoryJournal
from _simulate.node import SimNode
from _simulate.store import URL, Bucket, NodeStore, StoreFaults
from _simulate.threads import Queues, Threads
from fsnap.agent.service import START_PATIENCE, Service
from fsnap.agent.settings import RunSettings
from fsnap.core.model import Attempt, State
from fsnap.crashpoints import CrashPoint
from fsnap.errors import EXIT_STORE, AgentCrash, FsnapError, NotOurs
from fsnap.stores.retrying import RetryingStore

TASK = "job"
COMMAND = ("work", "--all")
PATIENCE_S = 600.0
"""After the faults have stopped the task ends within this time."""
MAX_EVENTS = 200_000


@dataclass(slots=True)
class Run:
    """One ``fsnap run`` on one node."""

    node: SimNode
    process: Process
    settings: RunSettings
    service: Service | None = None
    restarts: int = 0
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """How a life went."""

    seed: int
    violation: str
    trace: tuple[str, ...]
    simulated_s: float
    met: frozenset[str]
    """Kinds of faults that happened."""
    arrows: frozenset[tuple[str, str, str]]
    attempts: int


@contextmanager
def _uncollected() -> Iterator[None]:
    """A life is short, and all of it is garbage at its end: the collector need not look in between."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class World:
    """Everything, at one true time."""

    def __init__(
        self,
        seed: int,
        *,
        new_journal: Callable[[], Any] = MemoryJournal,
        given: plan.Plan | None = None,
    ) -> None:
        """*given* takes the place of the seed's own plan."""
        self.seed = seed
        self.rng = Random(seed)
        self.plan = given or plan.draw(self.rng)
        self.job = self.plan.job
        self.new_journal = new_journal
        self.scheduler = Scheduler(MAX_EVENTS)
        self.scheduler.on_uncaught = self._uncaught
        self.threads = Threads(lambda: self.scheduler)
        self.queues = Queues(lambda: self.scheduler)
        self.met: Counter[str] = Counter()
        self.violation = ""
        self.lines: list[str] = []
        self.copies = 0
        self.shared_folder: list[int] | None = [] if self.plan.shared else None
        self.bucket = Bucket(self.scheduler, self.rng, self.count)
        self.bucket.faults = replace(self.plan.store)
        self.checks = Checks(self, TASK)
        self.bucket.on_write = self.checks.written
        self.nodes: list[SimNode] = []
        self.runs: list[Run] = []
        self.healthy = False
        self.fresh_next = False
        """The next attempt is to begin anew."""
        self.done = False
        self._number = 0
        self._failed_once = False
        self._due = False
        self._visits: Counter[CrashPoint] = Counter()

    # -- what the doubles ask

    def trace(self, line: str) -> None:
        """Something happened."""
        self.lines.append(f"{self.scheduler.now:9.3f} {line}")

    def count(self, fault: str) -> None:
        """A fault happened."""
        self.met[fault] += 1

    def odds(self, fault: str) -> bool:
        """Does *fault* happen now?"""
        rate = self.plan.rates.get(fault, 0.0)
        happens = bool(rate) and not self.healthy and self.rng.random() < rate
        if happens:
            self.count(fault)
            self.trace(f"fault: {fault}")
        return happens

    def after_some(self, most_s: float, call: Callable[[], None], node: SimNode) -> None:
        """Do *call* within *most_s* seconds."""
        self.scheduler.after(self.rng.random() * most_s, call, node)

    def exit_code(self) -> int:
        """Of the task's root, which has done all its work."""
        if self.plan.fails_once and not self._failed_once:
            self._failed_once = True
            self.count("task fails")
            return 3
        return 0

    def asked_anew(self) -> bool:
        """The agent at work was started with ``--fresh``: its user gives up what there is."""
        return self.scheduler.in_fiber and self.run_of(self.scheduler.current.process).settings.fresh

    def new_node(self) -> SimNode:
        node = SimNode(self, f"n{len(self.nodes) + 1}")
        self.nodes.append(node)
        return node

    # -- the life

    def live(self) -> Result:
        """Until the task has ended and was asked for once more."""
        with seams.installed(self), _uncollected():
            try:
                self._live()
            except Endless as endless:
                self.checks.wrong("progress", str(endless))
            finally:
                self.scheduler.close()
        return Result(
            seed=self.seed,
            violation=self.violation,
            trace=tuple(self.lines),
            simulated_s=self.scheduler.now,
            met=frozenset(self.met),
            arrows=frozenset(self.checks.arrows),
            attempts=len(self.runs),
        )

    def _live(self) -> None:
        self.trace(f"{self.plan.policy}, {self.job}, {self.plan.config}")
        faults.schedule(self)
        self.scheduler.at(self.plan.faulty_s, self._heal)
        self.launch(self.new_node())
        end = self.plan.faulty_s + PATIENCE_S
        ended = self.scheduler.run(lambda: bool(self.violation) or self.done or self._lost, end)
        if not ended:
            self.checks.wrong(
                "progress", f"the task has not ended {PATIENCE_S:.0f} s after the faults stopped"
            )
        if not self.violation:
            self.checks.journal()
        if not self.violation and not self.met["pack rots"]:
            self._once_more()

    @property
    def _lost(self) -> bool:
        """The output is damaged in the store, and nobody can have it again."""
        return bool(self.met["pack rots"]) and self.checks.state.state is State.COMPLETED

    def _heal(self) -> None:
        self.trace("the faults stop")
        self.healthy = True
        self.bucket.faults = StoreFaults()
        self.bucket.away = False
        for node in self.nodes:
            node.partitioned = False
        self.again_soon()

    def _once_more(self) -> None:
        """A retry of the ended task runs nothing and has its files and its code; ``--fresh`` runs it anew."""
        copies = self.copies + self.plan.anew
        self._heal()
        self.trace("the ended task is asked for once more")
        self.done = False
        node = self.new_node()
        self.launch(node, fresh=self.plan.anew)
        self.scheduler.run(lambda: bool(self.violation) or self.done, self.scheduler.now + 120.0)
        if not self.violation and (self.copies != copies or not self.done):
            self.checks.wrong("an ended task is not run again", f"{self.copies - copies} copies more")

    # -- attempts

    def launch(self, node: SimNode, *, number: int | None = None, fresh: bool = False) -> None:
        """The scheduler starts an attempt there."""
        if number is None:
            self._number += 1
            number = self._number
        config, policy = self.plan.config, self.plan.policy
        settings = RunSettings(
            task=TASK,
            attempt=None if policy == "plain" else Attempt(scheduler=policy, job=TASK, number=number),
            command=COMMAND,
            cwd=Path("/simulated"),
            home=Path("/simulated/home"),
            store_url=URL,
            provider="none",
            state_dirs=(),
            wait_s=config.lease_ms / 1000 + 5.0 if policy == "plain" else 0.0,
            fresh=fresh,
            config=config,
        )
        self.trace(f"attempt {number} starts on {node.name}{' with --fresh' if fresh else ''}")
        self._begin(node, settings, 0)

    def _begin(self, node: SimNode, settings: RunSettings, restarts: int) -> None:
        process = self.scheduler.process(node, f"agent {len(self.runs) + 1} on {node.name}")
        run = Run(node, process, settings, restarts=restarts)
        self.runs.append(run)
        process.spawn("main", lambda: self._body(run))

    def _body(self, run: Run) -> None:
        code, outcome = 1, ""
        try:
            code, outcome = self._serve(run)
        except AgentCrash as crash:
            code, outcome = crash.exit_code, "crash"
            if "injected" not in str(crash):
                self.checks.wrong("no defect", f"{crash} ({crash.__cause__!r})")
        except faults.InjectedDefect:
            outcome = "crash"
        except FsnapError as error:
            code, outcome = error.exit_code, f"{error.code}: {error}"
        self._ended(run, code, outcome)

    def _serve(self, run: Run) -> tuple[int, str]:
        """As ``Service.run`` does, without the machine."""
        node = run.node
        if node.agent is not None and node.agent.alive and node.agent is not run.process:
            raise NotOurs("the task is live here already")
        node.agent = run.process
        service = run.service = Service(run.settings, clock=node.clock)
        journal: Any = AgentsJournal(
            node.journal, self.scheduler.sleep, self.rng.random, self.checks.appended
        )
        store = RetryingStore(
            NodeStore(self.bucket, node), patience=START_PATIENCE, clock=node.clock, rng=self.rng.random
        )
        node.metadata.start(lambda event, seen: service._post(event, seen))
        try:
            run_dir: Any = seams.RunDirOf(node)
            outcome = service._with_journal(journal, store, run_dir, node.metadata)
        finally:
            node.metadata.stop()
        return outcome.exit_code, outcome.outcome

    def _ended(self, run: Run, code: int, outcome: str) -> None:
        self.trace(f"{run.process.name} returns {code}, {outcome}")
        run.process.kill()
        run.ended = True
        if code == EXIT_STORE and not run.node.reached_parts(run.process):
            self.checks.left_alone(run.node, run.settings.fresh)
        elif outcome != "crash":
            self.checks.exited(run.node, code, outcome)
        if outcome == "exited" and code == 0:
            self.done = True
        self.again_soon()

    def start_again(self, crash: AgentCrash) -> None:
        """``execv``: the threads are gone, the process goes on as a new one."""
        run = self.run_of(self.scheduler.current.process)
        if run.restarts >= seams.MOST_RESTARTS:
            return
        self.trace(f"{run.process.name} starts again: {crash}")
        if "injected" not in str(crash):
            self.checks.wrong("no defect", f"{crash} ({crash.__cause__!r})")
        run.process.kill()
        run.ended = True
        node, settings, count = run.node, run.settings, run.restarts + 1
        self.scheduler.after(0.1, lambda: self._begin(node, settings, count), node)
        raise Killed

    def run_of(self, process: Process) -> Run:
        return next(run for run in self.runs if run.process is process)

    def again_soon(self) -> None:
        """The scheduler will look whether another attempt is due."""
        if not self._due and not self.done:
            self._due = True
            self.scheduler.after(0.5 + 3.0 * self.rng.random(), self._again)

    def _again(self) -> None:
        self._due = False
        if self.done or any(run.process.alive and not run.ended for run in self.runs):
            return
        here = self.runs[-1].node
        if self.plan.policy == "aws-batch" and here.init is not None:
            here.init.die("its container is gone")
        usable = here.alive and not here.metadata.standing
        node = here if usable and self.rng.random() < 0.5 else self.new_node()
        fresh, self.fresh_next = self.fresh_next, False
        self.launch(node, fresh=fresh)

    # -- faults come to it here

    def reached(self, point: CrashPoint) -> None:
        """An agent came to *point*."""
        self.scheduler.alive()
        self._visits[point] += 1
        for fault in self.plan.faults:
            if fault.point is point and fault.nth == self._visits[point] and not self.healthy:
                self._strike(fault, self.run_of(self.scheduler.current.process))
        self.scheduler.alive()

    def _strike(self, fault: plan.Fault, run: Run) -> None:
        if fault.delay_s:
            self.scheduler.after(fault.delay_s, lambda: faults.strike(self, fault, run))
        else:
            faults.strike(self, fault, run)

    def _uncaught(self, fiber: Fiber, problem: Exception) -> None:
        """A thread ended with what nobody caught, and so with a traceback."""
        if "injected" not in str(problem):
            self.checks.wrong("no defect", f"{fiber.process.name}, thread {fiber.name}: {problem!r}")
