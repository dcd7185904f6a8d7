"""Where a task's snapshot objects lie in the store.

Below the task's prefix: ``packs/<pack id>`` (shared by the task's snapshots),
``snapshots/<id>/index`` and ``snapshots/<id>/manifest.json``.
"""

from __future__ import annotations

import re

_SNAPSHOT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_TREE_NAME = re.compile(r"[a-z0-9-]{1,64}")
_STREAM_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def packs_prefix(prefix: str) -> str:
    """What every pack's key of this task starts with."""
    return f"{prefix}/packs/"


def snapshots_prefix(prefix: str) -> str:
    """What every snapshot's keys of this task start with."""
    return f"{prefix}/snapshots/"


def pack_key(prefix: str, pack_id: str) -> str:
    """The pack's key."""
    return f"{prefix}/packs/{pack_id}"


def index_key(prefix: str, snapshot_id: str) -> str:
    """The index's key."""
    return f"{prefix}/snapshots/{snapshot_id}/index"


def manifest_key(prefix: str, snapshot_id: str) -> str:
    """The manifest's key."""
    return f"{prefix}/snapshots/{snapshot_id}/manifest.json"


def is_snapshot_id(text: str) -> bool:
    """Whether *text* may name a snapshot."""
    return _SNAPSHOT_ID.fullmatch(text) is not None


def is_tree_name(text: str) -> bool:
    """Whether *text* may name a tree."""
    return _TREE_NAME.fullmatch(text) is not None


def is_stream_name(text: str) -> bool:
    """Whether *text* may name a blob or a file stored with the snapshot."""
    return _STREAM_NAME.fullmatch(text) is not None
