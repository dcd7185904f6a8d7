"""CRIU's own statistics of a dump (``stats-dump``): how long the tree was frozen.

The file is two 32-bit magics, a 32-bit length and a protobuf ``stats_entry`` whose field 1
is ``dump_stats_entry`` (``images/stats.proto`` in the CRIU source): field 2 is
``frozen_time``, in microseconds.
"""

from __future__ import annotations

from pathlib import Path

from fsnap.criu.protobuf import fields

HEADER_BYTES = 12


def frozen_ms(images: Path) -> int | None:
    """Milliseconds that the tree was frozen; ``None`` when the file is missing or says nothing."""
    try:
        dump = dict(fields((images / "stats-dump").read_bytes()[HEADER_BYTES:])).get(1)
        frozen_us = dict(fields(dump)).get(2) if isinstance(dump, bytes) else None
    except (OSError, ValueError):
        return None
    return frozen_us // 1000 if isinstance(frozen_us, int) else None
