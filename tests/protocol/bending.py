"""Runs fsnap's command line with one thing of it bent, as the files in ``$CONTROL`` say.

``bending.py WHAT FSNAP WORDS...``, where WHAT is one of these, or several with ``+`` between them

``clock``
    the wall clock is ahead by as many seconds as the file ``clock`` says, from one moment to the next;
``MODULE:CLASS.METHOD``
    that method does not begin before the file ``go-on`` is there; it makes ``waits`` first.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

CONTROL = Path(os.environ["CONTROL"])


def bend_clock() -> None:
    from fsnap.clock import SystemClock

    original = SystemClock.wall

    def wall(self: SystemClock) -> datetime:
        try:
            ahead_s = float((CONTROL / "clock").read_text() or "0")
        except FileNotFoundError:
            ahead_s = 0.0
        return original(self) + timedelta(seconds=ahead_s)

    SystemClock.wall = wall  # type: ignore[method-assign]


def hold_up(module: str, owner_name: str, method: str) -> None:
    owner = getattr(importlib.import_module(module), owner_name)
    original = getattr(owner, method)

    def waiting(*arguments: Any, **named: Any) -> Any:
        (CONTROL / "waits").touch()
        while not (CONTROL / "go-on").exists():
            time.sleep(0.01)
        return original(*arguments, **named)

    setattr(owner, method, waiting)


for what in sys.argv[1].split("+"):
    if what == "clock":
        bend_clock()
    else:
        module, _, path = what.partition(":")
        hold_up(module, *path.split("."))
sys.argv = sys.argv[2:]

from fsnap.cli.main import main  # noqa: E402

sys.exit(main())
