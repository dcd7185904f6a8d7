"""Tasks whose leftovers end with the test."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.protocol.support import Task

MakeTask = Callable[..., Task]


@pytest.fixture
def control() -> Iterator[Path]:
    """A directory that no capsule covers, through which the task and the test talk."""
    path = Path(tempfile.mkdtemp(prefix="fsnap-protocol-", dir="/var/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def make_task(tmp_path: Path, control: Path) -> Iterator[MakeTask]:
    """Makes the test's task: ``make_task(STEPS, PAUSE...)``."""
    made: list[Task] = []

    def make(steps: int = 30, *pauses: int) -> Task:
        task = Task(tmp_path / "p", control, steps, pauses)
        made.append(task)
        return task

    yield make
    for each in made:
        each.close()
