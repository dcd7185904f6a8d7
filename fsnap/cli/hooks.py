"""``fsnap hooks``: print a commented, working snippet for a scheduler.

The snippets are the files of ``snippets/``, printed as they are: what a user gets is what the tests run.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from fsnap.errors import UsageError

FOLDER = Path(__file__).with_name("snippets")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """One snippet."""

    name: str
    file: str
    """Its file name in ``snippets/``."""
    summary: str
    """One line for the listing."""


HOOKS = (
    Hook(
        name="aws-batch",
        file="aws-batch.sh",
        summary="shell script: role policy, launch template, job definition with its retry rules, a job",
    ),
    Hook(
        name="nextflow",
        file="nextflow.config",
        summary="configuration: the tasks of labelled processes under fsnap, on AWS Batch",
    ),
)


def hooks(arguments: argparse.Namespace) -> int:
    """Print one snippet, or the names; :class:`UsageError` for a name that there is not."""
    if arguments.name is None or arguments.list:
        width = max(len(hook.name) for hook in HOOKS)
        sys.stdout.writelines(f"{hook.name:<{width}}  {hook.summary}\n" for hook in HOOKS)
        return 0
    sys.stdout.write(snippet(arguments.name))
    return 0


def snippet(name: str) -> str:
    """The text of the snippet *name*; :class:`UsageError` if there is none."""
    for hook in HOOKS:
        if hook.name == name:
            return (FOLDER / hook.file).read_text(encoding="utf-8")
    names = ", ".join(hook.name for hook in HOOKS)
    raise UsageError(f"hooks {name}: there is no such snippet", hint=f"There are: {names}.")
