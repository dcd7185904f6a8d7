"""``docs/json.rst`` describes what there is, and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fsnap.core.model import State
from fsnap.core.status import Reason

HERE = Path(__file__).resolve()
DOCS = HERE.parents[3] / "docs" / "json.rst"
GOLDEN = HERE.parents[2] / "golden"


def names(document: Any) -> Iterator[str]:
    """Every key in *document*, at any depth."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield key
            yield from names(value)
    elif isinstance(document, list):
        for item in document:
            yield from names(item)


def described() -> set[str]:
    """What the tables of the page have in their first column, but for names with a hyphen."""
    return set(re.findall(r"^``([a-z_]+)``  ", DOCS.read_text(encoding="utf-8"), re.MULTILINE))


def test_every_field_of_status_is_described() -> None:
    found = set()
    for path in GOLDEN.glob("status-*.json"):
        found |= set(names(json.loads(path.read_text(encoding="utf-8"))))
    assert len(found) > 30
    assert found - described() == set()


def test_nothing_else_is_described() -> None:
    found = {"resume_from"}
    for path in GOLDEN.glob("status-*.json"):
        found |= set(names(json.loads(path.read_text(encoding="utf-8"))))
    values = {reason.value for reason in Reason} | {state.value for state in State}
    outcomes = {"exited", "cancelled", "checkpointed", "reclaimed"}
    assert described() - found - values - outcomes == set()


def test_every_reason_is_described() -> None:
    text = DOCS.read_text(encoding="utf-8")
    assert [reason for reason in Reason if f"``{reason.value}``" not in text] == []
