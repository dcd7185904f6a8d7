"""One task on a cloud of nodes: each is a machine of its own and is destroyed whole.

What a user would type is typed: ``fsnap run`` on a node, the same line on the next one.
The reference is the same command on a node without fsnap, with ``PACE=0``.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e import folder, harness
from tests.e2e.harness import FSNAP, Reader, assert_same_bytes
from tools.rig import MetadataService, Node, NodeProcess, Rig

RELAY = Path(__file__).with_name("relay.py")
COMMAND = (sys.executable, "-I", "-S", str(RELAY))
TASK = "T"
JOB = "5dfe2ab5-3d3a-4a5b-a8b5-3ab3a2a8d1d5"
"""The task's id under AWS Batch."""

STATE = "/srv/relay"
"""The state dir: at the same path on every node, and each node's own."""

HOME = "/var/lib/fsnap"
CHECKPOINTED, RECLAIMED, FENCED, STORE_FAILED = 177, 175, 178, 174

CLOCKS = ((4_000_000.25, 9_000_000.5), (0.0, 0.0), (70_000_000.0, 70_000_600.0), (500.0, 20_000.0))
"""What the nodes' monotonic and boot clocks are ahead of this machine's, in turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """The task as it is without fsnap."""

    stdout: bytes
    stderr: bytes
    files: dict[str, folder.Entry]


class Attempt(harness.Attempt):
    """One ``fsnap run`` on a node, started and not yet waited for."""

    def __init__(self, machine: Machine, process: NodeProcess) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self.machine = machine
        self.process = process
        self.stdout = Reader(process.stdout)
        self.stderr = Reader(process.stderr)
        self.exit_code = -1

    def wait_steps(self, count: int) -> None:
        """Until the task has printed so many steps in this attempt."""
        self.wait(f"{count} steps", lambda: self.stdout.data.count(b"step ") >= count)

    def wait_trace(self, step: int) -> None:
        """The same by its file, for an attempt whose stdout goes to one."""
        self.wait_file(self.machine.path(f"{STATE}/trace.txt"), f"\n{step} ")


class Machine:
    """A node, its metadata service and what was run on it."""

    def __init__(self, cloud: Cloud, node: Node, service: MetadataService | None) -> None:
        self.cloud = cloud
        self.node = node
        self._service = service
        self.path(STATE).mkdir(parents=True)

    @property
    def service(self) -> MetadataService:
        """Its metadata service; it must have one."""
        assert self._service is not None
        return self._service

    def path(self, path: str) -> Path:
        """A path of the node, as this machine reaches it while the node lives."""
        return Path(f"/proc/{self.node.pid}/root{path}")

    def run(
        self,
        *flags: str,
        env: Mapping[str, str] | None = None,
        command: Sequence[str] = COMMAND,
        cwd: str = STATE,
    ) -> Attempt:
        """Start the task here, or go on with it."""
        line = [str(FSNAP), "run", "--store", self.cloud.store, "--verbose"]
        if self.cloud.task == TASK:
            line += ["--task", TASK]
        metadata = {} if self._service is None else self.service.env
        process = self.node.popen(
            [*line, *flags, "--", *command],
            env={"FSNAP_HOME": HOME, **self.cloud.env, **metadata, **(env or {})},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        attempt = Attempt(self, process)
        self.cloud.attempts.append(attempt)
        return attempt

    def give_notice(self, window_s: float, *, deadly: bool = True) -> float:
        """A notice; the deadline on this machine's monotonic clock, at which the node is gone if *deadly*."""
        said = self.service.tell("notice", "--window", str(window_s))
        left = re.search(r"in ([0-9.]+) s", said)
        assert left is not None, said
        deadline = time.monotonic() + float(left[1])
        if deadly:
            self.node.destroy_at(deadline)
        return deadline

    def wait_gone(self) -> None:
        """Until the node is destroyed."""
        end = time.monotonic() + harness.LIMIT_S
        while self.node.alive:
            assert time.monotonic() < end, f"{self.node.name} is still there"
            time.sleep(0.01)

    def processes(self) -> list[str]:
        """Command lines of what runs on the node beside its init and its metadata service."""
        found = []
        for entry in self.path("/proc").iterdir():
            if not entry.name.isdecimal() or entry.name == "1":
                continue
            try:
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            except OSError:
                continue
            if words and "tools/metadata" not in words:
                found.append(words)
        return found

    def assert_idle(self) -> None:
        """Nothing that fsnap started is left running."""
        end = time.monotonic() + 5.0
        while (left := self.processes()) and time.monotonic() < end:
            time.sleep(0.02)
        assert not left


