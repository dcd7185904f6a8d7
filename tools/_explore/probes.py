"""Does the agent keep its duties?  Each probe runs the real code on doubles and looks what it does.

The exploration runs with what the probes find: a duty that the code does not keep is left out of the
model, and the search shows what follows.
"""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from _explore.doubles import (
    LEASE_MS,
    NOTICE,
    TASK,
    HandClock,
    Hands,
    Stage,
    WatchedStore,
    claim,
    holder,
)
from _explore.initprobes import INIT_PROBES
from _explore.recoveryprobes import RECOVERY_PROBES
from _explore.shell import Shell
from fsnap.agent import service
from fsnap.agent.claiming import Claimant
from fsnap.agent.effects import Executor
from fsnap.agent.lease import Lease
from fsnap.agent.loop import TaskLoop
from fsnap.core.effects import Start
from fsnap.core.events import Tick
from fsnap.core.model import Basis, Config, Facts, SnapshotRef, State, TaskState
from fsnap.errors import Fenced, FsnapError, StoreError
from fsnap.journal.heartbeat import Beat, Heartbeat
from fsnap.snapshots.capture import Capture
from fsnap.snapshots.known import KnownChunks

Probe = Callable[[Path], bool]


def observed() -> Shell:
    """The duties that the code keeps."""
    from loguru import logger

    logger.disable("fsnap")
    try:
        with tempfile.TemporaryDirectory(prefix="fsnap-explore-") as folder:
            return Shell(**{duty: probe(Path(folder)) for duty, probe in PROBES.items()})
    finally:
        logger.enable("fsnap")


def _any(**attributes: Any) -> Any:
    return SimpleNamespace(**attributes)


# -- the journal and the loop


def conditional_create(folder: Path) -> bool:
    """Of two nodes that write the same record, the second is fenced and the first one's record stands."""
    first = Stage(folder)
    second = Stage(folder, first.store)
    first.live("first")
    second.take(claim(name="second"))
    try:
        second.ledger.mirror()
    except Fenced:
        recorded = Stage(folder, first.store).ledger.state.holder
        return recorded == holder("first")
    return False


def _loop(stage: Stage, facts: Facts) -> tuple[TaskLoop, Hands]:
    hands = Hands(stage.store)
    book = _any(deadline_s=None, failed_dumps=0, facts=lambda: facts)
    shipper = _any(soon=lambda: None, stop=lambda: None)
    loop = TaskLoop(
        ledger=stage.ledger, book=book, executor=hands, clock=stage.clock, shipper=lambda on_fenced: shipper
    )
    return loop, hands


def effects_wait_for_their_record(folder: Path) -> bool:
    """A claim starts something once its record is in the store, and nothing if it does not get there."""
    stage = Stage(folder)
    loop, hands = _loop(stage, Facts())
    loop.handle(claim(), 0.0)
    away = Stage(folder)
    away.store.away = 1000
    lone, idle = _loop(away, Facts())
    try:
        lone.handle(claim(), 0.0)
    except StoreError:
        pass
    return hands.done == [("Start", 1)] and not idle.done


def stopped_before_giving_up(folder: Path) -> bool:
    """At the deadline the tree stands still before the record that gives the claim back is anybody's."""
    stage = Stage(folder)
    stage.live()
    stage.take(NOTICE)
    stage.ledger.mirror()
    records = stage.store.records()
    loop, hands = _loop(stage, Facts(left_ms=0))
    loop.handle(Tick(), 0.0)
    asked: list[str] = []
    jobs = _any(cancel=lambda: asked.append("cancel"), join=lambda timeout_s: asked.append("join"))
    control = _any(request=lambda op, **_: asked.append(op))
    executor = _executor(capsules=_any(control=control), book=_any(started=False))
    executor._jobs = jobs
    executor.stand_still()
    return hands.done[:2] == [("stand still", records), ("Kill", records + 1)] and asked == [
        "cancel",
        "join",
        "freeze",
    ]


def _executor(**parts: Any) -> Executor:
    wanted = [name for name in inspect.signature(Executor).parameters if name != "self"]
    return Executor(**{name: parts.get(name, _any()) for name in wanted})


def hold_counts_from_the_record(folder: Path) -> bool:
    """The wait begins when the loop hands over the first effect, which is after its record."""
    clock = HandClock()
    executor = _executor(clock=clock)
    clock.sleep(50)
    start = Start(hold_ms=LEASE_MS)
    with patch.object(executor, "_begin", lambda name, work: None):
        executor.carry_out(start, TaskState(task=TASK))
    return executor._not_before_s(start) >= clock.now_s + LEASE_MS / 1000


# -- snapshots


def packs_before_manifest(folder: Path) -> bool:
    """The manifest is the last object, and there is none when a pack is missing from the listing."""
    from fsnap.core.manifest import SnapshotAbout

    about = _about(SnapshotAbout)
    store = WatchedStore()
    with _capture(store) as capture:
        capture.add_blob("notes", b"x" * 10_000)
        try:
            capture.publish(about)
            return False
        except ValueError:
            capture.seal_index()
        capture.publish(about)
    whole = any("/packs/" in key for key in store.written) and store.written[-1].endswith("/manifest.json")
    forgetful = WatchedStore()
    forgetful.forgets = True
    try:
        with _capture(forgetful) as capture:
            capture.add_blob("notes", b"x" * 10_000)
            capture.seal_index()
    except FsnapError:
        return whole
    return False


def _capture(store: WatchedStore) -> Capture:
    return Capture(store=store, prefix=f"tasks/{TASK}", snapshot_id="000001-0000000001", known=KnownChunks())


