"""The way without fsnap: ``criu dump`` to disk, ``tar | zstd``, a copy to the store, and the reverse.

CRIU gets the options that fsnap gives it, but for its gate, and the process is in a capsule
made by fsnap's own launcher, so that what differs is how bytes travel.
"""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _bench.failure import BenchFailure
from _bench.sides import Side
from _bench.task import PATIENCE_S, Voice
from fsnap.capsule.control import Control, Launch
from fsnap.capsule.mounts import plan_mounts, read_mounts
from fsnap.criu.argv import COMMON, GHOST_LIMIT, STDIO_FD_BASE
from fsnap.criu.install import find_criu, network_lock
from fsnap.criu.log import diagnose
from fsnap.criu.netlock import drop_lock
from fsnap.criu.stats import frozen_ms


class BareCapsule:
    """A capsule and nothing that looks after it."""

    def __init__(self, folder: Path, state_dir: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.folder = folder
        self.images = folder / "images"
        mounts = plan_mounts(
            run_dir=str(folder), state_dirs=[str(state_dir)], scratch=[], mounts=read_mounts()
        )
        lock_fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._launch: Launch | None = Launch(run_dir=folder, mounts=mounts, lock_fd=lock_fd)
        finally:
            os.close(lock_fd)
        self._state_dir = state_dir
        self._control: Control | None = None
        self._events: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.pipes: dict[str, int] = {}
        self.root_pid = 0
        self.voice = Voice(folder / "stdout")

    def finish(self) -> Control:
        """Mount the overlays and start the init."""
        assert self._launch is not None
        self._control = self._launch.finish()
        self._launch = None
        self._control.listen(self._events.put)
        return self._control

    def start(self, command: Sequence[str]) -> None:
        """Start *command* and wait until it is ready."""
        control = self.finish()
        env = [[name, value] for name, value in os.environ.items()]
        answer = control.request("start", argv=list(command), env=env, cwd=str(self._state_dir), ipc=False)
        if "failed" in answer:
            raise BenchFailure(f"{command[0]} can't be started: {answer['text']}")
        self.root_pid, self.pipes = int(answer["pid"]), answer["pipes"]
        self.voice.wait("ready", self.check)

    def check(self) -> None:
        """Raise if the process has ended."""
        if self._control is None or self._control.request("hello")["exit_code"] is not None:
            raise BenchFailure("the process in the capsule has ended")

    def dump(self, *, leave_running: bool = False) -> float:
        """``criu dump`` into ``images``, made anew; the seconds that CRIU says it was frozen."""
        images = self.images
        shutil.rmtree(images, ignore_errors=True)
        images.mkdir()
        criu = find_criu()
        argv = [str(criu), "dump", "-t", str(self.root_pid), "-D", str(images), "-o", "dump.log", *COMMON]
        argv += ["--link-remap", "--ghost-limit", GHOST_LIMIT, "--cpu-cap=cpu"]
        argv += ["--tcp-established", "--network-lock", network_lock(criu)]
        self._spawn([*argv, "--leave-running"] if leave_running else argv)
        return (frozen_ms(images) or 0) / 1000

    def unlock_network(self) -> None:
        """Remove what the last dump left in the kernel, which every packet of the machine would meet."""
        drop_lock(self.images)

    def restore(self, pipes: dict[str, int], root_pid: int) -> None:
        """``criu restore`` from ``images``; *pipes* and *root_pid* are those of the dump."""
        images = self.images
        criu = find_criu()
        argv = [str(criu), "restore", "-d", "-D", str(images), "-o", "restore.log", *COMMON]
        argv += ["--tcp-established", "--network-lock", network_lock(criu), "--cpu-cap=cpu"]
        for offset, name in enumerate(("stdout", "stderr")):
            argv += ["--inherit-fd", f"fd[{STDIO_FD_BASE + offset}]:pipe:[{pipes[name]}]"]
        self._spawn(argv, pipes=True, root_pid=root_pid)

    def _spawn(self, argv: list[str], **extra: Any) -> None:
        assert self._control is not None
        self._control.request("spawn", tag="criu", argv=argv, log=str(self.folder / "criu.out"), **extra)
        while True:
            try:
                event = self._events.get(timeout=PATIENCE_S)
            except queue.Empty:
                raise BenchFailure(f"criu {argv[1]} does not end") from None
            if event["event"] == "helper-exited":
                break
            if event["event"] == "gone":
                raise BenchFailure("the capsule is gone")
        if event["code"] != 0:
            log = self.images / f"{argv[1]}.log"
            raise BenchFailure(f"criu {argv[1]} failed: {diagnose(log.read_text(errors='replace')).message}")

    def end(self) -> None:
        """Kill it, tree and all."""
        if self._control is not None:
            self._control.end()
            self._control.close()
            self._control = None
        if self._launch is not None:
            self._launch.abandon()
            self._launch = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NaiveRound:
    """One trip there and back."""

    dump_s: float
    """From the start of ``criu dump`` until the copy is in the store."""
    criu_s: float
    """``criu dump`` alone."""
    restore_s: float | None
    """From the start of the download until the process runs."""


def pack(images: Path, archive: Path) -> None:
    """``tar | zstd -1 -T0``."""
    tar = subprocess.Popen(["tar", "-C", str(images), "-cf", "-", "."], stdout=subprocess.PIPE)
    zstd = subprocess.run(
        ["zstd", "-q", "-f", "-1", "-T0", "-o", str(archive)], stdin=tar.stdout, check=False
    )
    if tar.wait() != 0 or zstd.returncode != 0:
        raise BenchFailure("tar | zstd failed")


def unpack(archive: Path, images: Path) -> None:
    """The reverse."""
    shutil.rmtree(images, ignore_errors=True)
    images.mkdir(parents=True)
    zstd = subprocess.Popen(["zstd", "-q", "-d", "-T0", "-c", str(archive)], stdout=subprocess.PIPE)
    tar = subprocess.run(["tar", "-C", str(images), "-xf", "-"], stdin=zstd.stdout, check=False)
    if zstd.wait() != 0 or tar.returncode != 0:
        raise BenchFailure("zstd | tar failed")


def naive_round(folder: Path, command: Sequence[str], side: Side, key: str, *, restore: bool) -> NaiveRound:
    """Start *command*, dump it to the store, and bring it back from there if *restore*."""
    state_dir = folder / "naive-state"
    state_dir.mkdir(parents=True, exist_ok=True)
    archive = folder / "naive.tar.zst"
    capsule = BareCapsule(folder / "naive-run", state_dir)
    try:
        capsule.start(command)
        os.sync()
        began_s = time.monotonic()
        capsule.dump()
        criu_s = time.monotonic() - began_s
        pack(capsule.images, archive)
        side.put(archive, key)
        dump_s = time.monotonic() - began_s
        pipes, root_pid = capsule.pipes, capsule.root_pid
    finally:
        capsule.end()
    archive.unlink()
    if not restore:
        capsule.unlock_network()
        return NaiveRound(dump_s=dump_s, criu_s=criu_s, restore_s=None)
    os.sync()
    capsule = BareCapsule(folder / "naive-run", state_dir)
    try:
        began_s = time.time()
        side.get(key, archive)
        unpack(archive, capsule.images)
        capsule.finish()
        capsule.restore(pipes, root_pid)
        restore_s = capsule.voice.wait_gap(began_s, capsule.check).end_s - began_s
    finally:
        capsule.end()
        capsule.unlock_network()
        archive.unlink(missing_ok=True)
    return NaiveRound(dump_s=dump_s, criu_s=criu_s, restore_s=restore_s)
