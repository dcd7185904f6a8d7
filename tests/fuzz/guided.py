"""``python -m tests.fuzz.guided TARGET [FLAGS] CORPUS``: one target under atheris, or ``any`` of them.

https://github.com/google/atheris; it ends with a code other than 0, and writes the input down, at the first
exception that a target lets through.
"""

from __future__ import annotations

import sys

import atheris  # type: ignore[import-untyped, unused-ignore]

with atheris.instrument_imports(include=["fsnap", "json"]):
    from tests.fuzz.parsers import TARGETS

NAMES = list(TARGETS)


def any_target(data: bytes) -> None:
    """The first byte says which."""
    if data:
        TARGETS[NAMES[data[0] % len(NAMES)]](data[1:])


if __name__ == "__main__":
    target = {**TARGETS, "any": any_target}[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
