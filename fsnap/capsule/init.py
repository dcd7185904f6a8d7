"""The capsule's init: PID 1, the task's shim, small and independent of the agent.

It reaps, starts the task and CRIU, reads the task's output pipes into spool files,
keeps the gate and the lease timer, and holds the task's lock.  It survives the agent:
whatever it knows is told again to the next one that connects.  Standard library
only, in an interpreter run with ``-I -S``, so that it stays under 15 MiB.

Control socket: one JSON object per line.  A request ``{"id": n, "op": …}`` is answered
by ``{"id": n, "ok": true, …}`` or ``{"id": n, "ok": false, "error": text}``; events
(``{"event": …}``) go to every connection.

The gate: CRIU's action script writes a line to the FIFO ``gate.req`` and waits for one
in ``gate.ans``.  Both FIFOs are held open here, so that nothing is lost or released when
the agent dies: a closed gate stays closed until somebody says ``gate``.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
from typing import Any

from fsnap.capsule.children import become_helper, become_injector, become_task, run_resumer
from fsnap.capsule.leasetimer import LeaseTimer, now_s
from fsnap.capsule.procfs import others, state_and_group
from fsnap.capsule.stream import READ_BYTES, STREAMS, Stream

FIRST_PID = 1000
"""Task PIDs start above it, so that init and CRIU never take one that a restore needs."""

PEER_TIMEOUT_S = 2.0
"""An agent that does not read for this long (it is stopped) is dropped; it may connect again."""


class Init:
    """The event loop of PID 1."""

    def __init__(self, run_dir: str, listen_fd: int, lock_fd: int) -> None:
        self.run_dir = run_dir
        self.lock_fd = lock_fd
        self.listener = socket.socket(fileno=listen_fd)
        self.listener.setblocking(False)
        self.peers: dict[int, tuple[socket.socket, bytearray]] = {}
        self.streams = {name: Stream(os.path.join(run_dir, name)) for name in STREAMS}
        self.helpers: dict[int, str] = {}
        self.helper_status: dict[str, int | None] = {}
        self.root_pid = 0
        self.restoring = False
        self.root_code: int | None = None
        self.exit_code: int | None = None
        self.gate: str | None = None
        self.gate_buffer = b""
        self.lease = LeaseTimer()
        self.stopped: list[int] | None = None
        self.expired = False
        """The tree is stopped because its lease ran out: a renewal alone lets it go on."""
        self.quit = False
        self.gate_req = self._fifo("gate.req")
        self.gate_ans = self._fifo("gate.ans")
        self.wake_read, self.wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(self.wake_write)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)

    def _fifo(self, name: str) -> int:
        path = os.path.join(self.run_dir, name)
        if not os.path.exists(path):
            os.mkfifo(path, 0o600)
        return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    # -- the loop

    def run(self) -> None:
        while not self.quit:
            fds = [self.listener.fileno(), self.wake_read, self.gate_req, *self.peers]
            fds += [s.read_fd for s in self.streams.values() if s.read_fd >= 0]
            fds += [self.lease.fd] if self.lease.fd >= 0 and self._may_expire() else []
            # What makes the lease matter again wakes us: a start, a helper's end, a request.
            wait_s = self.lease.wait_s if self._may_expire() else None
            ready, _, _ = select.select(fds, [], [], wait_s)
            for fd in ready:
                self._serve(fd)
            for stream in self.streams.values():
                stream.pump()
            self._reap()
            self._check_lease()

    def _may_expire(self) -> bool:
        """There is a running tree, and CRIU does not hold it."""
        return bool(self.root_pid) and self.exit_code is None and self.stopped is None and not self.helpers

    def _serve(self, fd: int) -> None:
        if fd == self.listener.fileno():
            peer, _ = self.listener.accept()
            peer.settimeout(PEER_TIMEOUT_S)
            self.peers[peer.fileno()] = (peer, bytearray())
        elif fd == self.wake_read:
            try:
                os.read(self.wake_read, 512)
            except BlockingIOError:
                pass
        elif fd == self.gate_req:
            self._read_gate()
        elif fd in self.peers:
            self._read_peer(fd)

    def _read_peer(self, fd: int) -> None:
        peer, buffer = self.peers[fd]
        try:
            data = peer.recv(READ_BYTES)
        except OSError:
            data = b""
        if not data:
            peer.close()
            del self.peers[fd]
            return
        buffer += data
        while (end := buffer.find(b"\n")) >= 0:
            line = bytes(buffer[:end])
            del buffer[: end + 1]
            self._answer(peer, line)

    def _answer(self, peer: socket.socket, line: bytes) -> None:
        request: dict[str, Any] = {}
        try:
            request = json.loads(line)
            result = getattr(self, "op_" + str(request["op"]).replace("-", "_"))(request)
            answer = {"id": request.get("id"), "ok": True, **(result or {})}
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as problem:
            answer = {"id": request.get("id"), "ok": False, "error": f"{type(problem).__name__}: {problem}"}
        self._send(peer, answer)

    def _send(self, peer: socket.socket, what: dict[str, Any]) -> None:
        try:
            peer.sendall(json.dumps(what).encode() + b"\n")
        except OSError:
            pass

    def _tell(self, **event: Any) -> None:
        for peer, _ in list(self.peers.values()):
            self._send(peer, event)

    # -- children

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            if pid in self.helpers:
                self._helper_ended(pid, self.helpers.pop(pid), code)
            elif pid == self.root_pid and self.exit_code is None and self.root_code is None:
                self._root_ended(code if code >= 0 else 128 - code)

    def _helper_ended(self, pid: int, tag: str, code: int) -> None:
        self.helper_status[tag] = code
        if self.restoring:
            # What CRIU had made of the tree was never released: its death is not the task's end.
            self.restoring, self.root_pid, self.root_code = False, 0, None
        if self.gate is not None:
            # CRIU is gone without having been answered: its hold on the tree is gone too, so the tree
            # is stopped here until an agent has read the journal and says what it may do.
            self.gate = None
            self._kill_group(pid)
            self.op_freeze({})
            self._tell(event="gate-lost", tag=tag, code=code)
        self._tell(event="helper-exited", tag=tag, code=code)
        if self.root_code is not None and not self.helpers:
            self._sweep()

    def _kill_group(self, pid: int) -> None:
        """End what a helper left: its action script would take the next one's answer at the gate."""
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def _root_ended(self, code: int) -> None:
        """The root's end is the task's end; while CRIU holds the rest, it is left to finish."""
        self.root_code = code
        if not self.helpers:
            self._sweep()

    def _sweep(self) -> None:
        """End what is left of the tree, keep its output, and say that the task is over."""
        self.drain()
        self.kill_all()
        self.drain()
        self.exit_code = self.root_code
        self.root_code = None
        self._tell(event="exited", code=self.exit_code, **self._sizes())

    def kill_all(self) -> None:
        """SIGKILL to everything else in the PID namespace, and reap it."""
        while others():
            try:
                os.kill(-1, signal.SIGKILL)
                os.waitpid(-1, 0)
            except (ProcessLookupError, ChildProcessError):
                break

    def _sizes(self) -> dict[str, int]:
        return {name: stream.size for name, stream in self.streams.items()}

    def drain(self) -> None:
        """Read the pipes to their present end."""
        for stream in self.streams.values():
            while stream.pump():
                pass

    # -- the gate

    def _read_gate(self) -> None:
        try:
            self.gate_buffer += os.read(self.gate_req, 4096)
        except BlockingIOError:
            return
        while b"\n" in self.gate_buffer:
            line, self.gate_buffer = self.gate_buffer.split(b"\n", 1)
            self.gate = line.decode("utf-8", "replace")
            self.drain()
            self._tell(event="gate", action=self.gate, **self._sizes())

    # -- the lease

    def _check_lease(self) -> None:
        if self.lease.over and self._may_expire():
            self._expire()

    def _expire(self) -> None:
        self.op_freeze({})
        self.expired = True
        self._tell(event="lease-expired")

    # -- requests

    def op_hello(self, _: dict[str, Any]) -> dict[str, Any]:
        return {
            "root_pid": self.root_pid,
            "exit_code": self.exit_code,
            "gate": self.gate,
            "frozen": self.stopped is not None,
            "helpers": {tag: pid for pid, tag in self.helpers.items()},
            "helper_status": self.helper_status,
            "pipes": {name: stream.inode for name, stream in self.streams.items()},
            "boot_s": now_s(),
            **self._sizes(),
        }

    def op_start(self, request: dict[str, Any]) -> dict[str, Any]:
        """Start the task: ``argv``, ``env`` (a list of pairs), ``cwd``, ``ipc``; or ``lease_over``."""
        if self.lease.over:
            return {"lease_over": True}
        for stream in self.streams.values():
            stream.open()
        with open("/proc/sys/kernel/ns_last_pid", "w", encoding="ascii") as last:
            last.write(str(FIRST_PID))
        failure_read, failure_write = os.pipe()
        pid = os.fork()
        if pid == 0:
            become_task(request, [s.write_fd for s in self.streams.values()], failure_write)
        os.close(failure_write)
        for stream in self.streams.values():
            stream.close_writer()
        failure = os.read(failure_read, 4096)
        os.close(failure_read)
        if failure:
            os.waitpid(pid, 0)
            number, text = failure.decode().split(" ", 1)
            return {"failed": int(number), "text": text}
        self.root_pid = pid
        return {"pid": pid, "pipes": {name: stream.inode for name, stream in self.streams.items()}}

    def op_spawn(self, request: dict[str, Any]) -> dict[str, Any]:
        """Start a helper (CRIU): ``tag``, ``argv``, ``log``, ``cwd``; ``pipes`` hands it new output pipes
        for the tree that it restores below ``root_pid``, ``strays`` if that tree has some.

        No dump of a stopped tree: it would be restored stopped.
        """
        if self.stopped is not None:
            raise ValueError("the tree is stopped")
        if request.get("pipes"):
            for stream in self.streams.values():
                stream.open()
        if request.get("strays") and os.fork() == 0:
            become_injector(request)
        pid = os.fork()
        if pid == 0:
            pipes = [s.write_fd for s in self.streams.values()] if request.get("pipes") else []
            become_helper(request, pipes)
        self.helpers[pid] = request["tag"]
        self.helper_status[request["tag"]] = None
        if request.get("pipes"):
            self.root_pid = request["root_pid"]
            self.restoring = True
            self.exit_code = None
            for stream in self.streams.values():
                stream.close_writer()
        return {"pid": pid}

    def op_kill_helper(self, request: dict[str, Any]) -> None:
        for pid, tag in self.helpers.items():
            if tag == request["tag"]:
                os.kill(pid, request["signal"])

    def op_gate(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer the closed gate: ``go`` lets CRIU finish, anything else makes it roll back.

        ``runs_on``: a dumped tree is let go by ``go``, too.  Nothing runs past its lease: a dumped tree is
        stopped before, a restored one waits (``lease_over``).
        """
        if self.gate is None:
            raise ValueError("no gate is closed")
        go = request["verdict"] == "go"
        if self.lease.over and self.restoring and go:
            return {"lease_over": True}
        if self.lease.over and not self.restoring and self.stopped is None:
            self._expire()
        if not self.restoring and (request.get("runs_on") or not go):
            for criu in self.helpers:
                run_resumer(criu, os.path.join(self.run_dir, "init.log"))
        self.gate = None
        self.restoring = self.restoring and not go
        os.write(self.gate_ans, (b"go" if go else b"no") + b"\n")
        return {}

    def op_drain(self, _: dict[str, Any]) -> dict[str, Any]:
        self.drain()
        return self._sizes()

    def op_signal(self, request: dict[str, Any]) -> dict[str, Any]:
        """Pass ``signal`` to the root's process group; ``sent`` is false when there is no root yet."""
        if self.root_pid and self.exit_code is None:
            os.killpg(self.root_pid, request["signal"])
        return {"sent": bool(self.root_pid)}

    def op_lease(self, request: dict[str, Any]) -> None:
        """The lease ends at ``until`` on this clock; ``null``: never. Lets a tree go on that it stopped."""
        self.lease.set(request["until"])
        if self.expired and not self.lease.over:
            self.expired = False
            self.op_thaw({})

    def op_freeze(self, _: dict[str, Any]) -> None:
        """Stop what runs of the tree, until a thaw: whoever asks for this, no renewal lets it go on."""
        self.expired = False
        if self.stopped is not None:
            return
        self.stopped = []
        while fresh := [pid for pid in others() if self._runs(pid)]:  # a fork may escape one pass
            self.stopped += fresh
            for pid in fresh:
                try:
                    os.kill(pid, signal.SIGSTOP)
                except ProcessLookupError:
                    pass

    def _runs(self, pid: int) -> bool:
        """It is of the tree and not stopped; a helper's own children, the gate's script, are not of it."""
        if pid in self.helpers or pid in (self.stopped or ()):
            return False
        state, group = state_and_group(pid)
        return state not in ("T", "Z", "X") and group not in self.helpers

    def op_thaw(self, _: dict[str, Any]) -> None:
        """Let a stopped tree go on, unless its lease has run out."""
        if self.expired:
            return
        for pid in self.stopped or []:
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                pass
        self.stopped = None

    def op_quit(self, _: dict[str, Any]) -> None:
        """End: the kernel kills the whole PID namespace with its init."""
        self.quit = True


def serve(run_dir: str, listen_fd: int, answer_fd: int, lock_fd: int) -> None:
    """Be PID 1 until it is told to end; *answer_fd* is told when it is ready."""
    for fd in (listen_fd, answer_fd, lock_fd):
        os.set_inheritable(fd, False)
    init = Init(run_dir, listen_fd, lock_fd)
    os.write(answer_fd, b'{"ready": "capsule"}\n')
    os.close(answer_fd)
    try:
        init.run()
    finally:
        init.kill_all()
