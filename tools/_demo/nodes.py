"""The machines of the demonstration, and how they are taken away.

A *rig* node is a machine as far as a program can see: own root, ``/tmp``, ``/dev/shm``,
network, host name, machine id, clock, and EC2's metadata service.  A *simple* node is a
fresh ``FSNAP_HOME`` and an emptied directory, for where namespaces can't be had.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tools.rig import MetadataService, Node, Rig

WINDOW_S = 30
"""Google's and Azure's; EC2 gives 120 s."""

STATE_DIR = "/srv/fsnap-demo"
"""Where the task works, on each node's own disk."""

DAY_S = 86_400.0
CLOCKS_S = {"node-a": 90 * DAY_S, "node-b": 0.0, "node-c": 365 * DAY_S}
"""What is added to the time since boot: nodes have been up for different times."""

CANCEL_PATIENCE_S = 10.0
"""For a task that is cancelled on a simple node: fsnap takes its capsule down by itself."""

APART = (
    *("unshare", "--pid", "--mount", "--fork", "--mount-proc", "--kill-child", "--"),
    *("sh", "-c", 'mount -t tmpfs tmpfs /dev/shm && exec "$@"', "sh"),
)
"""Put before a command: what it leaves in memory is gone with it, and all its processes are."""


class Machine(Protocol):
    """One node."""

    name: str
    flags: tuple[str, ...]
    """Those of ``fsnap run`` that depend on the kind of node, and on nothing else."""
    about: str

    def start(self, command: Sequence[str], env: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start *command* in the state dir, its output in pipes."""
        ...

    def notice(self) -> float:
        """Let the cloud say that the node goes; in how many seconds, counted from now, it does."""
        ...

    def digest(self, name: str) -> tuple[int, str]:
        """Length and SHA-256 of a file in the state dir."""
        ...

    def destroy(self) -> None:
        """Take the node away with all that is in it.  Idempotent."""
        ...


def options() -> dict[str, Any]:
    """What every process is started with: a terminal's Ctrl-C is this program's alone."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    return {**pipes, "start_new_session": True}


class RigMachine:
    """A node of the rig, with EC2's metadata service at EC2's address."""

    flags: tuple[str, ...] = ("--provider", "aws")

    def __init__(self, rig: Rig, name: str) -> None:
        self.name = name
        self._node: Node = rig.node(name, monotonic_offset_s=CLOCKS_S.get(name, 0.0))
        self._node.exec(["mkdir", "-p", STATE_DIR])
        self._metadata: MetadataService = rig.metadata(node=self._node)
        up_s = float(self._node.exec(["cat", "/proc/uptime"]).stdout.split()[0])
        self.about = f"a new machine, {self._metadata.instance_id}, up for {up_s / DAY_S:.1f} days"

    def start(self, command: Sequence[str], env: Mapping[str, str]) -> subprocess.Popen[bytes]:
        return self._node.popen(command, env={**env, **self._metadata.env}, cwd=STATE_DIR, **options())

    def notice(self) -> float:
        # It answers "metadata: terminate at TIME, in 30.4 s": EC2 names a whole second.
        return float(self._metadata.tell("notice", "--window", str(WINDOW_S)).split()[-2])

    def digest(self, name: str) -> tuple[int, str]:
        path = f"{STATE_DIR}/{name}"
        told = self._node.exec(["sha256sum", path]).stdout.split()[0]
        return int(self._node.exec(["stat", "--format=%s", path]).stdout), told

    def destroy(self) -> None:
        self._node.destroy()


class SimpleMachine:
    """A node that shares all with this machine but its home, its state dir and its process numbers."""

    def __init__(self, work: Path, name: str) -> None:
        self.name = name
        self._home = work / name
        self._state = work / "state"
        self._notice = work / "notice"
        self._notice.unlink(missing_ok=True)
        self.flags: tuple[str, ...] = ("--provider", f"file:{self._notice}")
        self.about = "a new machine: empty FSNAP_HOME, empty directory"
        self._processes: list[subprocess.Popen[bytes]] = []
        for folder in (self._home, self._state):
            folder.mkdir()

    def start(self, command: Sequence[str], env: Mapping[str, str]) -> subprocess.Popen[bytes]:
        own = {"FSNAP_HOME": str(self._home), "AWS_EC2_METADATA_DISABLED": "true"}
        if "fsnap" not in Path(command[0]).name:
            own["TMPDIR"] = str(self._home)  # fsnap gives the task a /tmp of its own; nobody else does
        process = subprocess.Popen(
            [*APART, *command], env={**os.environ, **env, **own}, cwd=self._state, **options()
        )
        self._processes.append(process)
        return process

    def notice(self) -> float:
        fresh = self._notice.with_suffix(".new")
        fresh.write_text(json.dumps({"window_s": WINDOW_S}))
        fresh.rename(self._notice)
        return WINDOW_S

    def digest(self, name: str) -> tuple[int, str]:
        content = (self._state / name).read_bytes()
        return len(content), hashlib.sha256(content).hexdigest()

    def destroy(self) -> None:
        for process in self._processes:
            for number, patience_s in ((signal.SIGINT, CANCEL_PATIENCE_S), (signal.SIGKILL, None)):
                if process.poll() is None:
                    os.killpg(process.pid, number)
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(patience_s)
        self._processes.clear()
        for folder in (self._home, self._state):
            shutil.rmtree(folder, ignore_errors=True)
