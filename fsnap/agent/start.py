"""Starting the command in a finished capsule, and what its failure to start means."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass

from fsnap.agent.settings import RunSettings
from fsnap.capsule.control import Control
from fsnap.errors import EXIT_NO_SUCH_COMMAND

EXIT_NOT_EXECUTABLE = 126
OURS = ("FSNAP_KEY_FILE", "FSNAP_RESTARTS")
"""Variables that are fsnap's own secrets: a task, and so a snapshot, must not have them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartFailure:
    """The command was not started."""

    exit_code: int
    message: str


def start_task(control: Control, settings: RunSettings, pause: Callable[[], None]) -> StartFailure | None:
    """Start it; exit codes 127 and 126 as a shell has them.

    Nothing is started past the lease: *pause* lets time go by until it was renewed, or raises.
    """
    env = [[name, value] for name, value in os.environ.items() if name not in OURS]
    request = {"argv": list(settings.command), "env": env, "cwd": str(settings.cwd), "ipc": settings.ipc}
    while (answer := control.request("start", **request)).get("lease_over"):
        pause()
    if "failed" not in answer:
        return None
    missing = answer["failed"] == errno.ENOENT
    return StartFailure(
        exit_code=EXIT_NO_SUCH_COMMAND if missing else EXIT_NOT_EXECUTABLE,
        message=f"{settings.command[0]}: {answer['text']}",
    )
