"""Nodes of a cloud on one machine, for tests and demonstrations.

A node has its own PID, mount, network, UTS and IPC namespace, its own ``/tmp``,
``/dev/shm`` and ``/run``, host name, machine id and boot id.  Its root is the
machine's, seen through an overlay: what a node writes is its own, lies in memory,
and is gone when the node is.  Bound in at the same path, and so shared, are only the
directories that the caller names: the checkout, the store.

    with Rig(binds=[checkout, store]) as rig:
        a = rig.node("a")
        a.exec(["fsnap", "run", ...])
        a.destroy()                     # kill -9 of everything, and its disk is gone

All nodes share one kernel and one CPU: that those differ is not exercised.
Needs root, util-linux and iproute2.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

HERE = Path(__file__).resolve().parent
if str(HERE) not in sys.path:
    sys.path.append(str(HERE))

from _rig_net import Network, RigError, ip_tool  # noqa: E402

__all__ = ["MetadataService", "Node", "NodeProcess", "Rig", "RigError"]

METADATA = (sys.executable, "-I", str(HERE / "metadata"))
START_TIMEOUT_S = 30.0
DISK_BYTES = 12 << 30
"""Most that a node's root and volumes may hold; only what is used takes memory."""

VOLUMES = ("/var/lib/fsnap",)
"""Directories of a node that are plain tmpfs: an overlay can't be the upper of another one."""


class NodeProcess(subprocess.Popen[Any]):
    """A process in a node; signals go to it, not to the ``nsenter`` that brought it there."""

    @property
    def host_pid(self) -> int | None:
        """Its PID on this machine; ``None`` while it is not there yet, or once it is gone."""
        try:
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        except OSError:
            return None
        return int(children[0]) if children else None

    def send_signal(self, sig: int) -> None:
        if self.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.host_pid or self.pid, sig)


