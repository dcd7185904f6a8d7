"""What goes wrong, done to the world."""

from __future__ import annotations

import functools
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

from _simulate.plan import Fault
from fsnap.core.events import CheckpointAsked

if TYPE_CHECKING:
    from _simulate.node import SimNode
    from _simulate.world import Run, World


class InjectedDefect(Exception):
    """As a defect of the agent would be."""


def schedule(world: World) -> None:
    """All faults that come at a time of their own."""
    for fault in world.plan.faults:
        if fault.point is None:
            world.scheduler.at(fault.at_s, functools.partial(_due, world, fault))


def _due(world: World, fault: Fault) -> None:
    running = [run for run in world.runs if run.process.alive and not run.ended]
    if running and not world.healthy:
        strike(world, fault, world.rng.choice(running))


def strike(world: World, fault: Fault, run: Run) -> None:
    """*fault* happens to *run*, its node, or all."""
    if not run.node.alive or not run.process.alive or world.done:
        return
    world.count(fault.kind)
    place = "" if fault.point is None else f" at {fault.point.name}"
    world.trace(f"fault: {fault.kind}{place}, {run.process.name}")
    _ACTS[fault.kind](world, fault, run)


def _agent_killed(world: World, fault: Fault, run: Run) -> None:
    run.process.kill()
    world.again_soon()


def _agent_stopped(world: World, fault: Fault, run: Run) -> None:
    run.process.stop()
    world.scheduler.after(fault.length_s, run.process.go_on, run.node)
    if world.scheduler.in_fiber:
        world.scheduler.sleep(0.0)


def _agent_defect(world: World, fault: Fault, run: Run) -> None:
    raise InjectedDefect("injected defect")


def _node_dies(world: World, fault: Fault, run: Run) -> None:
    run.node.die("without a word")
    world.again_soon()


def _node_restarts(world: World, fault: Fault, run: Run) -> None:
    run.node.reboot()
    world.again_soon()


def _node_paused(world: World, fault: Fault, run: Run) -> None:
    run.node.pause(fault.length_s)
    if world.scheduler.in_fiber:
        world.scheduler.sleep(0.0)


def _partition(world: World, fault: Fault, run: Run) -> None:
    node = run.node
    node.partitioned = True

    def heal() -> None:
        node.partitioned = False

    world.scheduler.after(fault.length_s, heal)


def _outage(world: World, fault: Fault, run: Run) -> None:
    world.bucket.away = True

    def heal() -> None:
        world.bucket.away = False

    world.scheduler.after(fault.length_s, heal)


def _give(world: World, fault: Fault, node: SimNode, *, delay_s: float = 0.0) -> tuple[str, float]:
    notice_id = f"notice-{node.name}-{world.met[fault.kind]}-{fault.at_s:.3f}"
    window_s = 2.0 + fault.length_s
    node.metadata.give(notice_id, window_s, delay_s=delay_s + world.rng.random())
    return notice_id, window_s


def _notice(world: World, fault: Fault, run: Run) -> None:
    _, window_s = _give(world, fault, run.node)

    def dies() -> None:
        run.node.die("as announced")
        world.again_soon()

    world.scheduler.after(window_s + world.rng.random() * 2.0, dies)


def _false_notice(world: World, fault: Fault, run: Run) -> None:
    _give(world, fault, run.node)


def _taken_back(world: World, fault: Fault, run: Run) -> None:
    _, window_s = _give(world, fault, run.node)
    world.after_some(window_s * 1.5, run.node.metadata.take_back, run.node)


def _twice(world: World, fault: Fault, run: Run) -> None:
    notice_id, _ = _give(world, fault, run.node)
    for _ in range(2):
        world.after_some(5.0, lambda: run.node.metadata.repeat(notice_id), run.node)


def _signal(number: int) -> Callable[[World, Fault, Run], None]:
    def act(world: World, fault: Fault, run: Run) -> None:
        service = run.service
        if service is not None:
            run.process.when_running(lambda: service._on_signal(number, None))

    return act


def _init_dies(world: World, fault: Fault, run: Run) -> None:
    if run.node.init is not None:
        run.node.init.die("killed by somebody")


def _wall_jumps(world: World, fault: Fault, run: Run) -> None:
    run.node.clock.wall_offset_s += world.rng.choice((-86_400.0, -30.0, 30.0, 86_400.0))


def _rots(world: World, fault: Fault, run: Run) -> None:
    world.bucket.rot()


def _early(world: World, fault: Fault, run: Run) -> None:
    world.launch(world.new_node())


def _equal(world: World, fault: Fault, run: Run) -> None:
    attempt = run.settings.attempt
    world.launch(world.new_node(), number=attempt.number if attempt else None)


def _lower(world: World, fault: Fault, run: Run) -> None:
    attempt = run.settings.attempt
    world.launch(world.new_node(), number=max(0, attempt.number - 1) if attempt else None)


def _fresh(world: World, fault: Fault, run: Run) -> None:
    world.fresh_next = True


def _checkpoint(world: World, fault: Fault, run: Run) -> None:
    service = run.service
    if service is not None:
        seen_s = run.node.clock.mono_s()
        run.process.when_running(lambda: service._post(CheckpointAsked(reason="asked for"), seen_s))


_ACTS: dict[str, Callable[[World, Fault, Run], None]] = {
    "agent killed": _agent_killed,
    "agent stopped": _agent_stopped,
    "agent defect": _agent_defect,
    "node dies": _node_dies,
    "node restarts": _node_restarts,
    "node paused": _node_paused,
    "partition": _partition,
    "outage": _outage,
    "notice": _notice,
    "false notice": _false_notice,
    "notice taken back": _taken_back,
    "notice twice": _twice,
    "SIGTERM": _signal(signal.SIGTERM),
    "cancelled": _signal(signal.SIGINT),
    "init dies": _init_dies,
    "wall clock jumps": _wall_jumps,
    "pack rots": _rots,
    "early attempt": _early,
    "equal attempt": _equal,
    "lower attempt": _lower,
    "fresh attempt": _fresh,
    "checkpoint asked": _checkpoint,
}
