"""Waits go on in a tree that CRIU lets run again.

A thread that is stopped in ``poll``, in a sleep or in a futex with a time limit goes on by
``restart_syscall``, with what its kernel remembers of it.  The code that CRIU runs in a
process makes the kernel forget: the call fails with ``EINTR``.  ``epoll_wait`` and some
more do so at any stop (signal(7)).  A program that catches no signal need not reckon with
that, and a checkpoint is no reason to break it.

So, while CRIU waits at its gate and holds the whole tree, such threads are set to the
moment before the call, as CRIU does it for other waits.  Only CRIU may do so, as
their tracer: it is made to, through ptrace.  What is restored later is put right in its
images (:mod:`fsnap.criu.waits`).

Standard library only: it runs inside the capsule's init.
"""

from __future__ import annotations

import itertools
import struct
import time
from collections.abc import Iterator
from pathlib import Path

from fsnap.capsule.tracing import GETREGSET, NT_PRSTATUS, RAX, RIP, SETREGSET, Stopped, stopped

WAITS = frozenset({7, 35, 202, 230, 232, 281, 441, 128, 65, 220, 208, 43, 288, 45, 47})
"""The calls, by their numbers on x86-64: those that :data:`fsnap.criu.waits.WAITS` names."""
CALL_BYTES = 2
"""Of the instruction ``syscall``."""
LIMIT_S = 2.0
"""Some eight thousand threads."""
_EINTR = (1 << 64) - 4
"""What CRIU makes of a call that its stop interrupted: ``compel_get_task_regs`` in its ``infect.c``."""
_PTRACE = 101
_REGISTERS_BYTES = 27 * 8
_VECTOR = struct.Struct("<QQ")


def resume_waits(tracer: int) -> int:
    """Threads that *tracer* holds will wait on when it lets them go; says how many.

    The tree is frozen meanwhile: after ``LIMIT_S`` the rest is left.  :class:`OSError` when the tracer is
    gone, or can't be traced.
    """
    end_s = time.monotonic() + LIMIT_S
    waiting = list(_waiting(tracer))
    if not waiting:
        return 0
    with stopped(tracer) as criu:
        in_time = itertools.takewhile(lambda _: time.monotonic() < end_s, waiting)
        return sum(_begin_again(criu, thread, call) for thread, call in in_time)


def _waiting(tracer: int) -> Iterator[tuple[int, int]]:
    """Ids of threads that may wait so, each with the number of its call."""
    for task in Path("/proc").glob("[0-9]*/task/[0-9]*"):
        try:
            call = (task / "syscall").read_text().split()[0]
            if call.isdecimal() and int(call) in WAITS and _is_held(task, tracer):
                yield int(task.name), int(call)
        except OSError:
            continue  # it has ended


def _is_held(task: Path, tracer: int) -> bool:
    """By *tracer*, and with no signal to handle, which would end its wait as well."""
    lines = (line.split(":\t", 1) for line in (task / "status").read_text().splitlines())
    status = {line[0]: line[-1] for line in lines}
    pending = int(status["SigPnd"], 16) | int(status["ShdPnd"], 16)
    return int(status["TracerPid"]) == tracer and not pending & ~int(status["SigBlk"], 16)


def _begin_again(criu: Stopped, thread: int, call: int) -> bool:
    """Set *thread* to the moment before its *call*; false if that has ended by now."""
    vector, room = criu.room, criu.room + _VECTOR.size
    criu.write(vector, _VECTOR.pack(room, _REGISTERS_BYTES))
    if criu.call(_PTRACE, GETREGSET, thread, NT_PRSTATUS, vector) != 0:
        return False
    registers = list(struct.unpack(f"<{_REGISTERS_BYTES // 8}Q", criu.read(room, _REGISTERS_BYTES)))
    if registers[RAX] != _EINTR:
        return False
    registers[RAX] = call
    registers[RIP] -= CALL_BYTES
    criu.write(room, struct.pack(f"<{len(registers)}Q", *registers))
    return criu.call(_PTRACE, SETREGSET, thread, NT_PRSTATUS, vector) == 0
