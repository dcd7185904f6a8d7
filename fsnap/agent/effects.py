"""Carrying out effects: the hands of the loop.

Long ones run as jobs and report an event with their token; a newer job, or a rollback, makes
older tokens void.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping

from loguru import logger

from fsnap.agent.capsules import Capsules
from fsnap.agent.capture import Capturer, CaptureResult
from fsnap.agent.job import Cancelled, CriuRun, Job, JobSlot
from fsnap.agent.lease import Lease
from fsnap.agent.output import Output
from fsnap.agent.pruning import Pruner
from fsnap.agent.recheck import Rechecker
from fsnap.agent.restoring import Restorer, let_go, refuse
from fsnap.agent.runtime import FactBook, RunClock, Watch
from fsnap.agent.settings import RunSettings
from fsnap.agent.start import start_task
from fsnap.agent.trees import Trees
from fsnap.capsule.control import Control
from fsnap.clock import Clock, parse_rfc3339
from fsnap.core.effects import (
    ClaimAgain,
    Dump,
    Effect,
    Exit,
    Hold,
    Kill,
    Predump,
    Prune,
    Release,
    Restore,
    Resume,
    Rollback,
    SaveFiles,
    Signal,
    Start,
)
from fsnap.core.events import (
    CapsuleLost,
    DumpFailed,
    Event,
    RestoreFailed,
    RestoreReady,
    SnapshotSaved,
    TaskExited,
)
from fsnap.core.model import SnapshotRef, State, TaskState
from fsnap.core.poison import claim_again
from fsnap.crashpoints import CrashPoint, reach
from fsnap.errors import CapsuleError, CorruptData, FsnapError

Report = Callable[[int, Event], None]


class Executor:
    """Does what decisions say, to one capsule."""

    def __init__(
        self,
        *,
        settings: RunSettings,
        capsules: Capsules,
        capturer: Capturer,
        restorer: Restorer,
        pruner: Pruner,
        rechecker: Rechecker,
        trees: Trees,
        outputs: Mapping[str, Output],
        lease: Lease,
        watch: Watch,
        book: FactBook,
        run_clock: RunClock,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._capsules = capsules
        self._capturer = capturer
        self._restorer = restorer
        self._pruner = pruner
        self._rechecker = rechecker
        self._trees = trees
        self._outputs = outputs
        self._lease = lease
        self._watch = watch
        self._book = book
        self._run_clock = run_clock
        self._clock = clock
        self._report: Report = lambda token, event: None
        self._crash: Callable[[BaseException], None] = lambda problem: None
        self._jobs = JobSlot(lambda problem: self._crash(problem))
        self._gate: CriuRun | None = None
        """CRIU's run that stands at its closed gate after its job ended."""
        self._result: CaptureResult | None = None
        self._committed = False
        """The gate is that of a final dump whose commit is recorded."""
        self._unsent = 0
        """A signal that came before there was a task to take it."""
        self.exit: Exit | None = None
        self._claimed_s: float | None = None
        """When the claim's record was there: no other holder's renewal that began later counts."""

    @property
    def token(self) -> int:
        """Outcomes with another one are outdated."""
        return self._jobs.token

    def connect(self, report: Report, crash: Callable[[BaseException], None]) -> None:
        """Where outcomes go, and what a job did not foresee."""
        self._report = report
        self._crash = crash

    def carry_out(self, effect: Effect, state: TaskState) -> None:
        """Do *effect*, or begin it."""
        if self._claimed_s is None:
            self._claimed_s = self._clock.mono_s()
        match effect:
            case Start():
                self._begin("start", lambda job, token: self._start(job, token, state, effect))
            case Restore():
                self._begin("restore", lambda job, token: self._restore(job, token, state, effect))
            case Predump():
                self._begin("checkpoint", lambda job, token: self._periodic(job, token, state, effect))
            case Dump():
                self._begin("dump", lambda job, token: self._final(job, token, state, effect))
            case SaveFiles():
                self._begin("files", lambda job, token: self._files(job, token, state, effect))
            case Prune():
                self._jobs.run("prune", lambda job, token: self._pruner.run(job, state))
            case Release():
                self._release(state)
            case Rollback():
                self._rollback()
            case Resume():
                self._open_gate("no")
                self.run_on()
            case Kill():
                self._kill()
            case Signal():
                self._signal(effect.signal)
            case Hold():
                logger.info("committed; holds until the host goes")
            case ClaimAgain():
                self._begin("claim", lambda job, token: self._claim_again(token, state))
            case Exit():
                self.exit = effect
            case _:
                raise NotImplementedError(type(effect).__name__)

    def busy(self) -> bool:
        """A capture or a restore is under way, or the tree stands at a gate."""
        return self._gate is not None or self._jobs.alive

    def learn(self, ref: SnapshotRef) -> None:
        """The snapshot's record is made: later ones may build on it."""
        result = self._result
        if result is not None and result.ref.id == ref.id:
            self._capturer.learn(result)
            self._book.measured(max(ref.bytes, 1), result.took_ms, result.freeze_ms)
            self._result = None
            if ref.kind == "periodic":
                packs = [row.id for row in result.sealed.index.pack_rows()]
                self._jobs.run("recheck", lambda job, token: self._rechecker.run(job, packs))

    def take_gate(self, run: CriuRun, state: TaskState) -> None:
        """The gate of a committed dump, or of a restore, which an earlier agent left closed."""
        self._gate, self._committed = run, state.state is State.UPLOADED
        if self._committed:
            for output in self._outputs.values():
                output.hold()
            self._watch_again(state)

    def resume_watching(self, state: TaskState, control: Control) -> None:
        """The tree of an earlier agent runs on under this one."""
        self._watch_again(state)
        control.request("thaw")

    def _watch_again(self, state: TaskState) -> None:
        for name, output in self._outputs.items():
            ref = next((ref for ref in state.snapshots if ref.id == state.restoring_from), None)
            base = 0 if ref is None else {"stdout": ref.stdout_bytes, "stderr": ref.stderr_bytes}[name]
            output.start(base, resume=True)
        self._book.started = True
        since_s = (self._clock.wall() - parse_rfc3339(state.since)).total_seconds() if state.since else 0.0
        self._run_clock.start(state.run_base_ms + int(max(0.0, since_s) * 1000))
        self._watch.start()

    def run_on(self) -> None:
        """The tree runs, after a freeze that came to nothing."""
        for output in self._outputs.values():
            output.unhold()

    def _begin(self, name: str, work: Callable[[Job, int], None]) -> None:
        self._book.last_capture_s = self._clock.mono_s()
        self._jobs.run(name, work)

    def _final(self, job: Job, token: int, state: TaskState, effect: Dump) -> None:
        try:
            result, criu = self._capturer.final(job, state, effect.snapshot_id)
        except (FsnapError, OSError) as problem:
            self._dump_failed(token, problem)
            return
        self._gate, self._result = criu, result
        self._report(token, SnapshotSaved(ref=result.ref))

    def _periodic(self, job: Job, token: int, state: TaskState, effect: Predump) -> None:
        try:
            result = self._capturer.periodic(job, state, effect.snapshot_id)
        except (FsnapError, OSError) as problem:
            self._dump_failed(token, problem)
            return
        self._result = result
        self._report(token, SnapshotSaved(ref=result.ref))

    def _files(self, job: Job, token: int, state: TaskState, effect: SaveFiles) -> None:
        while True:
            try:
                result = self._capturer.files(job, state, effect.snapshot_id)
                break
            except Cancelled:
                return
            except (FsnapError, OSError) as problem:
                # The task has ended well; what remains is to say so durably, however long the store takes.
                logger.warning("the ended task's files can't be stored yet: {}", problem)
                self._clock.sleep(1.0)
        self._result = result
        self._report(token, SnapshotSaved(ref=result.ref))

    def _dump_failed(self, token: int, problem: Exception) -> None:
        if isinstance(problem, Cancelled):
            return
        code = problem.code if isinstance(problem, FsnapError) else "os"
        self._report(token, DumpFailed(code=code, message=str(problem)))

    def _start(self, job: Job, token: int, state: TaskState, effect: Start) -> None:
        try:
            self._drop_harmed_tree()
            while self._clock.mono_s() < self._not_before_s(effect) and not self._waiting_signal():
                job.pause(self._clock)
            self._trees.take_baseline()
            reach(CrashPoint.BASELINE_TAKEN)
            job.checkpoint()
            # An agent that takes over may find its capsule finished, and nothing started in it.
            control = self._capsules.control or self._capsules.finish()
            self._lease.attach(control)
            for output in self._outputs.values():
                output.start(0)
            if number := self._waiting_signal():
                self._report(token, TaskExited(exit_code=128 + number))
                return
            failed = start_task(control, self._settings, lambda: job.pause(self._clock))
            reach(CrashPoint.STARTED)
            if number := self._waiting_signal():
                control.request("signal", signal=number)
        except Cancelled:
            return
        except (FsnapError, OSError) as problem:
            self._report(token, CapsuleLost(message=f"the task could not be started: {problem}"))
            return
        if failed is not None:
            logger.error("{}", failed.message)
            self._report(token, TaskExited(exit_code=failed.exit_code))
            return
        # Not before: a checkpoint that is decided on meanwhile would make this job's outcome void.
        self._run_clock.start(0)
        self._book.last_capture_s = self._clock.mono_s()
        self._book.started = True
        self._watch.start()

    def _not_before_s(self, effect: Start | Restore) -> float:
        assert self._claimed_s is not None
        return self._claimed_s + effect.hold_ms / 1000

    def _claim_again(self, token: int, state: TaskState) -> None:
        self._drop_harmed_tree()
        self._report(token, claim_again(state, self._capsules.holder))

    def _drop_harmed_tree(self) -> None:
        """A tree that died too soon after its release is begun again in a fresh capsule."""
        if not self._book.started:
            return
        self._book.started = False
        for output in self._outputs.values():
            output.stop()
        self._relaunch()

    def _restore(self, job: Job, token: int, state: TaskState, effect: Restore) -> None:
        try:
            self._gate = self._restorer.restore(
                job,
                state,
                effect.snapshot_id,
                not_before_s=self._not_before_s(effect),
                relaunch=self._relaunch,
            )
        except Cancelled:
            return
        except (FsnapError, OSError) as problem:
            self._restore_failed(token, effect.snapshot_id, problem)
            return
        holder = self._capsules.holder
        assert holder is not None
        self._report(token, RestoreReady(snapshot_id=effect.snapshot_id, holder=holder))

    def _restore_failed(self, token: int, snapshot_id: str, problem: Exception) -> None:
        logger.error("snapshot {} can't be restored: {}", snapshot_id, problem)
        self._capsules.end()
        holder = self._capsules.launch()
        self._report(
            token,
            RestoreFailed(
                snapshot_id=snapshot_id,
                code=problem.code if isinstance(problem, FsnapError) else "os",
                message=str(problem),
                corrupt=isinstance(problem, CorruptData),
                holder=holder,
            ),
        )

    def _relaunch(self) -> None:
        self._capsules.end()
        self._capsules.launch()

    def stand_still(self) -> None:
        """Stop the tree, and call off what would start or restore one: the claim is about to be given back.

        A dump under way needs no end first: what CRIU lets go then is stopped all the same.
        """
        self._jobs.cancel()
        if not self._book.started:
            self._jobs.join(5.0)
        control = self._capsules.control
        if control is not None:
            with contextlib.suppress(CapsuleError):  # it is gone, and the tree with it
                control.request("freeze")

    def _release(self, state: TaskState) -> None:
        control = self._capsules.live()
        self._lease.attach(control)
        ref = next(ref for ref in state.snapshots if ref.id == state.restoring_from)
        starts = {"stdout": ref.stdout_bytes, "stderr": ref.stderr_bytes}
        for name, output in self._outputs.items():
            output.start(starts[name], resume=True)  # an agent before this one may have begun to
        self._book.started = True
        self._book.last_capture_s = self._clock.mono_s()
        self._run_clock.start(ref.run_ms)
        gate, self._gate = self._gate, None
        if gate is not None:
            let_go(gate, self._lease, self._clock)
        reach(CrashPoint.RELEASED)
        self._watch.start()

    def _open_gate(self, verdict: str) -> None:
        gate, self._gate = self._gate, None
        if gate is not None and gate.open_gate(verdict) != 0 and verdict == "go":
            raise CapsuleError("CRIU failed after its gate was opened")

    def _rollback(self) -> None:
        """Void the capture: a job rolls its gate back itself, one that has ended left it to us."""
        self._jobs.cancel()
        self._jobs.join()
        with contextlib.suppress(CapsuleError):  # CRIU has died at it
            self._open_gate("no")
        self._result = None
        self._capturer.unlock_network(tree_lives=True)
        if self._capsules.control is not None:
            self._capsules.control.request("thaw")
        self.run_on()

    def _signal(self, number: int) -> None:
        self._unsent = number
        control = self._capsules.control
        if control is not None and control.request("signal", signal=number)["sent"]:
            self._unsent = 0

    def _waiting_signal(self) -> int:
        return self._unsent

    def _kill(self) -> None:
        """End the tree: a dumped one by CRIU itself, so that it cleans up behind itself."""
        gate, self._gate = self._gate, None
        self._jobs.cancel()
        self._jobs.join(5.0)
        try:
            if gate is not None and (self._committed or self._result is not None):
                gate.open_gate("go", 20.0)
                self._capturer.unlock_network()
            elif gate is not None:
                refuse(gate)
        except (CapsuleError, FsnapError) as problem:
            logger.debug("CRIU's end: {}", problem)
        self._capsules.end()
        reach(CrashPoint.TREE_ENDED)
