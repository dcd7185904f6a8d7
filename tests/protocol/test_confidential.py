"""What a run leaves where others could look: modes of its files, and no secret but in the images."""

from __future__ import annotations

import os
import re
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.protocol.conftest import MakeTask
from tests.protocol.support import CHECKPOINTED, Task
from tests.servers import ministack

pytestmark = [pytest.mark.criu, pytest.mark.server]

LAX = ("sh", "-c", 'umask 000; exec "$@"', "sh")
"""A node whose administrator thought of nothing."""

SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "the-key-7f0c51b2",
    "AWS_SESSION_TOKEN": "the-token-93d1aa08",
    "DATABASE_PASSWORD": "the-password-c8e2447d",
}
MEMORY = re.compile(r"/run/[^/]+/(images|scratch|staging)/")
"""CRIU's images, and the task's own files on their way: they hold what the task holds."""


class Onlooker:
    """Walks through every ``FSNAP_HOME`` of *task* and every command line, again and again."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._stop = threading.Event()
        self.open_to_others: dict[str, str] = {}
        self.told: dict[str, str] = {}
        self.looked = 0

    @contextmanager
    def looking(self) -> Iterator[None]:
        thread = threading.Thread(target=self._run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()
            self.look()

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            self.look()

    def look(self) -> None:
        self.looked += 1
        for home in self._task.root.glob("home-*"):
            for folder, folders, files in os.walk(home):
                if "/scratch" in folder:
                    folders.clear()
                    continue
                for name in [*folders, *files]:
                    with suppress(OSError):  # it is gone again
                        self._look_at(Path(folder, name))
        for name in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError):
                self.hear(f"ps {name}", Path("/proc", name, "cmdline").read_bytes())

    def _look_at(self, path: Path) -> None:
        mode = path.lstat().st_mode
        if mode & 0o077 and not stat.S_ISLNK(mode):
            self.open_to_others[str(path)] = stat.filemode(mode)
        if stat.S_ISREG(mode) and not MEMORY.search(str(path)):
            self.hear(str(path), path.read_bytes())

    def hear(self, where: str, data: bytes) -> None:
        for name, secret in SECRETS.items():
            if secret.encode() in data:
                self.told[where] = name


def test_nobody_else_can_read_it_and_no_secret_is_told(make_task: MakeTask, tmp_path: Path) -> None:
    """A whole life, with a checkpoint, a reclaim and a restore, under umask 000 and with every log on."""
    task = make_task(40, 8, 16)
    task.node = LAX
    log = task.root / "log"
    onlooker = Onlooker(task)
    with ministack(tmp_path / "s3") as server, onlooker.looking():
        task.env |= server.environment() | SECRETS
        task.flags += [
            "--store",
            server.url("p"),
            "--verbose",
            "--log-format",
            "json",
            "--stderr",
            str(log) + ".task",
        ]
        first = task.start("--interval", "0.5")
        first.wait_stderr("snapshot 000001")
        first.wait_stdout("line 8\n")
        task.give_notice()
        first.finish(CHECKPOINTED)
        task.go(8)
        second = task.start("--log-file", str(log))
        second.wait_stdout("line 16\n")
        task.give_notice(0)
        second.finish(175)
        task.go(16)
        third = task.finish()
        client = server.client()
        listed = client.list_objects_v2(Bucket=server.bucket)["Contents"]
        for key in (each["Key"] for each in listed):
            onlooker.hear(f"key {key}", key.encode())
            if "/packs/" not in key:
                onlooker.hear(key, client.get_object(Bucket=server.bucket, Key=key)["Body"].read())
    for attempt in (first, second, third):
        onlooker.hear("log", bytes(attempt.stderr.data))
    onlooker.hear("log file", log.read_bytes())
    assert onlooker.looked > 20
    assert any("/manifest.json" in each["Key"] for each in listed)
    assert onlooker.told == {}
    assert onlooker.open_to_others == {}
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_objects_of_a_file_store_are_the_owners_alone(make_task: MakeTask) -> None:
    task = make_task(10, 4)
    task.node = LAX
    first = task.start()
    first.wait_stdout("line 4\n")
    task.give_notice()
    first.finish(CHECKPOINTED)
    found = [task.store, *task.store.rglob("*")]
    assert len(found) > 5
    assert {str(path) for path in found if path.lstat().st_mode & 0o077} == set()


def test_the_task_has_the_umask_of_its_start(make_task: MakeTask) -> None:
    """What fsnap does for its own files is not the task's, before a restore or after."""
    task = make_task(10, 4)
    task.node = ("sh", "-c", 'umask 013; exec "$@"', "sh")
    task.command = [task.command[0], "-c", UMASKS, str(task.control)]
    first = task.start()
    first.wait_stdout("0o13\n")
    task.give_notice()
    first.finish(CHECKPOINTED)
    task.go(4)
    task.node = LAX
    second = task.finish()
    assert second.stdout.data == b"0o13\n"


UMASKS = """
import os, sys, time
def umask():
    now = os.umask(0); os.umask(now); return now
print(oct(umask()), flush=True)
while not os.path.exists(sys.argv[1] + "/4"):
    time.sleep(0.02)
print(oct(umask()), flush=True)
"""
