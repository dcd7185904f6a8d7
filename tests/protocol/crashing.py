"""Runs fsnap's command line and ends the agent with SIGKILL at one point.

``crashing.py MODULE:CLASS.METHOD[@N] FSNAP WORDS...``: at the N-th (first) call of that
method, before its body.  ``!`` in place of the ``:`` raises a ZeroDivisionError there instead, once, and
``?`` an error of fsnap's own that nobody there expects.
"""

from __future__ import annotations

import importlib
import os
import re
import signal
import sys
from typing import Any

from fsnap.errors import CorruptData

found = re.fullmatch(r"([\w.]+)([:!?])(\w+)\.(\w+)(?:@(\d+))?", sys.argv[1])
assert found is not None, sys.argv[1]
MODULE, KIND, CLASS, METHOD, NUMBER = found.groups()


def install() -> None:
    owner = getattr(importlib.import_module(MODULE), CLASS)
    original = getattr(owner, METHOD)
    left = [int(NUMBER or 1)]

    def crash(*arguments: Any, **named: Any) -> Any:
        left[0] -= 1
        if left[0] == 0 and KIND == ":":
            os.kill(os.getpid(), signal.SIGKILL)
        if left[0] == 0 and "FSNAP_RESTARTS" not in os.environ:
            raise (ZeroDivisionError if KIND == "!" else CorruptData)("made by a test")
        return original(*arguments, **named)

    setattr(owner, METHOD, crash)


install()
sys.argv = sys.argv[2:]

from fsnap.cli.main import main  # noqa: E402

sys.exit(main())
