"""Restoring a snapshot: fetch and verify everything, then CRIU, up to the closed gate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from loguru import logger

from fsnap.agent.capsules import Capsules
from fsnap.agent.home import RunDir
from fsnap.agent.job import CriuRun, Job, LeaseOver
from fsnap.agent.lease import Lease
from fsnap.agent.loop import persist
from fsnap.agent.output import Output
from fsnap.agent.processes import apply_scheduling
from fsnap.agent.serving import ServedImages, streamed
from fsnap.agent.trees import Trees
from fsnap.clock import Clock
from fsnap.core.model import SnapshotRef, TaskState
from fsnap.crashpoints import CrashPoint, reach
from fsnap.criu.argv import restore_argv
from fsnap.criu.install import find_criu, network_lock
from fsnap.criu.log import Cause, diagnose
from fsnap.criu.pstree import has_strays
from fsnap.criu.waits import begin_waits_again
from fsnap.durable import write_private
from fsnap.errors import CapsuleError, FsnapError, RestoreFailed
from fsnap.keys import KeyRing
from fsnap.snapshots.fetch import Snapshot
from fsnap.snapshots.known import KnownChunks
from fsnap.stores.base import Store

INPUTS_SHOWN = 3
HOLD_POLL_S = 0.2


class Restorer:
    """Restores into a launched capsule."""

    def __init__(
        self,
        *,
        capsules: Capsules,
        run_dir: RunDir,
        trees: Trees,
        outputs: Mapping[str, Output],
        store: Store,
        prefix: str,
        known: KnownChunks,
        tcp: str,
        clock: Clock,
        keys: KeyRing | None = None,
    ) -> None:
        self._capsules = capsules
        self._run_dir = run_dir
        self._trees = trees
        self._outputs = outputs
        self._store = store
        self._prefix = prefix
        self._known = known
        self._tcp = tcp
        self._clock = clock
        self._keys = keys

    def restore(
        self,
        job: Job,
        state: TaskState,
        snapshot_id: str,
        *,
        not_before_s: float,
        relaunch: Callable[[], None],
    ) -> CriuRun:
        """Everything up to the gate; :class:`CorruptData` or :class:`RestoreFailed` says why not.

        The capsule must be launched and not finished.  *relaunch* makes a fresh one when CRIU has to be
        run again with its connections closed.
        """
        ref = next(ref for ref in state.snapshots if ref.id == snapshot_id)
        snapshot = self._open(ref)
        names = self._to_stream(snapshot, not_before_s)
        with self._images(snapshot, names) as served:
            job.checkpoint()
            while self._clock.mono_s() < not_before_s:
                job.checkpoint()
                self._clock.sleep(HOLD_POLL_S)
            self._restore_files(job, state, snapshot)
            reach(CrashPoint.FILES_RESTORED)
            self._trees.keep_baselines()
            run, cause = self._run_criu(job, snapshot, served, self._tcp)
        if run is None and cause.closes_tcp and self._tcp == "established":
            logger.warning("connections to other hosts are closed by this restore: {}", cause.message)
            relaunch()
            with self._images(snapshot, names) as served:
                self._restore_scratch(snapshot)
                run, cause = self._run_criu(job, snapshot, served, "close")
        if run is None:
            raise RestoreFailed(f"CRIU: {cause.message}. {cause.hint}".strip())
        self._known.learn(snapshot.index)  # not before: by now every chunk of it was sound
        apply_scheduling(self._capsules.proc(), snapshot.about.extra)
        reach(CrashPoint.TREE_RESTORED)
        return run

    def restore_completed(self, ref: SnapshotRef) -> None:
        """The files of a task that has ended."""
        snapshot = self._open(ref)
        for name, path in self._trees.state_names():
            snapshot.restore_tree(name, path)

    def _open(self, ref: SnapshotRef) -> Snapshot:
        return Snapshot.open(
            store=self._store,
            prefix=self._prefix,
            snapshot_id=ref.id,
            manifest_digest=ref.manifest,
            keys=self._keys,
        )

    def _restore_files(self, job: Job, state: TaskState, snapshot: Snapshot) -> None:
        later = self._later_paths(state, snapshot)
        for name, path in self._trees.state_names():
            job.checkpoint()
            if name not in snapshot.index.trees:
                raise RestoreFailed(f"snapshot {snapshot.about.snapshot_id} has no state dir {path}")
            problems = snapshot.check_inputs(name, path)
            if problems:
                shown = ", ".join(f"{path}/{p.path} ({p.problem})" for p in problems[:INPUTS_SHOWN])
                raise RestoreFailed(
                    f"{len(problems)} inputs are not as they were: {shown}",
                    hint="Inputs must be on every node as they were at the start. A copy that died here may"
                    " have changed them: put them back, go on elsewhere, or run with --include-inputs.",
                )
            snapshot.restore_tree(name, path, remove_recorded=later.get(name, frozenset()))
            self._trees.set_baseline(name, snapshot.rebase_baseline(name, path, self._trees.excluded(path)))
        self._restore_scratch(snapshot)

    def _restore_scratch(self, snapshot: Snapshot) -> None:
        scratch = self._capsules.scratch()
        for name, path in [*self._trees.scratch_names(scratch), ("shm", scratch / "shm")]:
            if name in snapshot.index.trees:
                snapshot.restore_tree(name, path)
        for name, output in self._outputs.items():
            write_private(self._run_dir.spool(name), snapshot.read_blob(f"{name}-tail"))
            if output.target is not None and f"{name}-file" in snapshot.index.streams:
                snapshot.restore_file(f"{name}-file", output.target)

    def _later_paths(self, state: TaskState, snapshot: Snapshot) -> dict[str, frozenset[str]]:
        """What newer snapshots recorded: an attempt that is given up may have left it here."""
        found: dict[str, frozenset[str]] = {}
        chosen = snapshot.about.snapshot_id
        for ref in state.snapshots:
            if ref.id <= chosen:
                continue
            try:
                newer = self._open(ref)
            except FsnapError:
                continue
            for name, _ in self._trees.state_names():
                found[name] = found.get(name, frozenset()) | newer.recorded_paths(name)
        return found

    def _to_stream(self, snapshot: Snapshot, not_before_s: float) -> list[str]:
        """The images that need not be fetched before CRIU runs.

        None where there is a wait anyway, and none if the files can't be taken back: those are restored
        before the last of such an image is verified.
        """
        names = streamed(snapshot)
        if not names or self._clock.mono_s() < not_before_s:
            return []
        trees = [name for name, _ in self._trees.state_names() if name in snapshot.index.trees]
        return [] if any(snapshot.removes(name) for name in trees) else names

    def _take_back(self, snapshot: Snapshot) -> None:
        """The snapshot is not whole: its files are not what the task may begin with."""
        for name, path in self._trees.state_names():
            if name in snapshot.index.trees:
                snapshot.remove_tree(name, path)

    @contextmanager
    def _images(self, snapshot: Snapshot, names: list[str]) -> Iterator[ServedImages]:
        """CRIU's images for one run of it, those called *names* still in the store."""
        images = self._run_dir.empty(self._run_dir.images)
        with ServedImages(snapshot, images, names) as served:
            snapshot.restore_tree("images", images, without=names)
            begin_waits_again(images)
            reach(CrashPoint.IMAGES_FETCHED)
            yield served

    def _run_criu(
        self, job: Job, snapshot: Snapshot, served: ServedImages, tcp: str
    ) -> tuple[CriuRun | None, Cause]:
        """Run it up to its gate, or say why it did not get there; what *served* met is raised."""
        criu, images = find_criu(), self._run_dir.images
        self._capsules.finish()
        run = CriuRun(self._capsules, job)
        if served.names:
            served.listen()
        run.spawn(
            restore_argv(
                criu=criu,
                images=images,
                gate=self._capsules.gate,
                pipes=snapshot.about.pipes,
                network_lock=network_lock(criu),
                tcp=tcp,
                cpu_check=(images / "cpuinfo.img").exists(),
                stream=bool(served.names),
            ),
            root_pid=snapshot.about.root_pid,
            cwd=images,
            strays=has_strays(images),
        )
        at_gate = run.wait_gate() is not None
        if served.failure is not None:
            if at_gate:  # what was still in its pipes need not be what was verified
                refuse(run)
            self._take_back(snapshot)
            raise served.failure
        if at_gate:
            return run, Cause(code="", message="", hint="")
        log = images / "restore.log"
        text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
        return None, diagnose(text + _text(self._capsules.gate.with_name("criu.out")))


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def refuse(run: CriuRun) -> None:
    """Let CRIU kill the tree that it restored: it is not released."""
    try:
        run.open_gate("no")
    except FsnapError as problem:
        logger.debug("the refused restore ended with: {}", problem)


def let_go(run: CriuRun, lease: Lease, clock: Clock) -> None:
    """Let the restored tree run, with lease left; a store that is away now is waited for.

    :class:`~fsnap.errors.Fenced` from the renewal; :class:`CapsuleError` when CRIU fails.
    """
    while True:
        if not lease.left:
            persist(lease.renew, None, clock)
        try:
            code = run.open_gate("go")
        except LeaseOver:
            continue
        if code != 0:
            raise CapsuleError("CRIU failed after its gate was opened")
        return
