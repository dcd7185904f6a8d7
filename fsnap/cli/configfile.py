"""The configuration file: flag names without their dashes, checked before anything is believed."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from fsnap.errors import UsageError

CONFIG_PATH = "/etc/fsnap.toml"
LISTS = ("append-only", "exclude", "scratch", "state-dir")
SWITCHES = ("fresh", "include-inputs", "ipc", "shared-state", "unprotected-ok")


def read_config(names: Collection[str]) -> dict[str, Any]:
    """``FSNAP_CONFIG``, or ``/etc/fsnap.toml`` if it is there; *names* are those that a flag has.

    Numbers come as text, as from the environment.  :class:`UsageError` for a file that can't be
    read, an unknown name or a value of a kind that no flag takes.
    """
    named = os.environ.get("FSNAP_CONFIG")
    path = Path(named or CONFIG_PATH)
    if not path.exists() and not named:
        return {}
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise UsageError(f"configuration {path} can't be read: {problem}") from problem
    known = {name.replace("_", "-") for name in names}
    return {name: _checked(path, name, value, known) for name, value in found.items()}


def _checked(path: Path, name: str, value: Any, known: Collection[str]) -> Any:
    if name not in known:
        raise UsageError(f"configuration {path}: there is no --{name}")
    if isinstance(value, list) and name in LISTS and all(isinstance(item, str) for item in value):
        return value
    if isinstance(value, bool):
        if name in SWITCHES:
            return value
    elif isinstance(value, str | int | float):
        return str(value)
    raise UsageError(f"configuration {path}: {name} can't be {value!r}")
