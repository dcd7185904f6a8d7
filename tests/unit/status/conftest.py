"""A node whose journal is the one that ``fsnap status`` finds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.status.lab import Node


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    made = Node(tmp_path)
    monkeypatch.setenv("FSNAP_HOME", str(made.home))
    return made
