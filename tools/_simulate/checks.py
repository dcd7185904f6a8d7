"""What must hold in every step of a life, by whoever sees the whole world at one true time.

The first thing that does not hold is kept; the life ends there.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from _simulate import seams
from _simulate.snapshots import manifest_key, pack_key
from _simulate.tree import Tree
from fsnap.charts import task_chart
from fsnap.core.effects import Exit
from fsnap.core.events import SnapshotSaved
from fsnap.core.fold import fold
from fsnap.core.model import SnapshotRef, State, TaskState
from fsnap.core.records import Record
from fsnap.core.replay import replay
from fsnap.errors import FsnapError
from fsnap.ids import task_key
from fsnap.journal import mirror as mirrored_journal

if TYPE_CHECKING:
    from _simulate.node import SimNode
    from _simulate.world import World


class Checks:
    """The invariants of one life."""

    def __init__(self, world: World, task: str) -> None:
        self._world = world
        self._task = task
        self._prefix = f"tasks/{task_key(task)}"
        self.state = TaskState(task=task)
        """The fold of what is in the store."""
        self._records: list[Record] = []
        self._released: set[tuple[str, int, int]] = set()
        self._ahead = 0
        """The newest copy that made progress."""
        self.arrows: set[tuple[str, str, str]] = set()

    def wrong(self, invariant: str, what: str) -> None:
        """Something does not hold."""
        if not self._world.violation:
            self._world.trace(f"VIOLATION {invariant}: {what}")
            self._world.violation = f"{invariant}: {what}"

    # -- copies

    def runs(self, tree: Tree) -> None:
        """*tree* is about to make progress."""
        for node in self._world.nodes:
            for other, _ in node.trees:
                if other is not tree and other.running and not (node.waking or tree.node.waking):
                    self.wrong("one live copy", f"{tree} runs beside {other}")
        if tree.number < self._ahead and not tree.node.waking:
            self.wrong("one live copy", f"{tree} runs after copy {self._ahead} has made progress")
        if tree.source:
            self._was_released(tree)

    def _was_released(self, tree: Tree) -> None:
        init = tree.node.init_of(tree)
        if (tree.node.name, init.pid, init.start) not in self._released:
            self.wrong("release after its record", f"{tree} runs, and no mirrored record releases it")
        if tree.source not in {ref.id for ref in self.state.snapshots}:
            if tree.source not in {
                r.event.ref.id for r in self._records if isinstance(r.event, SnapshotSaved)
            }:
                self.wrong("restore what is committed", f"{tree} comes from {tree.source}")

    def steps(self, tree: Tree) -> None:
        """*tree* has done a unit."""
        if tree.number < self._ahead:
            if not tree.node.waking:
                self.wrong("one live copy", f"{tree} works after copy {self._ahead} has made progress")
            self._world.count("a copy worked past its lease after a pause")
        self._ahead = max(self._ahead, tree.number)

    def writes(self, node: SimNode) -> None:
        """A restore writes to *node*'s state dir."""
        shared = self._world.shared_folder is not None
        for one in self._world.nodes:
            for tree, _ in one.trees:
                if tree.running and (shared or one is node):
                    self.wrong("no write beside a live copy", f"{node.name} restores files under {tree}")

    def killed(self, tree: Tree, why: str) -> None:
        """An agent ends *tree*."""
        if not tree.ran or "dead" in tree.blocked:
            return
        init = tree.node.init_of(tree)
        holder = self.state.holder
        ours = holder is not None and (holder.node, holder.init_pid) == (tree.node.name, init.pid)
        if (
            not ours
            or not self.state.held
            or self.state.state in (State.UPLOADED, State.COMPLETED, State.FAILED)
        ):
            return
        if not tree.node.journal.state(self._task).held:
            self._world.count("gave up without the store")
            return
        if self._world.asked_anew():
            self._world.count("--fresh ends the copy that it finds here")
            return
        self.wrong("kill after its record", f"{tree} is killed ({why}) in {self.state.state.value}")

    # -- the journal

    def appended(self, record: Record) -> None:
        """An agent recorded this in its local journal."""
        self.arrows.add((record.trigger, record.source.value, record.dest.value))
        self._world.trace(f"{record.node} records {_line(record)}")
        if isinstance(record.event, SnapshotSaved):
            self._stored(record.event.ref)

    def written(self, key: str, data: bytes) -> None:
        """The store has a new object."""
        if not key.startswith(f"{self._prefix}/journal/"):
            return
        _, records = seams.decode_batch(self._task, data, key)
        for record in records:
            self._mirrored(record)

    def _mirrored(self, record: Record) -> None:
        if (record.seq, record.prev) != (self.state.seq + 1, self.state.digest):
            self.wrong("the chain", f"record {record.seq} follows record {self.state.seq}")
            return
        self.state = fold(self.state, record)
        self._records.append(record)
        self._world.trace(f"the store has {_line(record)}")
        if record.trigger == "restored" and self.state.holder is not None:
            holder = self.state.holder
            self._released.add((holder.node, holder.init_pid, holder.init_start))
        if isinstance(record.event, SnapshotSaved):
            self._stored(record.event.ref)

    def _stored(self, ref: SnapshotRef) -> None:
        """Every byte of a snapshot that a record speaks of is in the store."""
        objects = self._world.bucket.objects
        try:
            manifest = json.loads(objects.get(manifest_key(self._prefix, ref.id)))
            for names in manifest["trees"].values():
                for name in names:
                    objects.get(pack_key(self._prefix, name))
        except FsnapError as problem:
            self.wrong("recorded when stored", f"snapshot {ref.id}: {problem}")

    # -- the end

    def exited(self, node: SimNode, code: int, outcome: str) -> None:
        """``run`` returned."""
        told = any(isinstance(e, Exit) and e.exit_code == code for r in self._records for e in r.effects)
        if outcome == "exited" and not told:
            self.wrong("exit after its record", f"{node.name} returns {code}, and no record says so")
        if outcome == "exited" and code == 0:
            self._whole(node)
        for tree, init in node.trees:
            if tree.running and init.alive:
                self.wrong("nothing runs on", f"{tree} runs after its agent returned {code}")

    def left_alone(self, node: SimNode, fresh: bool) -> None:
        """An agent gave up on a store that does not answer, before it touched anything."""
        orphaned = node.init is not None and node.init.alive and node.journal.state(self._task).held
        if orphaned and not fresh:
            self.wrong("an outage ends no agent of a live copy", f"{node.name}'s capsule has none")

    def _whole(self, node: SimNode) -> None:
        units = list(range(self._world.job.units))
        if node.folder != units:
            self.wrong("the output is whole", f"{node.name} has {_ranges(node.folder)} of {len(units)}")

    def journal(self) -> None:
        """The whole journal, at the end of a life."""
        try:
            records = mirrored_journal.read_records(self._world.bucket.objects, self._task)
        except FsnapError as problem:
            self.wrong("the chain", str(problem))
            return
        again = replay(task_chart(), self._task, records)
        for divergence in again.divergences:
            self.wrong("replay decides the same", str(divergence))
        restores: dict[int, int] = {}
        for record in records:
            restores[record.epoch] = restores.get(record.epoch, 0) + (record.trigger == "restored")
        if most := max(restores.values(), default=0) > 1:
            self.wrong("one resume per epoch", f"an epoch has {most}")


def _line(record: Record) -> str:
    return f"{record.seq} (epoch {record.epoch}) {record.trigger}: {record.dest.value}, {record.note}"


def _ranges(numbers: list[int]) -> str:
    """Short for a list of numbers."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(f"{a}-{b}" for a, b in parts) or "nothing"
