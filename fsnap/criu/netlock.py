"""CRIU's network lock, and when it may go.

A dump with ``--network-lock nftables`` makes a table that drops the packets of the tree's
connections.  After a final dump CRIU leaves it for the restore, which removes it; on a
node that lives on while the task goes elsewhere it would stay for ever, one more with
each dump.  A table that locks no connection protects nothing and is removed here; one
that does is left, since a restore on this very node needs it.

The table is called ``inet CRIU-`` and the run's id, which CRIU 4.2.1 writes into 32 bytes and
so cuts to 31 characters; the id is in the first line of ``dump.log``.
"""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

NO_LOCK = "skip"
"""``--network-lock`` for a tree without connections: a table for nftables takes CRIU 90 ms of the freeze."""

TABLE_LENGTH = 31
RUN_ID = re.compile(r"CRIU run id = ([0-9a-f-]+)")
HEAD_BYTES = 4096


def has_connections(images: Path) -> bool:
    """Whether the dump in *images* found a TCP connection."""
    return any(images.glob("tcp-stream-*.img"))


def drop_lock(images: Path, *, used: bool = False) -> bool:
    """Remove the table of the dump in *images*, one that locks connections only if *used*; true if done."""
    try:
        with (images / "dump.log").open(encoding="utf-8", errors="replace") as log:
            found = RUN_ID.search(log.read(HEAD_BYTES))
        nft = _Nft()
    except OSError:
        return False
    if found is None:
        return False
    table = f"inet CRIU-{found[1]}"[:TABLE_LENGTH]
    with nft:
        listing = nft.run(f"list table {table}")
        if listing is None or ("elements" in listing and not used):
            return False
        return nft.run(f"delete table {table}") is not None


class _Nft:
    """The library that CRIU itself uses; :class:`OSError` where it is missing."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libnftables.so.1")
        self._library.nft_ctx_new.restype = ctypes.c_void_p
        self._library.nft_ctx_get_output_buffer.restype = ctypes.c_char_p
        self._context = ctypes.c_void_p(self._library.nft_ctx_new(0))
        self._library.nft_ctx_buffer_output(self._context)
        self._library.nft_ctx_buffer_error(self._context)

    def run(self, command: str) -> str | None:
        """What it prints; ``None`` when it fails."""
        if self._library.nft_run_cmd_from_buffer(self._context, command.encode()) != 0:
            return None
        return (self._library.nft_ctx_get_output_buffer(self._context) or b"").decode()

    def __enter__(self) -> _Nft:
        return self

    def __exit__(self, *_: object) -> None:
        self._library.nft_ctx_free(self._context)