class Cloud:
    """A store that all nodes reach, and the nodes that one task visits."""

    def __init__(self, rig: Rig, store: str, env: Mapping[str, str], outside: Mapping[str, str]) -> None:
        """*env* leads the nodes to the store, *outside* this machine."""
        self.rig = rig
        self.store = store
        self.env = {"PACE": "0.1", **env}
        self.outside = dict(outside)
        self.attempts: list[Attempt] = []
        self.task = TASK
        """Another one comes from a scheduler's variables."""
        self._count = itertools.count()

    def machine(self, *metadata_flags: str, metadata: bool = True) -> Machine:
        """A new node; its clocks are far from those of the one before."""
        number = next(self._count)
        monotonic_s, boottime_s = CLOCKS[number % len(CLOCKS)]
        name = f"node-{number}"
        node = self.rig.node(name, monotonic_offset_s=monotonic_s, boottime_offset_s=boottime_s)
        return Machine(self, node, self.rig.metadata(*metadata_flags, node=node) if metadata else None)

    def status(self, task: str = "", *, healthy: bool = True) -> dict[str, Any]:
        """What ``fsnap status`` says of it, asked on a machine that has nothing but the store."""
        task = task or self.task
        run = subprocess.run(
            [FSNAP, "status", task, "--store", self.store, "--json"],
            env={**os.environ, **self.outside},
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == (0 if healthy else 2), f"{run.returncode}: {run.stdout} {run.stderr}"
        document = json.loads(run.stdout)
        assert document["schema"] == 1
        (row,) = document["tasks"]
        assert row["task"] == task
        return dict(row)

    @property
    def stdout(self) -> bytes:
        """What the attempts printed, joined."""
        return b"".join(bytes(attempt.stdout.data) for attempt in self.attempts)

    @property
    def stderr(self) -> bytes:
        """The same for the task's stderr."""
        return b"".join(attempt.task_stderr for attempt in self.attempts)


def batch(number: int, **more: str) -> dict[str, str]:
    """What AWS Batch puts into the container of a job's attempt *number*."""
    return {"AWS_BATCH_JOB_ID": JOB, "AWS_BATCH_JOB_ATTEMPT": str(number), **more}


def assert_same(cloud: Cloud, last: Machine, expected: Reference) -> None:
    """Joined output, and the files on the last node, are the reference's."""
    assert_same_bytes(cloud.stdout, expected.stdout, "stdout")
    assert_same_bytes(cloud.stderr, expected.stderr, "stderr")
    assert_same_files(last, expected)


def assert_same_files(last: Machine, expected: Reference) -> None:
    """The state dir on the last node is the reference's."""
    assert folder.describe(last.path(STATE)) == expected.files


def refer(rig: Rig, env: Mapping[str, str]) -> Reference:
    """Run the task on a node of its own, without fsnap."""
    node = rig.node("reference")
    state = Path(f"/proc/{node.pid}/root{STATE}")
    state.mkdir(parents=True)
    run = node.popen(
        COMMAND,
        env={"PACE": "0", **env},
        cwd=STATE,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    stdout, stderr = run.communicate(timeout=harness.LIMIT_S)
    assert run.returncode == int(env.get("EXIT", "0")), stderr
    reference = Reference(stdout=stdout, stderr=stderr, files=folder.describe(state))
    node.destroy()
    return reference
