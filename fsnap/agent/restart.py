"""After a defect of its own the agent starts again, as the same process, and takes its capsule over."""

from __future__ import annotations

import os
import sys

from loguru import logger

from fsnap.errors import AgentCrash

COUNT = "FSNAP_RESTARTS"
MOST = 3


def restarted() -> bool:
    """This agent took the place of one that met a defect."""
    return COUNT in os.environ


def start_again(crash: AgentCrash) -> None:
    """Replace this process by a new agent; returns only when that was done too often."""
    count = int(os.environ.get(COUNT, "0") or 0)
    if count >= MOST:
        return
    logger.error("{}; the agent starts again and takes the task over", crash)
    os.environ[COUNT] = str(count + 1)
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", "fsnap", *sys.argv[1:]])
