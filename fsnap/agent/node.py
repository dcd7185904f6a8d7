"""Who this node is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fsnap.capsule.identity import host_name
from fsnap.clock import SystemClock


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """The node's name for people, and its instance id where a cloud gave it one."""

    name: str
    instance: str = ""


def this_node(provider: str, env: Mapping[str, str]) -> Node:
    """The cloud's instance id under its provider, else the host name."""
    if provider == "aws":
        from fsnap.notices.imds import instance_identity

        identity = instance_identity(clock=SystemClock(), env=env)
        if identity is not None:
            return Node(name=identity.instance_id, instance=identity.instance_id)
    return Node(name=host_name())
