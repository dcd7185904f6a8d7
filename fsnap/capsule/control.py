"""The agent's side of a capsule: launch one, connect to one, ask its init."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fsnap.capsule.identity import start_ticks
from fsnap.capsule.mounts import CapsuleMounts
from fsnap.errors import CapsuleError

LAUNCH_TIMEOUT_S = 30.0
ANSWER_TIMEOUT_S = 30.0


class Launch:
    """A capsule being made: its scratch file systems are there, its overlays are not yet."""

    def __init__(self, *, run_dir: Path, mounts: CapsuleMounts, lock_fd: int) -> None:
        """Start it; :class:`CapsuleError` when the namespaces or mounts are refused."""
        self.run_dir = run_dir
        (run_dir / "scratch").mkdir(mode=0o700, exist_ok=True)
        answer_read, answer_write = os.pipe()
        go_read, self._go = os.pipe()
        self._answers = answer_read
        self._heard = b""
        spec = {"run_dir": str(run_dir), "lock_fd": lock_fd, "time_ns": _has_time_ns(), **mounts.to_plain()}
        with subprocess.Popen(
            [
                sys.executable,
                "-I",
                "-S",
                str(Path(__file__).with_name("launch.py")),
                str(answer_write),
                str(go_read),
                str(run_dir),  # for whoever looks at the processes
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=_append_to(run_dir / "init.log"),
            pass_fds=(answer_write, go_read, lock_fd),
        ) as process:
            os.close(answer_write)
            os.close(go_read)
            process.communicate(json.dumps(spec).encode())
        # The parent's and the child's lines come in either order.
        heard = {**self._hear(), **self._hear()}
        self.init_pid = int(heard["init_pid"])
        self.init_start = start_ticks(self.init_pid) or 0

    @property
    def scratch(self) -> Path:
        """The scratch directory as the agent reaches it."""
        return scratch_path(self.init_pid, self.run_dir)

    def finish(self) -> Control:
        """Mount the overlays, start the init proper and connect to it."""
        os.write(self._go, b"go\n")
        os.close(self._go)
        self._hear()
        os.close(self._answers)
        return Control(run_dir=self.run_dir, init_pid=self.init_pid, init_start=self.init_start)

    def abandon(self) -> None:
        """Drop a capsule that was not finished."""
        with contextlib.suppress(OSError):
            os.close(self._go)
        os.close(self._answers)
        reap(self.init_pid)

    def _hear(self) -> dict[str, Any]:
        """The next line of the launcher; a line may come together with others, so it is cut by hand."""
        while b"\n" not in self._heard:
            ready, _, _ = select.select([self._answers], [], [], LAUNCH_TIMEOUT_S)
            data = os.read(self._answers, 4096) if ready else b""
            if not data:
                raise CapsuleError("the capsule could not be made: its launcher ended without a word")
            self._heard += data
        line, self._heard = self._heard.split(b"\n", 1)
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise CapsuleError(f"the capsule could not be made: {answer['error']}")
        return answer


def _append_to(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def _has_time_ns() -> bool:
    return os.path.exists("/proc/self/ns/time")


def scratch_path(init_pid: int, run_dir: Path) -> Path:
    """Where the agent sees the scratch file systems of the capsule of *init_pid*."""
    return Path(f"/proc/{init_pid}/root{run_dir}/scratch")


def reap(pid: int) -> None:
    """Wait for a child that has ended or is about to; nothing happens when it is not ours."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


class Control:
    """A connection to a capsule's init.

    ``request`` may be called from any thread.  Events go to the listener given to
    ``listen``, from a thread of this object; ``{"event": "gone"}`` is the last one.
    """

    def __init__(self, *, run_dir: Path, init_pid: int, init_start: int) -> None:
        """Connect; :class:`CapsuleError` when nobody answers."""
        self.run_dir = run_dir
        self.init_pid = init_pid
        self.init_start = init_start
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        folder = os.open(run_dir, os.O_PATH | os.O_DIRECTORY)
        try:
            self._socket.connect(f"/proc/self/fd/{folder}/init.sock")
        except OSError as problem:
            raise CapsuleError(f"the capsule's init does not answer: {problem}") from problem
        finally:
            os.close(folder)
        self._lock = threading.Lock()
        self._count = 0
        self._waiting: dict[int, queue.SimpleQueue[dict[str, Any]]] = {}
        self._events: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._gone = False
        threading.Thread(target=self._read, name="capsule", daemon=True).start()

    def listen(self, listener: Callable[[dict[str, Any]], None]) -> None:
        """Give every event, those of the past included, to *listener*."""
        threading.Thread(target=self._dispatch, args=(listener,), name="capsule-events", daemon=True).start()

    def _dispatch(self, listener: Callable[[dict[str, Any]], None]) -> None:
        while True:
            event = self._events.get()
            listener(event)
            if event["event"] == "gone":
                return

    def request(self, op: str, **arguments: Any) -> dict[str, Any]:
        """The init's answer to *op*; :class:`CapsuleError` when it refuses, or is gone."""
        answers: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        with self._lock:
            if self._gone:
                raise CapsuleError(f"the capsule is gone ({op})")
            self._count += 1
            number = self._count
            self._waiting[number] = answers
            try:
                self._socket.sendall(json.dumps({"id": number, "op": op, **arguments}).encode() + b"\n")
            except OSError as problem:
                raise CapsuleError(f"the capsule is gone ({op}): {problem}") from problem
        try:
            answer = answers.get(timeout=ANSWER_TIMEOUT_S)
        except queue.Empty:
            raise CapsuleError(f"the capsule's init did not answer {op!r}") from None
        if not answer["ok"]:
            raise CapsuleError(f"the capsule's init refused {op!r}: {answer['error']}")
        return answer

    def end(self) -> None:
        """Kill the capsule, tree and all, and wait until the kernel has ended it."""
        try:
            pidfd = os.pidfd_open(self.init_pid)
        except ProcessLookupError:
            return
        try:
            if start_ticks(self.init_pid) != self.init_start:
                return
            import signal

            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            select.select([pidfd], [], [], LAUNCH_TIMEOUT_S)
        finally:
            os.close(pidfd)
        reap(self.init_pid)

    def close(self) -> None:
        """Let the connection go; the capsule lives on."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _read(self) -> None:
        for message in self._messages():
            if "event" in message:
                self._events.put(message)
            elif (waiting := self._waiting.pop(message["id"], None)) is not None:
                waiting.put(message)
        with self._lock:
            self._gone = True
            for waiting in self._waiting.values():
                waiting.put({"ok": False, "error": "it is gone"})
        self._events.put({"event": "gone"})

    def _messages(self) -> Iterator[dict[str, Any]]:
        with self._socket.makefile("rb") as lines:
            try:
                for line in lines:
                    yield json.loads(line)
            except (OSError, ValueError):
                return
