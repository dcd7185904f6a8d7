"""What the suite's modules share."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest

from fsnap.stores.base import Store

OpenStore = Callable[[], Store]


def own_prefix(request: pytest.FixtureRequest) -> str:
    """Of this test alone, and the same each time: a faulty proxy draws its faults by the paths asked for."""
    return hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:16]


def keys_of(store: Store, prefix: str = "", after: str = "") -> list[str]:
    """The keys of a listing."""
    return [row.key for row in store.list(prefix, after=after)]


def pattern(length: int) -> bytes:
    """Bytes no two neighbouring KiB of which are alike."""
    return b"".join(number.to_bytes(4, "big") for number in range(length // 4 + 1))[:length]
