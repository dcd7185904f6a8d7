"""The rig, for tests that need nodes: root and the ``ip`` command, or a skip that says so."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.rig import Rig, RigError


@pytest.fixture
def rig(checkout: Path, tmp_path: Path) -> Iterator[Rig]:
    """A rig whose nodes share the checkout and ``tmp_path``."""
    try:
        rig = Rig(binds=[checkout, tmp_path])
    except RigError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))
    with rig:
        yield rig
