"""The crash tests use the protocol tests' task."""

from tests.protocol.conftest import control, make_task

__all__ = ["control", "make_task"]
