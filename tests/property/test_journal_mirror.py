"""Two nodes and a store that fails, in any order: one history, and nobody writes on after a fence.

The store may refuse a create, apply it and lose the answer, or apply it at some later
time; a listing or a read may fail; a process may restart; mirrored rows may be damaged
on a disk.  A model of who wrote which object says whether a node must be fenced.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fsnap.errors import Fenced, ObjectExists, StoreUnavailable
from fsnap.journal import local
from fsnap.journal.mirror import journal_prefix, read_records
from fsnap.stores.base import Buffer, ObjectInfo
from tests.unit.journal.support import TASK, FaultyStore, Node, tamper

NODES = ("node-a", "node-b")


class LateStore(FaultyStore):
    """Besides: ``late``, a create that is under way when its caller gives up."""

    def __init__(self) -> None:
        super().__init__()
        self.under_way: list[tuple[str, bytes]] = []
        self.reads_that_work: int | None = None

    def create(self, key: str, data: Buffer) -> None:
        if self.faults[:1] == ["late"]:
            self.faults = ["before"]
            self.under_way.append((key, bytes(data)))
        super().create(key, data)

    def _read(self) -> None:
        if self.reads_that_work is not None:
            if self.reads_that_work == 0:
                raise StoreUnavailable("the store does not answer")
            self.reads_that_work -= 1

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        self._read()
        return super().get(key, start=start, length=length)

    def list(self, prefix: str = "", *, after: str = "") -> Iterator[ObjectInfo]:
        self._read()
        return super().list(prefix, after=after)

    def objects(self) -> list[tuple[int, int, str]]:
        """First and last number and writer of each object."""
        found = []
        for row in self.inner.list(journal_prefix(TASK)):
            document = json.loads(self.inner.get(row.key))
            records = document["records"]
            found.append((records[0]["seq"], records[-1]["seq"], document["nonce"].split()[1]))
        return found


class TwoNodes(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.store = LateStore()
        self.nodes = {
            name: Node(Path(self.directory.name) / name / "journal.db", self.store, name=name)
            for name in NODES
        }
        self.written: dict[str, set[str]] = {name: set() for name in NODES}
        self.at = dict.fromkeys(NODES, 0)
        self.fenced = dict.fromkeys(NODES, False)
        self.history: list[str] = []

    def teardown(self) -> None:
        for node in self.nodes.values():
            node.journal.close()
        self.directory.cleanup()

    def end(self) -> int:
        return max((last for _, last, _ in self.store.objects()), default=0)

    def superseded(self, name: str) -> bool:
        """Somebody else has an object after what *name* knows."""
        return self.fenced[name] or any(
            first > self.at[name] and writer != name for first, _, writer in self.store.objects()
        )

    # -- what may happen

    @rule(name=st.sampled_from(NODES), count=st.integers(1, 3))
    def append(self, name: str, count: int) -> None:
        node = self.nodes[name]
        before = set(node.digests())
        node.append(count)
        self.written[name] |= set(node.digests()) - before

    @rule(
        name=st.sampled_from(NODES),
        faults=st.lists(st.sampled_from(["ok", "before", "after", "late"]), max_size=2),
        bound=st.sampled_from([1, 2, 512]),
    )
    def flush(self, name: str, faults: list[str], bound: int) -> None:
        node = self.nodes[name]
        had_tail = node.journal.head(TASK).seq > node.journal.mirrored_seq(TASK)
        expected = self.superseded(name) and (had_tail or self.fenced[name])
        self.store.faults = list(faults)
        default, local.MAX_BATCH_RECORDS = local.MAX_BATCH_RECORDS, bound
        try:
            at = node.mirror.flush()
        except Fenced:
            assert expected
            self.fenced[name] = True
        except StoreUnavailable:
            assert set(faults) - {"ok"}
            self.at[name] = node.journal.mirrored_seq(TASK)
        else:
            assert not expected
            assert at == node.journal.head(TASK).seq == node.journal.mirrored_seq(TASK)
            assert at == self.end() or not had_tail
            self.at[name] = at
        finally:
            local.MAX_BATCH_RECORDS = default
            self.store.faults = []

    @rule(name=st.sampled_from(NODES))
    def check(self, name: str) -> None:
        expected = self.superseded(name)
        try:
            self.nodes[name].mirror.check()
        except Fenced:
            assert expected
            self.fenced[name] = True
        else:
            assert not expected
            self.at[name] = self.end()

    @rule(name=st.sampled_from(NODES))
    def pull(self, name: str) -> None:
        state = self.nodes[name].mirror.pull()
        assert state.seq == self.end()
        self.at[name] = state.seq
        self.fenced[name] = False

    @rule(
        name=st.sampled_from(NODES),
        call=st.sampled_from(["flush", "check", "pull"]),
        reads=st.integers(0, 3),
    )
    def reads_fail(self, name: str, call: str, reads: int) -> None:
        node = self.nodes[name]
        must_not_pass = call == "check" and self.superseded(name)
        self.store.reads_that_work = reads
        try:
            getattr(node.mirror, call)()
        except StoreUnavailable:
            self.at[name] = max(self.at[name], 0 if self.fenced[name] else self._own_end(name))
        except Fenced:
            assert self.superseded(name)
            self.fenced[name] = True
        else:
            assert not must_not_pass
            self.at[name] = node.journal.mirrored_seq(TASK)
            self.fenced[name] = self.fenced[name] and call != "pull"
        finally:
            self.store.reads_that_work = None

    def _own_end(self, name: str) -> int:
        """How far *name* got before the read failed: objects of its own that it put or found in this call."""
        end = self.at[name]
        for first, last, writer in self.store.objects():
            if first == end + 1 and writer == name and last <= self.nodes[name].journal.mirrored_seq(TASK):
                end = last
        return end

    @rule(name=st.sampled_from(NODES))
    def restart(self, name: str) -> None:
        self.nodes[name].restart()
        self.at[name] = self.nodes[name].journal.mirrored_seq(TASK)
        self.fenced[name] = False

    @precondition(lambda self: self.store.under_way)
    @rule(pick=st.randoms(use_true_random=False))
    def a_late_create_arrives(self, pick: object) -> None:
        key, data = self.store.under_way.pop(pick.randrange(len(self.store.under_way)))  # type: ignore[attr-defined]
        with contextlib.suppress(ObjectExists):
            self.store.inner.create(key, data)

    @precondition(lambda self: any(node.journal.mirrored_seq(TASK) for node in self.nodes.values()))
    @rule(data=st.data(), harm=st.sampled_from(["UPDATE records SET note = '?'", "DELETE FROM records"]))
    def a_disk_is_damaged_and_the_node_looks_again(self, data: st.DataObject, harm: str) -> None:
        names = [name for name in NODES if self.nodes[name].journal.mirrored_seq(TASK)]
        name = data.draw(st.sampled_from(names))
        node = self.nodes[name]
        seq = data.draw(st.integers(1, node.journal.mirrored_seq(TASK)))
        tamper(node.path, f"{harm} WHERE task = ? AND seq = ?", TASK, seq)
        node.restart()
        self.pull(name)

    # -- what must hold after each step

    @invariant()
    def there_is_one_history_and_it_only_grows(self) -> None:
        records = read_records(self.store.inner, TASK)  # checks digests and the chain
        digests = [record.digest for record in records]
        assert digests[: len(self.history)] == self.history
        self.history = digests

    @invariant()
    def what_a_node_calls_mirrored_is_in_the_store(self) -> None:
        for node in self.nodes.values():
            mirrored = node.mirrored()
            assert mirrored == self.history[: len(mirrored)]

    @invariant()
    def no_record_is_lost_without_a_trace(self) -> None:
        for name, node in self.nodes.items():
            kept = set(node.digests()) | {orphan.digest for orphan in node.journal.orphaned(TASK)}
            assert self.written[name] <= kept


TwoNodes.TestCase.settings = settings(max_examples=40, stateful_step_count=30)
TestTwoNodes = TwoNodes.TestCase
