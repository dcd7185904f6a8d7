#!/usr/bin/env python3
"""`fsnap replay` from a checkout: the same arguments, the same code, nothing installed.

tools/replay.py SOURCE [--task ID] [--json] [--what-if KEY=VALUE]... [--html F]
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Replay with this checkout's code, whatever fsnap is installed."""
    sys.path.insert(0, str(CHECKOUT))
    from fsnap.cli.main import main as fsnap

    return fsnap(["replay", *sys.argv[1:]])


if __name__ == "__main__":
    python = CHECKOUT / ".venv" / "bin" / "python"
    if python.exists() and Path(sys.prefix) != CHECKOUT / ".venv":
        os.execv(python, [str(python), __file__, *sys.argv[1:]])
    sys.exit(main())
