"""A directory store in a directory that it made."""

from __future__ import annotations

from pathlib import Path

import pytest

from fsnap.stores.file import FileStore


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "above" / "store"


@pytest.fixture
def store(root: Path) -> FileStore:
    return FileStore(str(root))
