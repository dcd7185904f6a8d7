"""``fsnap status``: what runs where, what is safe, and what is not."""

from __future__ import annotations

import argparse


def status(arguments: argparse.Namespace) -> int:
    """Print it; 0 healthy, 2 attention, 1 error."""
    return 0
