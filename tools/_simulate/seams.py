"""Where the agent's own modules meet the machine: each name that is replaced for a simulation, in one list.

Everything else of the agent is the real code: service, loop, ledger, mirror, lease, claim,
recovery, effects, capture, restore, planner, chart.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

from _simulate import control, snapshots
from _simulate.clock import ModuleTime
from _simulate.fibers import Killed
from _simulate.journal import record_of
from fsnap import crashpoints
from fsnap.agent import (
    adoption,
    capture,
    claiming,
    job,
    lease,
    ledger,
    loop,
    parts,
    recovery,
    restart,
    restoring,
    runtime,
    service,
)
from fsnap.agent.node import Node
from fsnap.charts import task_chart
from fsnap.core import chart
from fsnap.journal import mirror, rows
from fsnap.journal.rows import Batch
from fsnap.snapshots import prune

if TYPE_CHECKING:
    from _simulate.node import SimNode
    from _simulate.world import World

TICK_S = 1.0
"""Four times the real one: a tick costs as much as an event that matters."""


POLL_S = 0.2
"""Four times the real one, too."""


class Place:
    """A path below the run directory; carries its node to whoever is given it."""

    def __init__(self, node: Any) -> None:
        self.node = node

    def __truediv__(self, name: str) -> Place:
        return self

    def exists(self) -> bool:
        return False

    def glob(self, pattern: str) -> list[Place]:
        return []

    def write_bytes(self, data: bytes) -> None:
        pass


class RunDirOf:
    """Stands in for :class:`fsnap.agent.home.RunDir`."""

    def __init__(self, node: Any) -> None:
        self.node = node
        self.path = self.images = self.staging = self.first = Place(node)

    def lock_init(self) -> int | None:
        init = self.node.init
        return None if init is not None and init.alive else os.open(os.devnull, os.O_RDONLY)

    def spool(self, name: str) -> Place:
        return self.path

    def empty(self, folder: Place) -> Place:
        return folder

    def sweep(self) -> None:
        pass


class NoOutput:
    """The task prints nothing."""

    emitted = 0
    base = 0
    target = None

    def __init__(self, **_: Any) -> None:
        pass

    def start(self, base: int, *, resume: bool = False) -> None:
        pass

    def flush(self, spool_bytes: int, timeout_s: float) -> bool:
        return True

    def tail_range(self, spool_bytes: int) -> tuple[int, int]:
        return 0, 0

    def hold(self) -> None:
        pass

    def unhold(self) -> None:
        pass

    def stop(self) -> None:
        pass


class NoWatch:
    """The tree's size is what it is."""

    def __init__(self, capsules: Any, prepare: Callable[[], None]) -> None:
        self.tree_bytes = 64 << 20
        self.unsupported = ""

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass


class NoWarm:
    """Warm passes are no step of the protocol, and there is no memory to read."""

    def __init__(self, **_: Any) -> None:
        pass

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass


class NoStream:
    """Images are files: taken from where CRIU wrote them, and there before it is asked to restore."""

    failure = None
    names = ()

    def __init__(self, *_: Any) -> None:
        pass

    def __enter__(self) -> NoStream:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def finish(self) -> dict[str, Any]:
        return {}

    def abort(self) -> None:
        pass


class NoPool:
    """Objects are read one after the other."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def map(self, work: Callable[[Any], Any], items: Any) -> Iterator[Any]:
        return map(work, items)

    def shutdown(self, **_: Any) -> None:
        pass


class _Identity:
    """Stands in for :mod:`fsnap.capsule.identity`: of the node that asks."""

    def __init__(self, world: World) -> None:
        self._world = world

    def boot_id(self) -> str:
        return self._node.boot_id

    def pid_namespace(self) -> str:
        return f"pid:[{self._node.name}]"

    def start_ticks(self, pid: int) -> int | None:
        init = self._node.init
        return init.start if init is not None and init.alive and init.pid == pid else None

    @property
    def _node(self) -> SimNode:
        return self._world.scheduler.current.process.node


@functools.cache
def _guards(version: str) -> tuple[str, ...]:
    """Every guard that the task's chart names."""
    which = task_chart()
    assert which.version == version
    return tuple(sorted({name for arrow in which.arrows for name in arrow.conditions + arrow.unless}))


def _remembering(fire: Callable[..., str]) -> Callable[..., str]:
    """The chart answers the same question the same way; the library takes a millisecond for it."""

    known: dict[tuple[str, str, str, tuple[bool, ...]], str] = {}

    def step(which: chart.Chart, source: str, trigger: str, guard: Callable[[str], bool]) -> str:
        answers = tuple(guard(name) for name in _guards(which.version))
        question = (which.version, source, trigger, answers)
        if question not in known:
            known[question] = fire(which, source, trigger, guard)
        return known[question]

    return step


