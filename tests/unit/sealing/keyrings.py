"""Keys for tests: any two names are two keys."""

from __future__ import annotations

import hashlib

from fsnap.keys import Key, KeyRing


def key(key_id: str, seed: str = "") -> Key:
    """The key of that id; another one with another *seed*."""
    return Key(id=key_id, secret=hashlib.sha256(f"{key_id}/{seed}".encode()).digest())


def ring(*key_ids: str) -> KeyRing:
    """Keys of these ids, the first of which seals."""
    return KeyRing([key(key_id) for key_id in key_ids])
