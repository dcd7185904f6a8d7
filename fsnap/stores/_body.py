"""What a PUT sends, slice by slice.

A socket's timeout counts for a whole call of ``sendall``: given at once, a pack would have
to be through within the seconds that only silence should last.  So the transport is given
slices.
"""

from __future__ import annotations

import os

SLICE_BYTES = 256 << 10
"""Below, bytes go out in one segment with the header; above, in slices of this length."""


class SlicedBody:
    """A file of *view* for a transport: what is read are slices of it, not copies."""

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._at = 0

    def __len__(self) -> int:
        return len(self._view)

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: len(self._view)}[whence]
        return self._at

    def read(self, amount: int = -1) -> memoryview:
        """The next slice: not *amount* of it, which is what a transport thinks a copy may take."""
        piece = self._view[self._at : self._at + SLICE_BYTES]
        self._at += len(piece)
        return piece
