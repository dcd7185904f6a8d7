"""Logging: to stderr, in lines for people or JSON for machines, never to stdout."""

from __future__ import annotations

import sys
from pathlib import Path

LINE = "fsnap {time:HH:mm:ss.SSS} {level.name: <7} {message}"


def configure(*, style: str = "text", file: Path | None = None, verbose: bool = False) -> None:
    """Send the log to stderr, or to *file*; *style* is ``text`` or ``json``."""
    from loguru import logger

    logger.remove()
    logger.add(
        sys.stderr if file is None else str(file),
        format=LINE,
        level="DEBUG" if verbose else "INFO",
        serialize=style == "json",
        diagnose=False,
        backtrace=False,
    )
