"""How long a workload pauses between its steps; not at all once the file HURRY is there."""

import os
import time


def pace_s() -> float:
    """Seconds."""
    return 0.0 if os.path.exists(os.environ["HURRY"]) else float(os.environ["PACE"])


def pause() -> None:
    """Between two steps."""
    time.sleep(pace_s())