def _decoding(decode: Callable[..., Any]) -> Callable[..., Any]:
    """The same bytes are the same records."""
    known: dict[tuple[str, bytes], Batch] = {}

    def decode_once(task: str, body: bytes, where: str, **_: Any) -> Any:
        batch = known.get((task, body))
        if batch is None:
            batch, records = decode(task, body, where)
            if len(known) > 5_000:
                known.clear()
            known[task, body] = batch
            return batch, records
        return batch, [record_of(plain) for plain in batch.records]

    return decode_once


decode_batch = _decoding(rows.decode_batch)
_fire = _remembering(chart._fire)


@contextmanager
def installed(world: World) -> Iterator[None]:
    """The agent's modules run in *world* for a while."""
    threads, queues, time = world.threads, world.queues, ModuleTime(world.scheduler)
    names: list[tuple[Any, str, Any]] = [
        *((module, "threading", threads) for module in (ledger, lease, job, runtime, mirror)),
        *((module, "queue", queues) for module in (loop, job, service)),
        (job, "time", time),
        (loop, "TICK_S", TICK_S),
        (job, "POLL_S", POLL_S),
        (mirror, "ThreadPoolExecutor", NoPool),
        (mirror, "decode_batch", decode_batch),
        (chart, "_fire", _fire),
        (ledger, "heads", SimpleNamespace(publish=lambda store, state, sealed: None)),
        (claiming, "identity", _Identity(world)),
        (recovery, "start_ticks", _Identity(world).start_ticks),
        (service, "token_hex", lambda length: f"{world.rng.getrandbits(length * 8):0{length * 2}x}"),
        (service, "become_subreaper", lambda: None),
        (service, "this_node", lambda name, env: _node(world)),
        (service, "start_again", world.start_again),
        (parts, "Capsules", control.SimCapsules),
        (parts, "Output", NoOutput),
        (parts, "Trees", snapshots.SimTrees),
        (parts, "Watch", NoWatch),
        (parts, "Warm", NoWarm),
        (prune, "manifest_packs", snapshots.manifest_packs),
        *_captures(),
        *_restores(),
        (crashpoints, "observer", world.reached),
    ]
    with ExitStack() as stack:
        for module, name, stand_in in names:
            stack.enter_context(mock.patch.object(module, name, stand_in))
        yield


def _node(world: World) -> Node:
    node = world.scheduler.current.process.node
    return Node(name=node.name, instance=node.instance)


def _captures() -> list[tuple[Any, str, Any]]:
    return [
        (capture, "Capture", snapshots.SimCapture),
        (capture, "KnownChunks", snapshots.SimKnown),
        (capture, "StreamedImages", NoStream),
        (capture, "PageIndex", lambda: None),
        (capture, "TreeSource", lambda name, root, page_structured: snapshots.images_source(root)),
        (capture, "_stage", snapshots.stage),
        (capture, "_slice", lambda path, start, end: b""),
        (capture, "_read", lambda path: ""),
        (capture, "find_criu", lambda: "criu"),
        (capture, "criu_version", lambda criu: "0"),
        (capture, "network_lock", lambda criu: "skip"),
        (capture, "recorded_options", lambda argv: ()),
        (capture, "dump_argv", _dump_argv),
        (capture, "drop_lock", lambda images, used: None),
        (capture, "look", lambda proc, root, helpers: SimpleNamespace(problems=[], connected=False)),
        (capture, "mapped_files", lambda proc: frozenset()),
        (capture, "scheduling", lambda proc: {}),
        (capture, "frozen_ms", lambda images: 300),
    ]


def _dump_argv(*, leave_running: bool, **_: Any) -> list[str]:
    return ["dump", "--leave-running"] if leave_running else ["dump"]


def _restores() -> list[tuple[Any, str, Any]]:
    return [
        (restoring, "Snapshot", snapshots.SimSnapshot),
        (restoring, "ServedImages", NoStream),
        (restoring, "streamed", lambda snapshot: []),
        (adoption, "Snapshot", snapshots.SimSnapshot),
        (restoring, "find_criu", lambda: "criu"),
        (restoring, "network_lock", lambda criu: "skip"),
        (restoring, "restore_argv", lambda **_: ["restore"]),
        (restoring, "has_strays", lambda images: False),
        (restoring, "begin_waits_again", lambda images: 0),
        (restoring, "apply_scheduling", lambda proc, extra: None),
        (restoring, "write_private", lambda path, data: None),
        (restoring, "_text", lambda path: ""),
    ]


MOST_RESTARTS = restart.MOST

__all__ = ["Killed", "MOST_RESTARTS", "RunDirOf", "installed"]
