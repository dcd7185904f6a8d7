"""Where things are on a node: ``FSNAP_HOME`` and a task's run directory, and the locks in it."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from fsnap.durable import make_directory
from fsnap.errors import NotOurs, UsageError
from fsnap.ids import task_key

DEFAULT_HOME = "/var/lib/fsnap"


def home_path(env: Mapping[str, str]) -> Path:
    """``FSNAP_HOME``, or its default; absolute."""
    return Path(env.get("FSNAP_HOME") or DEFAULT_HOME).absolute()


def journal_path(home: Path) -> Path:
    """The node's journal."""
    return home / "journal.db"


class RunDir:
    """One task's directory below ``FSNAP_HOME``: control socket, spools, images, scratch."""

    def __init__(self, home: Path, task: str) -> None:
        self.path = home / "run" / task_key(task)
        self.first = home / "first" / task_key(task)
        """What the task found in its state dirs when it first ran here; kept until it has ended."""
        try:
            make_directory(self.path)
            for folder in (self.path.parent, self.path):
                os.chmod(folder, 0o700)
        except OSError as problem:
            raise UsageError(f"FSNAP_HOME {home} can't be used: {problem.strerror}") from problem

    @property
    def images(self) -> Path:
        """Where CRIU writes and reads."""
        return self.path / "images"

    @property
    def staging(self) -> Path:
        """Copies of files taken inside the freeze of a periodic checkpoint."""
        return self.path / "staging"

    def spool(self, name: str) -> Path:
        """The file that init reads the task's *name* (``stdout``, ``stderr``) into."""
        return self.path / name

    def empty(self, folder: Path) -> Path:
        """*folder*, made anew."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        return folder

    def sweep(self) -> None:
        """Remove what an ended capsule left here; the locks stay."""
        for entry in self.path.iterdir():
            if entry.name in ("agent.lock", "init.lock"):
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)

    def lock_agent(self) -> int:
        """Be the only agent of this task here; :class:`NotOurs` when there is one already."""
        fd = os.open(self.path / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(fd, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(fd)
            raise NotOurs(f"the task is live here already: fsnap process {holder} has it") from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        return fd

    def lock_init(self) -> int | None:
        """The lock that a capsule's init holds for its life; ``None``: an init has it now."""
        fd = os.open(self.path / "init.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        return fd
