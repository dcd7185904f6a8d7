"""Runs fsnap's command line and ends the agent with SIGKILL at one crash point.

``killer.py POINT VISIT MARK FSNAP WORDS...``: at the VISIT-th visit of the point, after
writing the file MARK, which tells the test that the point was reached.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

from fsnap import crashpoints
from fsnap.crashpoints import CrashPoint

POINT, VISIT, MARK = CrashPoint[sys.argv[1]], int(sys.argv[2]), Path(sys.argv[3])
visits = [0]
lock = threading.Lock()


def kill(point: CrashPoint) -> None:
    if point is not POINT or MARK.exists():
        return
    with lock:
        visits[0] += 1
        if visits[0] == VISIT:
            MARK.touch()
            os.kill(os.getpid(), signal.SIGKILL)


crashpoints.observer = kill
sys.argv = sys.argv[4:]

from fsnap.cli.main import main  # noqa: E402

sys.exit(main())
