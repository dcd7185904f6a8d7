"""What the directory store's tests share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fsnap.stores.file import FileStore

CALLS: dict[str, Callable[[FileStore], object]] = {
    "put": lambda store: store.put("a/b", b"x"),
    "create": lambda store: store.create("a/c", b"x"),
    "get": lambda store: store.get("a/b"),
    "list": lambda store: list(store.list("a/")),
    "delete": lambda store: store.delete("a/b"),
}


def everything_below(directory: Path) -> list[str]:
    """Every path below *directory*, relative to it."""
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def fail(monkeypatch: pytest.MonkeyPatch, function: str, code: int) -> None:
    """Make a function of ``os`` raise the errno *code*."""

    def failing(*_arguments: object, **_named: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, function, failing)
