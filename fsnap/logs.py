"""Logging: to stderr, in lines for people or JSON for machines, never to stdout."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

LINE = "fsnap {time:HH:mm:ss.SSS} {level.name: <7} {message}"


def configure(*, style: str = "text", file: Path | None = None, verbose: bool = False) -> None:
    """Send the log to stderr, or to *file*; *style* is ``text`` or ``json``."""
    from loguru import logger

    logger.remove()
    how: dict[str, Any] = {
        "format": LINE,
        "level": "DEBUG" if verbose else "INFO",
        "serialize": style == "json",
        "diagnose": False,  # it would show the values of variables
        "backtrace": False,
    }
    if file is None:
        logger.add(sys.stderr, **how)
    else:
        logger.add(str(file), opener=lambda path, flags: os.open(path, flags, 0o600), **how)
