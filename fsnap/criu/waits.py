"""Waits that a dump interrupted, begun again in its images.

A thread that is stopped in ``poll``, in a sleep or in a futex with a time limit goes on by
``restart_syscall``, with what its kernel remembers of it.  Nobody can take that out of the
kernel, so CRIU lets such a call fail with ``EINTR`` (``compel_get_task_regs`` in its
``infect.c``).  ``epoll_wait`` and some more do so at any stop (signal(7)).  A program that
catches no signal need not reckon with that, and some don't: ``script`` ends the program
that it records.

Here its registers are set to the moment before the call, as CRIU does for other waits.
The time begins anew, unless the program lets the kernel write the rest of it where the
time stood, or waits until a moment.  A thread with a signal to handle keeps its ``EINTR``:
that is what the signal would have brought.

x86-64 only: elsewhere a register of the call's is lost by then.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from loguru import logger

from fsnap.criu.protobuf import fields, find, replace
from fsnap.criu.pstree import LENGTH_BYTES, MAGICS_BYTES, ImageProcess, read_processes

WAITS = frozenset({7, 35, 202, 230, 232, 281, 441, 128, 65, 220, 208, 43, 288, 45, 47})
"""``poll``, ``nanosleep``, ``futex`` and ``clock_nanosleep`` of x86-64, which have a ``restart_block`` in the
kernel's source; ``epoll_wait``, ``epoll_pwait``, ``epoll_pwait2``, ``rt_sigtimedwait``, ``semop``,
``semtimedop`` and ``io_getevents``; ``accept``, ``accept4``, ``recvfrom`` and ``recvmsg``, which fail so on a
socket with a time limit.  None of them has done anything when it was interrupted."""
EINTR = (1 << 64) - 4
CALL_BYTES = 2
"""Of the instruction ``syscall``."""
X86_64, NATIVE = 1, 1

# Fields of core_entry (images/core.proto, core-x86.proto and siginfo.proto in the CRIU source).
ARCHITECTURE = (1,)
REGISTERS = (2, 2)
SHARED_SIGNALS = (3, 10)
BLOCKED, LEADERS_BLOCKED = (5, 6), (3, 5)
OWN_SIGNALS = (5, 9)
# Of REGISTERS:
AX, CALL, IP, MODE = 11, 16, 17, 28
_INFO = 1
"""Of one signal's entry: its ``siginfo_t``, which begins with its number."""
_NUMBER_BYTES = 4
_HEADER_BYTES = MAGICS_BYTES + LENGTH_BYTES


def begin_waits_again(images: Path) -> int:
    """Rewrite the registers of waiting threads in the staged *images*; says how many threads there were.

    Images that are not there or can't be understood are left alone: they are CRIU's to refuse.
    :class:`OSError` when one can't be written.
    """
    begun = 0
    try:
        for process in read_processes(images):
            begun += _begin_again(images, process)
    except (FileNotFoundError, ValueError) as problem:
        logger.debug("interrupted waits stay interrupted: {}", problem)
    return begun


def _begin_again(images: Path, process: ImageProcess) -> int:
    paths = [images / f"core-{thread}.img" for thread in process.threads]
    found = {path: path.read_bytes() for path in paths}
    cores = {path: image[_HEADER_BYTES:] for path, image in found.items()}
    shared = {signal for core in cores.values() for signal in _signals(find(core, *SHARED_SIGNALS))}
    before = {path: core for path in paths if (core := _before_its_wait(cores[path], shared)) is not None}
    for path, core in before.items():
        path.write_bytes(found[path][:MAGICS_BYTES] + len(core).to_bytes(LENGTH_BYTES, "little") + core)
    return len(before)


def _before_its_wait(core: bytes, shared: set[int]) -> bytes | None:
    """*core* as it was before the wait it is in; ``None`` if it is in none, or has a signal to handle."""
    registers = find(core, *REGISTERS)
    if find(core, *ARCHITECTURE) != X86_64 or not isinstance(registers, bytes):
        return None
    of = {number: value for number, value in fields(registers) if isinstance(value, int)}
    if of.get(AX) != EINTR or of.get(CALL) not in WAITS or of.get(MODE, NATIVE) != NATIVE:
        return None
    if _has_signal(core, shared):
        return None
    core = replace(core, (*REGISTERS, AX), of[CALL])
    return replace(core, (*REGISTERS, IP), of[IP] - CALL_BYTES)


def _has_signal(core: bytes, shared: set[int]) -> bool:
    """Whether the thread is about to handle a signal: one of its own or of those its process *shared*."""
    blocked = find(core, *BLOCKED)
    mask = find(core, *LEADERS_BLOCKED) if blocked is None else blocked
    pending = shared | set(_signals(find(core, *OWN_SIGNALS)))
    return not isinstance(mask, int) or any(not mask >> (signal - 1) & 1 for signal in pending)


def _signals(queue: int | bytes | None) -> Iterator[int]:
    """The numbers of the signals that wait in *queue*."""
    for _, entry in fields(queue) if isinstance(queue, bytes) else ():
        info = find(entry, _INFO) if isinstance(entry, bytes) else None
        if isinstance(info, bytes):
            yield int.from_bytes(info[:_NUMBER_BYTES], "little")
