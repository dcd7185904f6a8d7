"""``--provider none``: no notice ever comes from here; SIGTERM alone tells."""

from __future__ import annotations

from fsnap.notices.base import Post


class NoNotice:
    """A source that has nothing to watch."""

    @property
    def name(self) -> str:
        return "none"

    def start(self, post: Post) -> None:
        """Does nothing."""

    def stop(self) -> None:
        """Does nothing."""
