"""What init's forks become: the task's root, a helper such as CRIU, or what helps it.  They never return.

Standard library only: it runs inside the capsule's init.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Sequence
from typing import Any, NoReturn

from fsnap.capsule.subreaper import become_subreaper, make_subreaper
from fsnap.capsule.waits import resume_waits

STDIO_FD_BASE = 100
"""CRIU's restore finds the new output pipes at these numbers (stdout, then stderr)."""

ROOT_APPEARS_S = 60.0
POLL_S = 0.001
RESUMER_S = 10
"""A last resort for a CRIU that does not stop; the work itself takes 2 s at most."""


def become_task(request: dict[str, Any], pipes: Sequence[int], failure_fd: int) -> NoReturn:
    """The command of *request*, a session leader with its output in *pipes*.

    What forbids it is written to *failure_fd* as ``errno text``; the caller reads nothing on success.
    """
    try:
        os.setsid()
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.dup2(pipes[0], 1)
        os.dup2(pipes[1], 2)
        failure_fd = fcntl.fcntl(failure_fd, fcntl.F_DUPFD_CLOEXEC, 3)
        _default_signals()
        # A daemon whose parent has ended is the task's child then, as in a container where the task is
        # PID 1.  As init's it would be outside of the tree that CRIU dumps, and be lost with the node.
        become_subreaper()
        os.chdir(request["cwd"])
        argv = request["argv"]
        if request.get("ipc"):
            argv = ["unshare", "--ipc", "--", *argv]
        os.execvpe(argv[0], argv, dict(request["env"]))
    except OSError as problem:
        os.write(failure_fd, f"{problem.errno} {problem.strerror}".encode())
    os._exit(127)


def become_helper(request: dict[str, Any], pipes: Sequence[int]) -> NoReturn:
    """The program of *request*, a process group leader, with its own output in a log and *pipes* where
    CRIU inherits them; ``cwd`` is where it starts, if not here."""
    try:
        os.setpgid(0, 0)
        os.chdir(request.get("cwd", "."))
        _default_signals()
        os.umask(0o077)  # for CRIU's images and logs; what it restores has modes and umask of its own
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        for offset, fd in enumerate(pipes):
            os.dup2(fd, STDIO_FD_BASE + offset, inheritable=True)
        os.execv(request["argv"][0], request["argv"])
    except OSError as problem:
        os.write(2, f"{request['argv'][0]}: {problem}\n".encode())
    os._exit(126)


def become_injector(request: dict[str, Any]) -> NoReturn:
    """Makes the root of a tree that CRIU is about to restore adopt orphans from its first moment on.

    CRIU gives that back only after it has made some, which would be init's children then.
    """
    end_s = time.monotonic() + ROOT_APPEARS_S
    while time.monotonic() < end_s:
        try:
            make_subreaper(request["root_pid"])
            os._exit(0)
        except ProcessLookupError:
            time.sleep(POLL_S)
        except OSError as problem:
            with open(request["log"], "a", encoding="utf-8") as log:
                log.write(f"the root will not adopt what CRIU orphans: {problem}\n")
            break
    os._exit(1)


def run_resumer(criu: int, log_path: str) -> None:
    """Has a fork of this process :func:`~fsnap.capsule.waits.resume_waits`, and waits for it.

    A fork, since what it stops is init's child, whose stops init would take for news.
    """
    pid = os.fork()
    if pid == 0:
        _default_signals()
        signal.alarm(RESUMER_S)
        try:
            resume_waits(criu)
            os._exit(0)
        except (OSError, ValueError, KeyError) as problem:
            with open(log_path, "a", encoding="utf-8") as log:
                log.write(f"waits that the dump interrupted stay so: {problem!r}\n")
        finally:
            os._exit(1)
    os.waitpid(pid, 0)


def _default_signals() -> None:
    """Python ignores SIGPIPE and init ignores some more: neither is the task's wish."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            try:
                signal.signal(number, signal.SIG_DFL)
            except OSError:
                continue
