"""The objects of one run, made in their order and let go together."""

from __future__ import annotations

from typing import Any

from fsnap.agent.capsules import Capsules
from fsnap.agent.capture import Capturer
from fsnap.agent.claiming import Claimant
from fsnap.agent.effects import Executor
from fsnap.agent.home import RunDir
from fsnap.agent.lease import Lease
from fsnap.agent.ledger import BackgroundMirror, Ledger
from fsnap.agent.loop import TaskLoop
from fsnap.agent.node import Node
from fsnap.agent.output import STOP_S, Output
from fsnap.agent.pruning import Pruner
from fsnap.agent.recheck import Rechecker
from fsnap.agent.restart import restarted
from fsnap.agent.restoring import Restorer
from fsnap.agent.runtime import FactBook, RunClock, Watch
from fsnap.agent.settings import RunSettings
from fsnap.agent.trees import Trees
from fsnap.agent.warm import Warm
from fsnap.clock import Clock
from fsnap.core.events import CapsuleLost, DumpFailed, TaskExited
from fsnap.core.model import Holder, State
from fsnap.ids import task_key
from fsnap.stores.retrying import Patience, RetryingStore

BEAT_PATIENCE = Patience(attempts=6, base_s=0.1, cap_s=1.0, total_s=10.0)
WORK_PATIENCE = Patience(attempts=14, base_s=0.1, cap_s=5.0, total_s=60.0)


class Parts:
    """Everything that serves one task on one node."""

    def __init__(
        self,
        settings: RunSettings,
        run_dir: RunDir,
        store: RetryingStore,
        ledger: Ledger,
        node: Node,
        clock: Clock,
    ) -> None:
        self._abandoned = False
        self.settings = settings
        self.node = node
        self.clock = clock
        self.ledger = ledger
        self.run_dir = run_dir
        self.store = store
        work = store.with_patience(WORK_PATIENCE)
        prefix = f"tasks/{task_key(settings.task)}"
        self.capsules = Capsules(run_dir=run_dir, settings=settings, node=node.name, instance=node.instance)
        self.outputs = {
            "stdout": Output(name="stdout", spool=run_dir.spool("stdout"), target=settings.stdout),
            "stderr": Output(name="stderr", spool=run_dir.spool("stderr"), target=settings.stderr),
        }
        self.trees = Trees(
            settings=settings, mounts=self.capsules.mounts, keep=run_dir.path, first=run_dir.first
        )
        self.run_clock = RunClock(clock)
        self.watch = Watch(self.capsules, lambda: self.capturer.prepare())
        self.book = FactBook(clock=clock, run_clock=self.run_clock, watch=self.watch)
        self.capturer = Capturer(
            capsules=self.capsules,
            run_dir=run_dir,
            trees=self.trees,
            outputs=self.outputs,
            store=work,
            prefix=prefix,
            settings=settings,
            clock=clock,
            run_ms=self.run_clock.run_ms,
        )
        self.restorer = self._make_restorer(work, prefix)
        self.pruner = Pruner(
            store=work,
            prefix=prefix,
            known=self.capturer.known,
            ship=ledger.mirror,
            is_mirrored=ledger.has_mirrored,
            keys=settings.keys,
        )
        self.rechecker = Rechecker(store=work, prefix=prefix, known=self.capturer.known)
        self.lease = self._make_lease()
        self.executor = self._make_executor()
        self.loop = TaskLoop(
            ledger=ledger,
            book=self.book,
            executor=self.executor,
            clock=clock,
            shipper=lambda on_fenced: BackgroundMirror(ledger, on_fenced),
        )
        self.warm = self._make_warm(work, prefix)
        self.capsules.on_exit(self._on_capsule)
        self.claimant = self._make_claimant(node)

    def _make_restorer(self, store: RetryingStore, prefix: str) -> Restorer:
        return Restorer(
            capsules=self.capsules,
            run_dir=self.run_dir,
            trees=self.trees,
            outputs=self.outputs,
            store=store,
            prefix=prefix,
            known=self.capturer.known,
            tcp=self.settings.tcp,
            clock=self.clock,
            keys=self.settings.keys,
        )

    def _make_warm(self, store: RetryingStore, prefix: str) -> Warm:
        return Warm(
            capsules=self.capsules,
            trees=self.trees,
            store=store,
            prefix=prefix,
            known=self.capturer.known,
            clock=self.clock,
            overhead_permille=self.settings.config.max_overhead_permille,
            may_run=lambda: self.book.started and not self.executor.busy(),
            on_pass=self.book.warmed,
            key=self.settings.keys.first if self.settings.keys else None,
        )

    def _make_lease(self) -> Lease:
        settings, ledger = self.settings, self.ledger
        return Lease(
            store=self.store.with_patience(BEAT_PATIENCE),
            task=settings.task,
            node=self.node.name,
            lease_ms=settings.config.lease_ms,
            check=ledger.check,
            snapshot=lambda: (ledger.state, self.book.facts()),
            on_fenced=lambda fenced: self.loop.post_fenced(fenced),
            on_beat=ledger.keep_beat,
            clock=self.clock,
            keys=settings.keys,
        )

    def _make_executor(self) -> Executor:
        return Executor(
            settings=self.settings,
            capsules=self.capsules,
            capturer=self.capturer,
            restorer=self.restorer,
            pruner=self.pruner,
            rechecker=self.rechecker,
            trees=self.trees,
            outputs=self.outputs,
            lease=self.lease,
            watch=self.watch,
            book=self.book,
            run_clock=self.run_clock,
            clock=self.clock,
        )

    def _make_claimant(self, node: Node) -> Claimant:
        settings = self.settings
        return Claimant(
            ledger=self.ledger,
            store=self.store,
            task=settings.task,
            attempt=settings.attempt,
            instance=node.instance,
            made_here=self._made_here,
            wait_s=settings.wait_s,
            clock=self.clock,
            keys=settings.keys,
        )

    def _made_here(self, holder: Holder | None) -> bool:
        return holder is not None and holder == self.capsules.last_here()

    def _on_capsule(self, event: dict[str, Any]) -> None:
        if event["event"] == "exited":
            self.run_clock.stop()  # before a slow reader has its time
            # What has not left when the end is recorded is lost with this node.
            for name, output in self.outputs.items():
                output.flush(int(event[name]), STOP_S)
            self.loop.post(TaskExited(exit_code=int(event["code"])))
        elif event["event"] == "gate-lost":
            self.loop.post(DumpFailed(code="criu-died", message="CRIU died while it held the tree"))
        else:
            self.loop.post(CapsuleLost(message="the capsule's init died"))

    def abandon(self) -> None:
        """Leave the capsule alive for the agent that comes after this one."""
        self._abandoned = True

    @property
    def begins_anew(self) -> bool:
        """``--fresh`` was said by the user, and not by an agent that starts itself again."""
        return self.settings.fresh and not restarted()

    def close(self) -> None:
        """Stop every thread; end the capsule and remove its traces."""
        self.lease.stop()
        self.watch.stop()
        self.warm.stop()
        self.trees.stop()
        for output in self.outputs.values():
            output.stop()
        self.loop.stop()
        if self._abandoned:
            return
        self.capsules.end()
        self.run_dir.sweep()
        if self.ledger.state.state is State.COMPLETED:
            self.trees.forget_first()
