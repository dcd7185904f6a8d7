"""Stores and nodes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fsnap.journal.local import Journal
from fsnap.stores.base import Store
from fsnap.stores.file import FileStore
from fsnap.stores.memory import MemoryStore
from tests.unit.journal.support import TASK, FaultyStore, Node, NodeMaker


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return MemoryStore() if request.param == "memory" else FileStore(str(tmp_path / "store"))


@pytest.fixture
def faulty() -> FaultyStore:
    return FaultyStore()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeMaker]:
    """Makes nodes, each with a disk of its own."""
    made: list[Node] = []

    def make(store: Store, name: str = "node-a", task: str = TASK) -> Node:
        made.append(Node(tmp_path / name / "journal.db", store, name=name, task=task))
        return made[-1]

    yield make
    for each in made:
        each.journal.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "journal.db"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    with_file = Journal.open(path)
    yield with_file
    with_file.close()
