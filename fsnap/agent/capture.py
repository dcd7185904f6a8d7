"""Taking snapshots: the final dump, the periodic checkpoint, the files of an ended task.

All bytes of a final dump are stored and verified while the gate is closed, so that nothing
is stopped for good before it is safe; a failure rolls back and costs a pause.  A periodic
checkpoint copies only changed files inside the freeze and uploads afterwards.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loguru import logger

import fsnap
from fsnap.agent.capsules import Capsules
from fsnap.agent.home import RunDir
from fsnap.agent.job import CRIU_TIMEOUT_S, Cancelled, CriuRun, Job
from fsnap.agent.output import Output
from fsnap.agent.processes import mapped_files, scheduling
from fsnap.agent.settings import RunSettings
from fsnap.agent.streaming import StreamedImages
from fsnap.agent.trees import Trees
from fsnap.clock import Clock, rfc3339
from fsnap.core.manifest import SnapshotAbout
from fsnap.core.model import SnapshotRef, TaskState
from fsnap.crashpoints import CrashPoint, reach
from fsnap.criu.argv import dump_argv, recorded_options
from fsnap.criu.install import criu_version, find_criu, network_lock
from fsnap.criu.log import diagnose
from fsnap.criu.netlock import NO_LOCK, drop_lock, has_connections
from fsnap.criu.preflight import look
from fsnap.criu.stats import frozen_ms
from fsnap.errors import CheckpointFailed, UnfitMachine
from fsnap.snapshots.capture import Capture, Sealed
from fsnap.snapshots.freeze import stage_tree
from fsnap.snapshots.known import KnownChunks
from fsnap.snapshots.pace import FASTEST, USUAL, Pace
from fsnap.snapshots.pageindex import PageIndex
from fsnap.snapshots.records import StagedTree
from fsnap.snapshots.trees import TreeSource
from fsnap.stores.retrying import RetryingStore

PAUSE_POLL_S = 0.1
FLUSH_TIMEOUT_S = 2.0
"""A reader of our output that is slower than this gets the rest from the next attempt."""


@dataclass(slots=True)
class CaptureResult:
    """A snapshot that is stored and verified, to be learnt from once it is committed."""

    ref: SnapshotRef
    sealed: Sealed
    freeze_ms: int
    took_ms: int


class Capturer:
    """Takes snapshots of one task's capsule."""

    def __init__(
        self,
        *,
        capsules: Capsules,
        run_dir: RunDir,
        trees: Trees,
        outputs: Mapping[str, Output],
        store: RetryingStore,
        prefix: str,
        settings: RunSettings,
        clock: Clock,
        run_ms: Callable[[], int],
    ) -> None:
        self._capsules = capsules
        self._run_dir = run_dir
        self._trees = trees
        self._outputs = outputs
        self._store = store
        self._prefix = prefix
        self._settings = settings
        self._clock = clock
        self._run_ms = run_ms
        self._key = settings.keys.first if settings.keys else None
        self.known = KnownChunks(pages=PageIndex(), key_id=self._key.id if self._key else "")
        self._streams = True
        self._locks = False
        self._pace = Pace(FASTEST if store.url.startswith("file:") else USUAL)

    def prepare(self) -> None:
        """Ask CRIU now what a dump would have to wait for."""
        with suppress(UnfitMachine):
            network_lock(find_criu())
            criu_version(find_criu())

    def learn(self, result: CaptureResult) -> None:
        """The snapshot is committed: its chunks and files need not be stored again."""
        self.known.learn(result.sealed.index)
        self._trees.learn(result.sealed.seen)

    def unlock_network(self, *, tree_lives: bool = False) -> None:
        """Remove CRIU's network lock: of a dead tree if it locks nothing, of one that runs on in any case."""
        drop_lock(self._run_dir.images, used=tree_lives)

    # -- the final dump

    def final(self, job: Job, state: TaskState, snapshot_id: str) -> tuple[CaptureResult, CriuRun]:
        """Freeze, capture and publish; the gate is closed when this returns, and open when it raises."""
        began = self._clock.mono_s()
        images, lock = self._ready(job)
        with (
            self._capture(job, snapshot_id, learn_pages=False) as capture,
            self._receiver(images, capture) as stream,
        ):
            run_ms = self._run_ms()
            criu, root_pid = self._dump(job, images, lock, leave_running=False, stream=stream is not None)
            try:
                frozen = self._frozen(criu, images)
                fed = {} if stream is None else stream.finish()
                self._expect_locked(images, lock)
                for name, output in self._outputs.items():
                    output.flush(int(frozen[name]), FLUSH_TIMEOUT_S)
                    output.hold()
                sources = self._sources(root_pid)
                capture.add_tree(self._images_source(images), fed=fed)
                reach(CrashPoint.TREE_STORED)
                for source in sources:
                    job.checkpoint()
                    capture.add_tree(source)
                    reach(CrashPoint.TREE_STORED)
                result = self._publish(capture, state, snapshot_id, "final", root_pid, frozen, run_ms, began)
            except BaseException as problem:
                self._roll_back(criu, images, stream, problem)
                raise
        return result, criu

    @contextmanager
    def _receiver(self, images: Path, capture: Capture) -> Iterator[StreamedImages | None]:
        """Whoever takes CRIU's stream; ``None`` once CRIU failed at one: the next try goes by files."""
        if not self._streams:
            yield None
            return
        with StreamedImages(images, capture) as stream:
            yield stream

    def _roll_back(
        self, criu: CriuRun, images: Path, stream: StreamedImages | None, problem: BaseException
    ) -> None:
        """Let the tree run on; raises what was at the bottom of *problem* if that is known."""
        if stream is not None:
            stream.abort()
        _undo(criu, images)
        for output in self._outputs.values():
            output.unhold()
        if stream is None or not isinstance(problem, CheckpointFailed) or isinstance(problem, Cancelled):
            return
        if stream.failure is None:
            self._streams = False
        elif stream.failure is not problem:
            raise stream.failure from problem

    # -- the periodic checkpoint

    def periodic(self, job: Job, state: TaskState, snapshot_id: str) -> CaptureResult:
        """Freeze, copy what changed, let the tree run on, then store it all."""
        began = self._clock.mono_s()
        images, lock = self._ready(job)
        run_ms = self._run_ms()
        criu, root_pid = self._dump(job, images, lock, leave_running=True)
        try:
            frozen = self._frozen(criu, images)
            self._expect_locked(images, lock)
            staging = self._run_dir.empty(self._run_dir.staging)
            staged = [_stage(source, staging) for source in self._sources(root_pid)]
            processes = scheduling(self._capsules.proc())
            reach(CrashPoint.STAGED)
        except BaseException:
            _undo(criu, images)
            raise
        if criu.open_gate("go", runs_on=True) != 0:
            raise CheckpointFailed(f"CRIU: {self._diagnosis(images)}")
        reach(CrashPoint.RUNS_ON)
        freeze_ms = frozen_ms(images) or 0
        with self._capture(job, snapshot_id) as capture:
            capture.add_tree(self._images_source(images))
            for tree in staged:
                job.checkpoint()
                capture.add_tree(tree)
            result = self._publish(
                capture, state, snapshot_id, "periodic", root_pid, frozen, run_ms, began, processes
            )
        self._run_dir.empty(self._run_dir.staging)
        self._run_dir.empty(self._run_dir.images)
        result.freeze_ms = freeze_ms
        return result

    # -- the files of an ended task

    def files(self, job: Job, state: TaskState, snapshot_id: str) -> CaptureResult:
        """Store the state dirs of a task whose root has exited."""
        began = self._clock.mono_s()
        sizes = dict.fromkeys(self._outputs, 0)
        with self._capture(job, snapshot_id) as capture:
            for source in self._trees.file_sources():
                job.checkpoint()
                capture.add_tree(source)
            return self._publish(
                capture, state, snapshot_id, "files", 0, sizes, self._run_ms(), began, {"affinity": ()}
            )

    # -- steps

    def _ready(self, job: Job) -> tuple[Path, str]:
        """Wait until the tree may be dumped; the empty directory for images, and how to lock the network."""
        control = self._capsules.live()
        while control.request("hello")["frozen"]:
            # Its lease ran out with the store away; a dump of stopped processes would be restored stopped.
            job.pause(self._clock, PAUSE_POLL_S)
        sight = look(self._capsules.proc(), self._capsules.root_pid(), self._capsules.helpers())
        if sight.problems:
            raise CheckpointFailed(f"CRIU can't save {sight.problems[0]}")
        lock = network_lock(find_criu()) if sight.connected or self._locks else NO_LOCK
        return self._run_dir.empty(self._run_dir.images), lock

    def _expect_locked(self, images: Path, lock: str) -> None:
        """A process may have connected between the look at the tree and its freeze."""
        if lock == NO_LOCK and has_connections(images) and network_lock(find_criu()) != NO_LOCK:
            self._locks = True
            raise CheckpointFailed("a process connected while the network was not locked")

    def _dump(
        self, job: Job, images: Path, lock: str, *, leave_running: bool, stream: bool = False
    ) -> tuple[CriuRun, int]:
        """Start CRIU; its run, and the root's PID inside."""
        root_pid = self._capsules.root_pid()
        criu = find_criu()
        self._argv = dump_argv(
            criu=criu,
            root_pid=root_pid,
            images=images,
            gate=self._capsules.gate,
            leave_running=leave_running,
            network_lock=lock,
            timeout_s=CRIU_TIMEOUT_S,
            stream=stream,
        )
        run = CriuRun(self._capsules, job)
        try:
            run.spawn(self._argv, cwd=images if stream else None)
            reach(CrashPoint.DUMP_SPAWNED)
        except BaseException:
            run.abandon()
            raise
        return run, root_pid

    def _frozen(self, criu: CriuRun, images: Path) -> dict[str, int]:
        event = criu.wait_gate()
        if event is None:
            raise CheckpointFailed(f"CRIU: {self._diagnosis(images)}")
        reach(CrashPoint.FROZEN)
        return {name: int(event[name]) for name in self._outputs}

    def _diagnosis(self, images: Path) -> str:
        log = _read(images / "dump.log") + _read(self._capsules.gate.with_name("criu.out"))
        cause = diagnose(log)
        return f"{cause.message}. {cause.hint}" if cause.hint else cause.message

    def _sources(self, root_pid: int) -> list[TreeSource]:
        sources = self._trees.all_sources(self._capsules.scratch())
        return self._trees.reread(sources, mapped_files(self._capsules.proc()))

    def _images_source(self, images: Path) -> TreeSource:
        return TreeSource(name="images", root=images, page_structured=True)

    def _capture(self, job: Job, snapshot_id: str, *, learn_pages: bool = True) -> Capture:
        return Capture(
            store=self._store.watched(job.checkpoint),
            prefix=self._prefix,
            snapshot_id=snapshot_id,
            known=self.known,
            clock=self._clock,
            key=self._key,
            pace=self._pace,
            learn_pages=learn_pages,
            step=job.checkpoint,
        )

    def _publish(
        self,
        capture: Capture,
        state: TaskState,
        snapshot_id: str,
        kind: str,
        root_pid: int,
        frozen: Mapping[str, int],
        run_ms: int,
        began: float,
        processes: Mapping[str, Any] | None = None,
    ) -> CaptureResult:
        """Spools, index, manifest; everything is verified when this returns."""
        emitted = self._add_output(capture, kind, frozen)
        sealed = capture.seal_index()
        reach(CrashPoint.INDEX_STORED)
        about = SnapshotAbout(
            snapshot_id=snapshot_id,
            task=state.task,
            epoch=state.epoch,
            seq=state.seq,
            final=kind == "final",
            created_at=rfc3339(self._clock.wall()),
            command=state.command,
            cwd=state.cwd,
            env_names=tuple(sorted(os.environ)),
            state_dirs=tuple(str(path) for path in self._settings.state_dirs),
            kernel=platform.release(),
            arch=platform.machine(),
            criu_version=criu_version(find_criu()) if root_pid else "",
            criu_options=recorded_options(self._argv) if root_pid else (),
            root_pid=root_pid,
            stdout_offset=emitted["stdout"],
            stderr_offset=emitted["stderr"],
            pipes=self._pipes() if root_pid else {},
            run_ms=run_ms,
            fsnap_version=fsnap.__version__,
            extra=dict(processes if processes is not None else scheduling(self._capsules.proc())),
        )
        published = capture.publish(about)
        reach(CrashPoint.MANIFEST_STORED)
        took_ms = int((self._clock.mono_s() - began) * 1000)
        logger.debug(
            "snapshot {} stored in {} ms, {} bytes put", snapshot_id, took_ms, published.stored_bytes
        )
        ref = SnapshotRef(
            id=snapshot_id,
            manifest=published.manifest_digest,
            epoch=state.epoch,
            kind=kind,
            bytes=published.bytes,
            new_bytes=published.new_bytes,
            stored_bytes=published.stored_bytes,
            committed_at=rfc3339(self._clock.wall()),
            run_ms=run_ms,
            stdout_bytes=emitted["stdout"],
            stderr_bytes=emitted["stderr"],
        )
        return CaptureResult(ref=ref, sealed=sealed, freeze_ms=took_ms, took_ms=took_ms)

    def _add_output(self, capture: Capture, kind: str, frozen: Mapping[str, int]) -> dict[str, int]:
        """What has not left yet travels; what went to a file travels whole, since that must be exact."""
        emitted = {}
        for name, output in self._outputs.items():
            start, end = output.tail_range(frozen[name])
            emitted[name] = output.emitted
            if kind == "files":
                continue
            start = min(start, end)
            emitted[name] = output.base + start
            capture.add_blob(f"{name}-tail", _slice(self._run_dir.spool(name), start, end))
            if output.target is not None and output.exact:
                capture.add_file(f"{name}-file", output.target, emitted[name])
        return emitted

    def _pipes(self) -> dict[str, int]:
        control = self._capsules.live()
        return {name: int(inode) for name, inode in control.request("hello")["pipes"].items()}


def _stage(source: TreeSource, staging: Path) -> StagedTree:
    folder = staging / source.name
    folder.mkdir(mode=0o700)
    return stage_tree(source, folder)


def _undo(criu: CriuRun, images: Path) -> None:
    """Let the tree run on, and drop its images: the journal may need their room to say so."""
    criu.abandon()
    for image in images.glob("*.img"):
        image.unlink(missing_ok=True)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _slice(path: Path, start: int, end: int) -> bytes:
    with path.open("rb") as spool:
        spool.seek(start)
        return spool.read(end - start)