def _about(kind: Any) -> Any:
    return kind(
        snapshot_id="000001-0000000001",
        task=TASK,
        epoch=1,
        seq=1,
        final=True,
        created_at="2026-01-01T00:00:00.000Z",
        command=("true",),
        cwd="/",
        env_names=(),
        state_dirs=(),
        kernel="",
        arch="",
        criu_version="",
        criu_options=(),
        root_pid=1000,
        stdout_offset=0,
        stderr_offset=0,
        pipes={},
        run_ms=0,
        fsnap_version="",
        extra={},
    )


# -- the claimant


def _claimant(clock: HandClock, store: WatchedStore, pull: Callable[[], TaskState]) -> Claimant:
    return Claimant(
        ledger=_any(pull=pull),
        store=store,
        task=TASK,
        attempt=None,
        instance="",
        made_here=lambda holder: False,
        wait_s=LEASE_MS / 1000 * 5,
        clock=clock,
    )


def own_clock(folder: Path) -> bool:
    """An old stamp proves nothing: the lease is over once this clock saw no change for its length."""
    clock, store = HandClock(), WatchedStore()
    live = TaskState(
        task=TASK, state=State.RUNNING, epoch=1, held=True, holder=holder(), config=Config(lease_ms=LEASE_MS)
    )
    beats_end_s = clock.now_s + LEASE_MS / 1000 * 1.5

    def beat() -> None:
        if clock.now_s <= beats_end_s:
            stamp = Beat(node="node", epoch=1, count=int(clock.now_s), at="1999-01-01T00:00:00.000Z")
            Heartbeat.put(store, TASK, stamp)

    beat()
    clock.on_sleep = beat
    verdict = _claimant(clock, store, lambda: live).wait(lambda: False)
    waited_s = clock.now_s - beats_end_s
    return verdict is not None and verdict.basis is Basis.LEASE_EXPIRED and waited_s >= LEASE_MS / 1000 - 1


def wait_sees_the_end(folder: Path) -> bool:
    """Who waits and finds the task ended does not judge it."""
    ended = TaskState(task=TASK, state=State.COMPLETED, epoch=1, exit_code=0)
    try:
        return _claimant(HandClock(), WatchedStore(), lambda: ended).wait(lambda: False) is None
    except ValueError:
        return False


# -- before the claim


def writes_only_as_holder(folder: Path) -> bool:
    """A notice before the claim of a task that is held is recorded by nobody."""
    stage = Stage(folder)
    stage.live()
    seq = stage.ledger.state.seq
    parts = _any(ledger=stage.ledger, book=_any(facts=lambda: Facts(started=False)))
    news = service.Service._is_news(_any(), parts, replace(NOTICE, notice_id="early"))
    return news and stage.ledger.state.seq == seq


def adoption_goes_with_the_claim(folder: Path) -> bool:
    """The record of a snapshot that was found is not put before the claim."""
    stage = Stage(folder)
    stage.live()
    records, seq = stage.store.records(), stage.ledger.state.seq
    parts = _any(ledger=stage.ledger, store=stage.store, book=_any(facts=Facts), keys=None)
    me = _any(_settings=_any(fresh=False, task=TASK, keys=None))
    with patch.object(service, "find_unrecorded", lambda *_, **__: _ref()):
        service.Service._adopt_unrecorded(me, parts)
    return stage.ledger.state.seq == seq + 1 and stage.store.records() == records


def _ref() -> SnapshotRef:
    return SnapshotRef(
        id="000001-0000000002",
        manifest="00",
        epoch=1,
        kind="periodic",
        bytes=0,
        new_bytes=0,
        stored_bytes=0,
        committed_at="",
        run_ms=0,
        stdout_bytes=0,
        stderr_bytes=0,
    )


# -- the lease


def _lease(clock: HandClock, store: WatchedStore, check: Callable[[], None]) -> Lease:
    return Lease(
        store=store,
        task=TASK,
        node="node",
        lease_ms=LEASE_MS,
        check=check,
        snapshot=lambda: (TaskState(task=TASK), Facts()),
        on_fenced=lambda fenced: None,
        on_beat=lambda beat: None,
        clock=clock,
    )


def first_beat_may_fail(folder: Path) -> bool:
    """A store that is away at the first renewal raises nothing."""
    store = WatchedStore()
    store.away = 1000
    lease = _lease(HandClock(), store, lambda: None)
    try:
        lease.start()
    except StoreError:
        return False
    finally:
        lease.stop()
    return not lease.left


def lease_counts_from_its_beginning(folder: Path) -> bool:
    """A renewal that took long is good for so much less."""
    clock = HandClock()
    lease = _lease(clock, WatchedStore(), lambda: clock.sleep(LEASE_MS / 1000))
    lease.renew()
    return not lease.left


def renewal_looks_for_the_fence(folder: Path) -> bool:
    """The heartbeat is put, then newer records are looked for, and only then the lease is longer."""
    clock, store = HandClock(), WatchedStore()
    beats: list[int] = []

    def fenced() -> None:
        beats.append(len(store.written))
        raise Fenced("another node has it")

    lease = _lease(clock, store, fenced)
    try:
        lease.renew()
    except Fenced:
        return beats == [1] and not lease.left
    return False


PROBES: dict[str, Probe] = (
    {
        probe.__name__: probe
        for probe in (
            conditional_create,
            effects_wait_for_their_record,
            stopped_before_giving_up,
            hold_counts_from_the_record,
            packs_before_manifest,
            own_clock,
            wait_sees_the_end,
            writes_only_as_holder,
            adoption_goes_with_the_claim,
            first_beat_may_fail,
            lease_counts_from_its_beginning,
            renewal_looks_for_the_fence,
        )
    }
    | RECOVERY_PROBES
    | INIT_PROBES
)
"""By the name of the duty in :class:`~_explore.shell.Shell`."""
