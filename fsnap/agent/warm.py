"""Warm passes: memory and files put into the store while the task runs, ahead of the next snapshot.

A pass is no step of the protocol: it writes packs that nothing refers to, and tells the
known set of them.  It makes way at once for every capture and restore.  Why none follows a
notice: the dump begins then, and what it commits first is safe first.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import platform
import threading
from collections.abc import Callable

from loguru import logger

from fsnap.agent.capsules import Capsules
from fsnap.agent.processes import IOPRIO_SET, IOPRIO_WHO_PROCESS, mapped_files
from fsnap.agent.trees import Trees
from fsnap.clock import Clock
from fsnap.criu import memory
from fsnap.errors import FsnapError
from fsnap.keys import Key
from fsnap.snapshots.errors import Interrupted
from fsnap.snapshots.known import KnownChunks
from fsnap.snapshots.warm import FilesRead, WarmPass, WarmStats
from fsnap.stores.base import Store

POLL_S = 0.5
FIRST_S = 5.0
"""From the tree's start to the first pass: what a task sets up at first is mostly gone soon."""
LEAST_S = 60.0
MOST_S = 600.0
"""Between two passes.  Packs that no snapshot will want cost requests and room, so passes that put much
again each time become rarer."""
MUCH = 0.1
"""Share of the content: a pass that finds more of it new than this was of little use to the one before."""

SHARE_PER_OVERHEAD = 5
"""A pass may use one processor for five times the allowed slowdown: while it runs it takes part of the
memory bandwidth, and of a processor what a nice thread gets; ``tools/bench warm-overhead`` measures it."""

NICE_STEP = 1.25
"""Weights of neighbouring nice values have this ratio, about (kernel/sched/core.c, sched_prio_to_weight)."""
_IDLE = 3 << 13
"""linux/ioprio.h: class idle."""


class Warm:
    """The thread that makes passes."""

    def __init__(
        self,
        *,
        capsules: Capsules,
        trees: Trees,
        store: Store,
        prefix: str,
        known: KnownChunks,
        clock: Clock,
        overhead_permille: int,
        may_run: Callable[[], bool],
        on_pass: Callable[[int, int, float], None],
        key: Key | None = None,
    ) -> None:
        self._capsules = capsules
        self._trees = trees
        self._store = store
        self._prefix = prefix
        self._known = known
        self._clock = clock
        self._overhead = overhead_permille / 1000
        self._share = min(1.0, SHARE_PER_OVERHEAD * self._overhead)
        self._may_run = may_run
        self._on_pass = on_pass
        self._key = key
        self._files: FilesRead = {}
        self._wait_s = LEAST_S
        self._passes = 0
        self._stop = threading.Event()

    def start(self) -> None:
        """Make passes while there is a live tree and nothing else is done with it."""
        if self._share > 0:
            threading.Thread(target=self._run, name="warm", daemon=True).start()

    def stop(self) -> None:
        """Make no more."""
        self._stop.set()

    def _goes_on(self) -> bool:
        return not self._stop.is_set() and self._may_run()

    def _run(self) -> None:
        be_nice(niceness(self._overhead, len(os.sched_getaffinity(0))))
        due_s: float | None = None
        while not self._stop.wait(POLL_S):
            now_s = self._clock.mono_s()
            if not self._goes_on():
                due_s = None if due_s is None else max(due_s, now_s + FIRST_S)
            elif due_s is None:
                due_s = now_s + FIRST_S
            elif now_s >= due_s:
                self._try()
                due_s = self._clock.mono_s() + self._wait_s

    def _try(self) -> None:
        try:
            self._note(self._pass())
        except Interrupted:
            logger.debug("a warm pass made way")
        except (FsnapError, OSError) as problem:
            logger.debug("a warm pass came to nothing: {}", problem)

    def _pass(self) -> WarmStats:
        proc = self._capsules.proc()
        with WarmPass(
            store=self._store,
            prefix=self._prefix,
            known=self._known,
            clock=self._clock,
            share=self._share,
            may_go_on=self._goes_on,
            key=self._key,
        ) as warm:
            for segment in memory.segments(proc, self._capsules.helpers()):
                warm.pages(segment.fill)
            sources = self._trees.all_sources(self._capsules.scratch())
            for source in self._trees.reread(sources, mapped_files(proc)):
                try:
                    warm.tree(source, self._files)
                except Interrupted:
                    raise
                except (FsnapError, OSError) as problem:
                    logger.debug("a warm pass left out {}: {}", source.root, problem)
            return warm.finish()

    def _note(self, stats: WarmStats) -> None:
        logger.debug(
            "warm pass: {} bytes read, {} new, {} put, {:.1f} s of {:.1f} s",
            stats.read_bytes,
            stats.new_bytes,
            stats.put_bytes,
            stats.busy_s,
            stats.took_s,
        )
        # How fast the content changes is not known before a second look.
        first, self._passes = self._passes == 0, self._passes + 1
        same_bytes = 0 if first else stats.read_bytes - stats.new_bytes
        self._on_pass(stats.read_bytes, same_bytes, stats.busy_s)
        changes = not first and stats.new_bytes > MUCH * stats.read_bytes
        self._wait_s = min(MOST_S, self._wait_s * 2) if changes else LEAST_S


def niceness(overhead: float, processors: int) -> int:
    """With it a thread costs a task that keeps all *processors* busy half of *overhead*, above 0 up to 1."""
    share = min(1.0, overhead * processors / 2)
    return min(19, round(math.log(1 / share) / math.log(NICE_STEP)))


def be_nice(value: int) -> None:
    """This thread, and those that it starts, come after the task's."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), value)
    number = IOPRIO_SET.get(platform.machine())
    if number is not None:
        ctypes.CDLL(None).syscall(number, IOPRIO_WHO_PROCESS, 0, _IDLE)
