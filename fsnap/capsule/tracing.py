"""System calls made in another process, through ptrace(2).

The process is stopped for some microseconds: its registers and the code at its program
counter are replaced by the call and a breakpoint, and then put back; the kernel restarts a
call that this interrupted.  x86-64 only.  Standard library only: it runs inside the
capsule's init.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import struct
from collections.abc import Iterator

GETREGSET, SETREGSET = 0x4204, 0x4205
_CONT, _DETACH = 7, 17
_PEEK, _POKE = 1, 4
_SEIZE, _INTERRUPT = 0x4206, 0x4207
_EVENT_STOP = 128
NT_PRSTATUS = 1
_WALL = 0x40000000
_WORD = (1 << 64) - 1
_ROOM_BYTES = 1024

_CALL = 0xCC050F
"""``syscall; int3``."""
_CALL_MASK = 0xFFFFFF
R10, R8, R9, RAX, RDX, RSI, RDI, ORIG_RAX, RIP, RSP = 7, 9, 8, 10, 12, 13, 14, 15, 16, 19
"""Places in ``struct user_regs_struct`` (sys/user.h)."""
_ARGUMENTS = (RDI, RSI, RDX, R10, R8, R9)
_BELOW_STACK_BYTES = 2048
"""Further down than a function may use without moving the stack pointer (128), and most likely mapped."""


class Vector(ctypes.Structure):
    """``struct iovec``."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


class Stopped:
    """A process that is stopped and traced by this one."""

    def __init__(self, pid: int, signals: list[int]) -> None:
        self._pid = pid
        self._signals = signals
        self._before = _registers(pid)
        self.room = (self._before[RSP] - _BELOW_STACK_BYTES) & ~0xF
        """Where ``_ROOM_BYTES`` of its memory hold nothing."""

    def call(self, number: int, *arguments: int) -> int:
        """What the system call *number* returned in that process; a negative number is an errno."""
        registers = list(self._before)
        registers[RAX], registers[ORIG_RAX] = number, _WORD  # the latter: no call is to be restarted
        for place in _ARGUMENTS:
            registers[place] = 0
        for place, argument in zip(_ARGUMENTS, arguments, strict=False):
            registers[place] = argument
        at = self._before[RIP]
        code = _ptrace(_PEEK, self._pid, at) & _WORD
        _ptrace(_POKE, self._pid, at, (code & ~_CALL_MASK) | _CALL)
        try:
            _set_registers(self._pid, registers)
            _ptrace(_CONT, self._pid)
            _wait_for(self._pid, 0, self._signals)
            result = _registers(self._pid)[RAX]
        finally:
            _ptrace(_POKE, self._pid, at, code)
            _set_registers(self._pid, self._before)
        return result - (1 << 64) if result >> 63 else result

    def read(self, address: int, length: int) -> bytes:
        """Of its memory."""
        with open(f"/proc/{self._pid}/mem", "rb", buffering=0) as memory:
            return os.pread(memory.fileno(), length, address)

    def write(self, address: int, data: bytes) -> None:
        """Into its memory."""
        with open(f"/proc/{self._pid}/mem", "r+b", buffering=0) as memory:
            os.pwrite(memory.fileno(), data, address)


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[Stopped]:
    """Trace and stop the single-threaded process *pid* for a while.

    :class:`OSError` when it is gone or traced already, and on processors other than x86-64, whose
    registers are not known here.
    """
    if os.uname().machine != "x86_64":
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    _ptrace(_SEIZE, pid)
    signals: list[int] = []
    try:
        _ptrace(_INTERRUPT, pid)
        _wait_for(pid, _EVENT_STOP, signals)
        yield Stopped(pid, signals)
    finally:
        _ptrace(_DETACH, pid)
        for number in signals:
            os.kill(pid, number)


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
    room = ctypes.create_string_buffer(_ROOM_BYTES)
    vector = Vector(ctypes.addressof(room), _ROOM_BYTES)
    _ptrace(GETREGSET, pid, NT_PRSTATUS, ctypes.addressof(vector))
    return list(struct.unpack(f"<{vector.length // 8}Q", room.raw[: vector.length]))


def _set_registers(pid: int, registers: list[int]) -> None:
    room = ctypes.create_string_buffer(struct.pack(f"<{len(registers)}Q", *registers))
    vector = Vector(ctypes.addressof(room), len(registers) * 8)
    _ptrace(SETREGSET, pid, NT_PRSTATUS, ctypes.addressof(vector))


def _ptrace(request: int, pid: int, address: int = 0, data: int = 0) -> int:
    ctypes.set_errno(0)
    answer = int(_libc.ptrace(request, pid, address, data))
    if answer == -1 and (number := ctypes.get_errno()):
        raise OSError(number, f"ptrace: {os.strerror(number)}")
    return answer
