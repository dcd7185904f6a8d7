"""The two executions of the task: uninterrupted, and reclaimed twice."""

from __future__ import annotations

import shlex
import signal
import time
from collections.abc import Callable
from pathlib import Path

from _demo.nodes import Machine
from _demo.runs import Failure, FirstLine, Reclaim, Result, Run
from _demo.screen import BOLD, RED, Screen
from _demo.stage import CHECKOUT, REFERENCE, Stage
from _demo.story import Story
from fsnap.errors import EXIT_CHECKPOINTED
from fsnap.stores.urls import open_store

TASK = "kmers"
OUTPUT = "kmers.tsv.gz"
PIPELINE = Path(__file__).with_name("pipeline.sh")
FSNAP = CHECKOUT / ".venv/bin/fsnap"
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
NODES = ("node-a", "node-b", "node-c")
MOMENTS = ("count   40 %", "rank    30 %")
"""What the task prints when its machine is to go: first while two workers count into shared memory, then
while sort, ranking and gzip run as a pipe."""


class Interrupted(Failure):
    """Ctrl-C, or another wish that it end."""


class Wish:
    """A signal is kept until it is safe to act on: a node half made could not be taken down."""

    def __init__(self) -> None:
        self.number = 0
        """Of the first signal; 0: none came."""
        for number in ENDS:
            signal.signal(number, self._keep)

    def _keep(self, number: int, frame: object) -> None:
        self.number = self.number or number

    def check(self) -> None:
        """Raise :class:`Interrupted` if there was one."""
        if self.number:
            raise Interrupted("interrupted")


def run_line(url: str, flags: tuple[str, ...]) -> list[str]:
    """What every node is told to do."""
    task = ["--task", TASK, "--store", url, *flags, "--after-commit", "exit"]
    return [str(FSNAP), "run", *task, "--", str(PIPELINE), OUTPUT]


class Play:
    """Runs the task on the stage's machines and tells what happens."""

    def __init__(self, stage: Stage, screen: Screen, wish: Wish) -> None:
        self._stage = stage
        self._screen = screen
        self._wish = wish
        self.story = Story(open_store(stage.url), TASK, screen)

    def uninterrupted(self) -> Result:
        """The task alone."""
        self._screen.zero()
        machine = self._machine(REFERENCE)
        self._screen.event(machine.name, "the pipeline starts")
        began_s = time.monotonic()
        run = Run(machine, machine.start([str(PIPELINE), OUTPUT], self._stage.env))
        run.expect(run.follow(self._passing), 0)
        took_s = time.monotonic() - began_s
        self._screen.event(machine.name, "the pipeline has ended")
        return self._result(machine, bytes(run.stdout), took_s)

    def reclaimed(self) -> Result:
        """The task under fsnap, on one node after the other."""
        self._screen.zero()
        began_s = time.monotonic()
        stdout = b""
        for name, moment in zip(NODES, MOMENTS, strict=False):
            stdout += self._until_reclaimed(self._machine(name), moment)
        machine = self._machine(NODES[-1])
        run = self._attempt(machine)
        run.expect(run.follow(self._looks(FirstLine(self._screen, "the pipeline goes on with").look)), 0)
        self._screen.event(machine.name, "fsnap run ends with 0, the task's own")
        return self._result(machine, stdout + run.stdout, time.monotonic() - began_s)

    def _until_reclaimed(self, machine: Machine, moment: str) -> bytes:
        run = self._attempt(machine)
        verb = "the pipeline prints" if machine.name == NODES[0] else "the pipeline goes on with"
        reclaim = Reclaim(machine, moment, self._screen)
        code = run.follow(self._looks(FirstLine(self._screen, verb).look, reclaim.look))
        if code == 0 and not reclaim.announced:
            raise Failure(f"{machine.name}: the task ended before it could be reclaimed")
        run.expect(code, EXIT_CHECKPOINTED)
        self._screen.event(machine.name, f"fsnap run ends with {code}: start me again")
        machine.destroy()
        self._screen.event(machine.name, "DESTROYED, with its memory and its files", RED)
        return bytes(run.stdout)

    def _machine(self, name: str) -> Machine:
        self._wish.check()
        return self._stage.machine(name)

    def _attempt(self, machine: Machine) -> Run:
        self._screen.event(machine.name, machine.about, BOLD)
        if machine.name == NODES[0]:
            self._tell_command(machine)
        return Run(machine, machine.start(run_line(self._stage.url, machine.flags), self._stage.env))

    def _tell_command(self, machine: Machine) -> None:
        """As a user would type it, in this checkout."""
        words = [word.removeprefix(f"{CHECKOUT}/") for word in run_line(self._stage.url, machine.flags)]
        words[0] = "fsnap"
        at = words.index("--provider")
        for line in (f"$ {shlex.join(words[:at])} \\", f"    {shlex.join(words[at:])}"):
            self._screen.event(machine.name, line)

    def _looks(self, *looks: Callable[[Run], None]) -> Callable[[Run], None]:
        def look(run: Run) -> None:
            self.story.tell(run.machine.name)
            for one in looks:
                one(run)
            self._passing(run)

        return look

    def _passing(self, run: Run) -> None:
        self._wish.check()
        if run.lines:
            self._screen.passing(run.machine.name, run.lines[-1])

    def _result(self, machine: Machine, stdout: bytes, took_s: float) -> Result:
        file_bytes, file_sha256 = machine.digest(OUTPUT)
        machine.destroy()
        return Result(stdout=stdout, file_bytes=file_bytes, file_sha256=file_sha256, took_s=took_s)
