"""Processes whose parent has ended: in the task's session, in their own, in another's, in a lost one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from pace import pause

STEPS = 24


def fork(body: Callable[[], object]) -> int:
    pid = os.fork()
    if pid == 0:
        body()
        os._exit(0)
    return pid


def work(kind: str) -> None:
    """What every orphan does: a line per step, and a word through its pipe at the end."""
    session, group = os.getsid(0), os.getpgrp()
    for step in range(STEPS):
        with Path(f"{kind}.txt").open("a") as file:
            file.write(f"{step} {os.getsid(0) == session} {os.getpgrp() == group}\n")
        pause()
    os.write(pipes[kind][1], f"{kind} is done\n".encode())


def orphan(body: Callable[[], None]) -> None:
    """*body* in a process whose parent has ended."""
    os.waitpid(fork(lambda: fork(body)), 0)


def in_a_session_of_its_own(kind: str) -> None:
    os.setsid()
    work(kind)


def daemon_with_worker() -> None:
    """Its session's leader is the parent that has ended."""
    worker = fork(lambda: work("worker"))
    work("daemon")
    os.waitpid(worker, 0)


def leader_of_others() -> None:
    """A living session leader, and an orphan in its session."""
    os.setsid()
    orphan(lambda: work("follower"))
    work("leader")


def make_daemon() -> None:
    os.setsid()
    fork(daemon_with_worker)


KINDS = ("plain", "session", "daemon", "worker", "follower", "leader", "late")
pipes = {kind: os.pipe() for kind in KINDS}
orphan(lambda: work("plain"))
orphan(lambda: in_a_session_of_its_own("session"))
os.waitpid(fork(make_daemon), 0)
leader = fork(leader_of_others)
for step in range(STEPS):
    print(f"step {step} ", flush=True)
    if step == STEPS // 2:
        orphan(lambda: work("late"))
    pause()
for _, write_end in pipes.values():
    os.close(write_end)
for read_end, _ in pipes.values():
    print(os.read(read_end, 100).decode(), end="", flush=True)
os.waitpid(leader, 0)