class Node:
    """One machine of the rig; made by :meth:`Rig.node`."""

    def __init__(self, name: str, shell: subprocess.Popen[bytes], pid: int, lifeline: int) -> None:
        self.name = name
        self.pid = pid
        """The PID of its init on this machine."""
        self.address = ""
        self.destroyed_mono_s: float | None = None
        self.link = ""
        self.network: Network | None = None
        self._has_own_clock = os.readlink(f"/proc/{pid}/ns/time") != os.readlink("/proc/self/ns/time")
        self._shell = shell
        self._handle = os.pidfd_open(pid)
        self._lifeline = lifeline
        self._processes: list[NodeProcess] = []
        self._timer: threading.Timer | None = None
        self._lock = threading.RLock()

    @property
    def alive(self) -> bool:
        return self.destroyed_mono_s is None

    def popen(
        self,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        **options: Any,
    ) -> NodeProcess:
        """Start *command* in the node; *options* are those of :class:`subprocess.Popen`.

        *env* is added to this process's environment; *cwd* is a path in the node.
        """
        flags = ["--mount", "--uts", "--ipc", "--net", "--pid"] + (["--time"] if self._has_own_clock else [])
        change = [] if cwd is None else ["env", f"--chdir={cwd}"]
        enter = ["nsenter", f"--target={self.pid}", *flags, "--", *change, *map(str, command)]
        with self._lock:
            if not self.alive:
                raise RigError(f"node {self.name} is gone")
            process = NodeProcess(enter, env={**os.environ, **(env or {})}, **options)
            self._processes = [other for other in self._processes if other.poll() is None] + [process]
        return process

    def exec(
        self,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        input: str | None = None,
        check: bool = True,
        timeout_s: float | None = 60.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run *command* in the node and wait; with *check* a failure is a :class:`RigError` that says all."""
        pipe = subprocess.PIPE
        feed = subprocess.DEVNULL if input is None else pipe
        process = self.popen(command, env=env, cwd=cwd, stdin=feed, stdout=pipe, stderr=pipe, text=True)
        try:
            out, err = process.communicate(input, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
        if check and process.returncode != 0:
            words = " ".join(map(str, command))
            raise RigError(
                f"{words} on {self.name} ended with {process.returncode}: {err.strip() or out.strip()}"
            )
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def add_address(self, address: str) -> None:
        """Let the node itself have *address*: ``169.254.169.254``, say, for a metadata service in it."""
        self.exec([ip_tool(), "address", "add", f"{address}/32", "dev", "lo"])

    def disconnect(self) -> None:
        """Cut the node off the network: connections hang, as they do when a link is down far away."""
        if self.network is not None:
            self.network.plug(self.link, connected=False)

    def reconnect(self) -> None:
        if self.network is not None:
            self.network.plug(self.link, connected=True)

    def destroy(self) -> None:
        """Reclaim the node: every process is killed at once and its memory and disk are gone.  Idempotent."""
        with self._lock:
            if not self.alive:
                return
            with contextlib.suppress(ProcessLookupError):  # its init may have died by itself
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)
            self._shell.wait()  # PID 1's death is over only when every process of its namespace is dead
            self.destroyed_mono_s = time.monotonic()
            os.close(self._handle)
            os.close(self._lifeline)
            for process in self._processes:
                if process.poll() is None:  # the nsenter itself, which stops with what it runs
                    os.kill(process.pid, signal.SIGKILL)
            for process in self._processes:
                process.wait()
            if self.network is not None:
                self.network.detach(self.link)
        if self._timer is not None:
            self._timer.cancel()

    def destroy_at(self, deadline_mono_s: float) -> None:
        """Destroy the node when :func:`time.monotonic` reaches *deadline_mono_s*; returns at once.

        A later call replaces the deadline.
        """
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = threading.Timer(max(0.0, deadline_mono_s - time.monotonic()), self.destroy)
            self._timer.daemon = True
            self._timer.start()


class Rig:
    """Makes nodes, and leaves nothing behind: no process, mount, link or file."""

    def __init__(self, *, binds: Iterable[str | Path] = (), network: bool = True) -> None:
        if os.geteuid() != 0:
            raise RigError("the rig needs root: it makes namespaces and mounts")
        self._binds = [os.path.abspath(path) for path in binds]
        self._nodes: list[Node] = []
        self._services: list[MetadataService] = []
        self._network = Network() if network else None
        atexit.register(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def address(self) -> str:
        """Where nodes reach this machine; servers may listen there, or be forwarded to."""
        return self._net.address

    @property
    def _net(self) -> Network:
        if self._network is None:
            raise RigError("this rig was made without a network")
        return self._network

    @property
    def nodes(self) -> list[Node]:
        """The nodes that are alive."""
        return [node for node in self._nodes if node.alive]

    def forward(self, port: int, *, to_port: int | None = None) -> str:
        """Let nodes reach ``127.0.0.1:to_port`` of this machine; returns the ``host:port`` to use there."""
        self._net.forward(port, port if to_port is None else to_port)
        return f"{self.address}:{port}"

    def node(
        self,
        name: str,
        *,
        binds: Iterable[str | Path] = (),
        volumes: Iterable[str] = VOLUMES,
        monotonic_offset_s: float = 0.0,
        boottime_offset_s: float | None = None,
        disk_bytes: int = DISK_BYTES,
    ) -> Node:
        """Start a node; *name* is its host name.

        *binds* are added to the rig's.  The offsets are added to the machine's monotonic and
        boot clocks, the second being the first's by default; no clock can go below zero.
        """
        boottime_s = monotonic_offset_s if boottime_offset_s is None else boottime_offset_s
        config: dict[str, Any] = {
            "name": name,
            "binds": [*self._binds, *(os.path.abspath(path) for path in binds)],
            "volumes": list(volumes),
            "monotonic_offset_s": monotonic_offset_s,
            "boottime_offset_s": boottime_s,
            "disk_bytes": disk_bytes,
        }
        missing = [path for path in config["binds"] if not os.path.exists(path)]
        if missing:
            raise RigError(f"node {name}: there is no {missing[0]} to bind")
        node = _start(config)
        self._nodes.append(node)
        if self._network is not None:
            try:
                node.link, node.address = self._network.attach(node.pid)
            except RigError:
                node.destroy()
                raise
            node.network = self._network
        return node

    def metadata(self, *flags: str, node: Node | None = None, port: int = 0) -> MetadataService:
        """Serve EC2 metadata for one node; *flags* are those of ``tools/metadata aws``.

        With *node* it runs in the node itself, at EC2's own address and port, and dies
        with it; without, on this machine at :attr:`address`.
        """
        if node is not None:
            node.add_address("169.254.169.254")
            service = MetadataService(*flags, bind="169.254.169.254", port=80, node=node)
        else:
            service = MetadataService(*flags, bind=self.address, port=port)
        self._services.append(service)
        return service

    def close(self) -> None:
        """Destroy everything.  Idempotent, and called at exit too."""
        for service in self._services:
            service.close()
        for node in self._nodes:
            node.destroy()
        if self._network is not None:
            self._network.close()
            self._network = None
        atexit.unregister(self.close)


def _start(config: dict[str, Any]) -> Node:
    """Run a node's init until it says that it is ready."""
    name = config["name"]
    ready, ready_end = os.pipe()
    lifeline_end, lifeline = os.pipe()
    given = {**config, "ready_fd": ready_end, "lifeline_fd": lifeline_end}
    shell = subprocess.Popen(
        [sys.executable, "-I", "-S", str(HERE / "_rig_init.py"), json.dumps(given)],
        pass_fds=(ready_end, lifeline_end),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    os.close(ready_end)
    os.close(lifeline_end)
    assert shell.stderr is not None
    watchdog = threading.Timer(START_TIMEOUT_S, shell.kill)
    watchdog.start()
    try:
        with os.fdopen(ready, "rb") as pipe:
            lines = pipe.read().split()
        if b"ok" not in lines:
            os.close(lifeline)
            said = shell.stderr.read().decode(errors="replace").strip().splitlines()
            shell.wait()
            raise RigError(f"node {name} did not start: {said[-1] if said else 'no reason given'}")
    finally:
        watchdog.cancel()
        shell.stderr.close()
    pid = next(int(line) for line in lines if line.isdigit())
    return Node(name, shell, pid, lifeline)


class MetadataService:
    """A running ``tools/metadata aws``, on this machine or in a node."""

    def __init__(self, *flags: str, bind: str = "127.0.0.1", port: int = 0, node: Node | None = None) -> None:
        self._node = node
        if "--instance-id" not in flags:
            flags = (*flags, "--instance-id", f"i-0{uuid.uuid4().hex[:16]}")
        command = [*METADATA, "aws", "--bind", bind, "--port", str(port), *flags]
        options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        if node is None:
            self._process: subprocess.Popen[str] = subprocess.Popen(command, **options)
        else:
            self._process = node.popen(command, **options)
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line.startswith("metadata: aws on http://"):
            self.close()
            raise RigError(line or "tools/metadata ended without a word")
        self.url = line.split()[3].rstrip(",")
        self.instance_id = line.split()[5]
        self.address, port_text = self.url.removeprefix("http://").split(":")
        self.port = int(port_text)

    @property
    def env(self) -> dict[str, str]:
        """Variables that lead a client to it."""
        return {"AWS_EC2_METADATA_SERVICE_ENDPOINT": self.url, "AWS_EC2_METADATA_DISABLED": "false"}

    def tell(self, command: str, *flags: str) -> str:
        """Run ``tools/metadata COMMAND`` against it; returns what that printed."""
        whole = [*METADATA, command, "--address", self.address, "--port", str(self.port), *flags]
        if self._node is not None:
            return self._node.exec(whole).stdout
        run = subprocess.run(whole, capture_output=True, text=True, check=False)
        if run.returncode != 0:
            raise RigError(run.stderr.strip())
        return run.stdout

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
