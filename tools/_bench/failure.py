"""How a measurement fails."""


class BenchFailure(RuntimeError):
    """It can't go on; the message is for the user."""


class Unmeasurable(BenchFailure):
    """This machine can't measure the figure; the message says why."""
