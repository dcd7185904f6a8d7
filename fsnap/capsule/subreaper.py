"""Who adopts orphans (``PR_SET_CHILD_SUBREAPER``, prctl(2)): this process, or another one.

Another one is made to do so through ptrace(2).  It is stopped for some microseconds: its
registers and the code at its program counter are replaced by the call and a breakpoint, and
then put back; the kernel restarts a call that this interrupted.  Standard library only: it
runs inside the capsule's init.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import struct
from collections.abc import Iterator

_PR_SET_CHILD_SUBREAPER = 36

_CONT, _DETACH = 7, 17
_PEEK, _POKE = 1, 4
_GETREGSET, _SETREGSET, _SEIZE, _INTERRUPT = 0x4204, 0x4205, 0x4206, 0x4207
_EVENT_STOP = 128
_NT_PRSTATUS = 1
_WALL = 0x40000000
_WORD = (1 << 64) - 1
_REGISTERS_BYTES = 1024

_CALL = 0xCC050F
"""x86-64: ``syscall; int3``."""
_CALL_MASK = 0xFFFFFF
_PRCTL = 157
_R10, _R8, _RAX, _RDX, _RSI, _RDI, _ORIG_RAX, _RIP = 7, 9, 10, 12, 13, 14, 15, 16
"""Places in ``struct user_regs_struct`` (sys/user.h)."""


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def become_subreaper() -> None:
    """This process adopts the orphans below it, also after an exec."""
    if _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl: {os.strerror(number)}")


def make_subreaper(pid: int) -> None:
    """The single-threaded process *pid* adopts the orphans below it from now on.

    :class:`OSError` when it is gone, is traced already, or the call fails, and on processors other than
    x86-64, whose registers are not known here.
    """
    if os.uname().machine != "x86_64":
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    with _stopped(pid) as signals:
        before = _registers(pid)
        code = _ptrace(_PEEK, pid, before[_RIP]) & _WORD
        _ptrace(_POKE, pid, before[_RIP], (code & ~_CALL_MASK) | _CALL)
        try:
            made = _call(pid, before, signals)
        finally:
            _ptrace(_POKE, pid, before[_RIP], code)
            _set_registers(pid, before)
    if made:
        raise OSError(-made, os.strerror(-made))


@contextlib.contextmanager
def _stopped(pid: int) -> Iterator[list[int]]:
    """Trace and stop it; what is put into the list are signals that it gets when it goes on."""
    _ptrace(_SEIZE, pid)
    signals: list[int] = []
    try:
        _ptrace(_INTERRUPT, pid)
        _wait_for(pid, _EVENT_STOP, signals)
        yield signals
    finally:
        _ptrace(_DETACH, pid)
        for number in signals:
            os.kill(pid, number)


def _call(pid: int, before: list[int], signals: list[int]) -> int:
    """Run the call that was put at the program counter; what it returned."""
    registers = list(before)
    registers[_RAX], registers[_ORIG_RAX] = _PRCTL, _WORD  # the latter: no call is to be restarted
    registers[_RDI], registers[_RSI] = _PR_SET_CHILD_SUBREAPER, 1
    registers[_RDX] = registers[_R10] = registers[_R8] = 0
    _set_registers(pid, registers)
    _ptrace(_CONT, pid)
    _wait_for(pid, 0, signals)
    result = _registers(pid)[_RAX]
    return result - (1 << 64) if result >> 63 else result


def _wait_for(pid: int, event: int, signals: list[int]) -> None:
    """Until it stops by *event*, or at its breakpoint (0); signals that stop it before are kept for later."""
    while True:
        _, status = os.waitpid(pid, _WALL)
        if not os.WIFSTOPPED(status):
            raise ProcessLookupError(f"process {pid} has ended")
        number, seen = os.WSTOPSIG(status), status >> 16
        if seen == event and (event or number == signal.SIGTRAP):
            return
        if not seen:
            signals.append(number)
        _ptrace(_CONT, pid)


def _registers(pid: int) -> list[int]:
    room = ctypes.create_string_buffer(_REGISTERS_BYTES)
    vector = _Vector(ctypes.addressof(room), _REGISTERS_BYTES)
    _ptrace(_GETREGSET, pid, _NT_PRSTATUS, ctypes.addressof(vector))
    return list(struct.unpack(f"<{vector.length // 8}Q", room.raw[: vector.length]))


def _set_registers(pid: int, registers: list[int]) -> None:
    room = ctypes.create_string_buffer(struct.pack(f"<{len(registers)}Q", *registers))
    vector = _Vector(ctypes.addressof(room), len(registers) * 8)
    _ptrace(_SETREGSET, pid, _NT_PRSTATUS, ctypes.addressof(vector))


def _ptrace(request: int, pid: int, address: int = 0, data: int = 0) -> int:
    ctypes.set_errno(0)
    answer = int(_libc.ptrace(request, pid, address, data))
    if answer == -1 and (number := ctypes.get_errno()):
        raise OSError(number, f"ptrace: {os.strerror(number)}")
    return answer
