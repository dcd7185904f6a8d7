"""What a CRIU log says went wrong: a cause that a user can act on.

The patterns come from CRIU 4.2.1's own messages, each seen in a real failure; the first
``Error`` line of a log is seldom the cause, so all lines are searched, most specific
pattern first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

HARMLESS = (
    re.compile(r"rlimit: Can't setup RLIMIT_NOFILE for self"),
    re.compile(r"tun: Unable to create tun"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why CRIU failed."""

    code: str
    message: str
    hint: str
    closes_tcp: bool = False
    """A restore may be tried again with its connections closed."""


@dataclass(frozen=True, slots=True)
class _Known:
    code: str
    pattern: str
    message: str
    hint: str
    closes_tcp: bool = False


KNOWN = (
    _Known(
        "io-uring",
        r"anon_inode:\[io_uring\]",
        "the task uses io_uring",
        "Set UV_USE_IO_URING=0, or the like.",
    ),
    _Known(
        "bad-fd",
        r"Can't dump file (?P<a>\d+) of that type \[\d+\] \((?P<b>[^)]*)\)",
        "file descriptor {a} ({b}) can't be saved",
        "The task must not hold it.",
    ),
    _Known(
        "bad-fd",
        r"send_fds failed \(-22\)",
        "a file descriptor can't be saved, most likely one of io_uring",
        "Set UV_USE_IO_URING=0, or the like.",
    ),
    _Known(
        "tcp-bind",
        r"Can't bind inet socket back",
        "a connection's address is not on this node",
        "Connections to other hosts do not survive; the application must connect again.",
        True,
    ),
    _Known(
        "unix-stream",
        r"Can't dump half of stream unix connection.*?peer name: (?P<a>\S*)",
        "a UNIX socket is connected to a process outside the task ({a})",
        "Close it, or run the other end inside the task.",
    ),
    _Known(
        "unix-socket", r"External socket is used", "a socket's other end is outside the task", "Close it."
    ),
    _Known(
        "ghost-limit",
        r"Can't dump ghost file (?P<a>\S+) of (?P<b>\d+) size",
        "the unlinked open file {a} of {b} bytes is too large to save",
        "Keep it linked, or make it smaller.",
    ),
    _Known(
        "sysv-shm",
        r"SysVIPC shmem map",
        "the task uses SysV shared memory",
        "Run it with --ipc.",
    ),
    _Known(
        "outside-tty",
        r"Can't lookup mount=\d+ for fd=(?P<a>\S+) path=(?P<b>\S+)",
        "file descriptor {a} is {b}, from outside the capsule",
        "The task must not open terminals or message queues of the host.",
    ),
    _Known(
        "outside-tty",
        r"tty: Don't have tty to inherit session from",
        "the task has a terminal from outside the capsule",
        "The task must not open terminals of the host.",
    ),
    _Known(
        "nested-namespace",
        r"Can't dump nested (?P<a>\w+) namespace|Can't restore sub-task in NS",
        "the task makes namespaces of its own",
        "Containers inside the task can't be saved.",
    ),
    _Known(
        "traced", r"Unseizable non-zombie (?P<a>\d+)", "process {a} is being traced", "Detach the debugger."
    ),
    _Known(
        "capability",
        r"Can't get rlimit \d+: Operation not permitted",
        "the agent lacks CAP_SYS_RESOURCE and the task is not root",
        "Grant the capability, or run the task as root.",
    ),
    _Known("pid-taken", r"Can't fork for (?P<a>\d+): File exists", "PID {a} is taken in the capsule", ""),
    _Known(
        "missing-file",
        r"Can't open file (?P<a>\S+) on restore: No such file or directory",
        "{a} is missing on this node",
        "What the task has open must exist on every node at the same path, or lie in a state dir.",
    ),
    _Known(
        "changed-file",
        r"File (?P<a>\S+) has bad (?P<b>size|mode|build-ID)",
        "{a} has another {b} on this node",
        "The nodes' programs and inputs must be the same.",
    ),
    _Known(
        "not-executable", r"PR_SET_MM_MAP\) failed with -13", "the task's program is not executable here", ""
    ),
    _Known(
        "no-space",
        r"No space left on device|Unable to spice data",
        "the disk for the images is full",
        "Make room.",
    ),
    _Known(
        "cpu",
        r"CPU instruction capabilities do not match",
        "this node's CPU lacks features of the one that the task ran on",
        "Use the same instance family.",
    ),
    _Known(
        "task-gone",
        r"(?:No such process|Can't open /proc/\d+|Unable to find (?:root )?task|No task found)",
        "the task was gone when the dump began",
        "",
    ),
    _Known(
        "kernel-features",
        r"Could not initialize kernel features detection",
        "CRIU could not find out what the kernel can do",
        "'criu check' tells more; in a network namespace of one's own the loopback interface must be up.",
    ),
    _Known("soft-dirty", r"Tracking memory is not available", "the kernel does not track dirty pages", ""),
)


def diagnose(log: str) -> Cause:
    """The cause in *log* (CRIU's own log, and what it printed)."""
    errors = [line for line in log.splitlines() if "Error" in line and not _harmless(line)]
    text = "\n".join(line for line in log.splitlines() if not _harmless(line))
    for known in KNOWN:
        if found := re.search(known.pattern, text):
            groups = {name: value or "" for name, value in found.groupdict().items()}
            return Cause(
                code=known.code,
                message=known.message.format_map(groups),
                hint=known.hint,
                closes_tcp=known.closes_tcp,
            )
    last = (
        re.sub(r"^\([\d.]+\)\s*(?:\d+:\s*)?", "", errors[-1]).strip()
        if errors
        else "CRIU ended without a word"
    )
    return Cause(code="criu", message=last[:300], hint="See the CRIU log that is kept beside it.")


def _harmless(line: str) -> bool:
    return any(pattern.search(line) for pattern in HARMLESS)
