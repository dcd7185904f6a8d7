"""The simulator is a tool: its modules are below ``tools/``."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "tools"))


@pytest.fixture(autouse=True)
def _quiet() -> None:
    """What the agent logs in a life goes nowhere."""
    from loguru import logger

    logger.remove()
