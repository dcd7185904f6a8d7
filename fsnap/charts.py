"""The charts that ship with fsnap, loaded once and validated."""

from __future__ import annotations

import functools
import hashlib
from importlib import resources

from fsnap.core.chart import Chart, validate
from fsnap.core.guards import NODE_GUARDS, TASK_GUARDS


def _load(name: str, guards: frozenset[str]) -> Chart:
    import yaml

    text = (resources.files("fsnap.statecharts") / f"{name}.yaml").read_bytes()
    return validate(yaml.safe_load(text), guards=guards, version=hashlib.sha256(text).hexdigest()[:16])


@functools.cache
def task_chart() -> Chart:
    """``statecharts/task.yaml``; :class:`~fsnap.errors.BadChart` if it must not be used."""
    return _load("task", frozenset(TASK_GUARDS))


@functools.cache
def node_chart() -> Chart:
    """``statecharts/node.yaml``."""
    return _load("node", NODE_GUARDS)
