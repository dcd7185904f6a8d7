"""Fixtures of the snapshot tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.snapshots.lab import Lab


@pytest.fixture
def lab() -> Lab:
    return Lab()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """An empty directory to capture."""
    path = tmp_path / "source"
    path.mkdir()
    return path


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    """An empty directory to restore into."""
    path = tmp_path / "dest"
    path.mkdir()
    return path
