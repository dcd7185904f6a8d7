"""What can go wrong with a snapshot beside damage (``CorruptData``) and the store."""

from __future__ import annotations

from fsnap.errors import EXIT_RECLAIMED_UNSAVED, FsnapError, RestoreFailed, StoreError


class CaptureFailed(FsnapError):
    """A tree could not be captured; the message names the file."""

    code = "capture-failed"
    exit_code = EXIT_RECLAIMED_UNSAVED
    hint = "Nothing was committed; the task is not affected."


class UnreadableFile(CaptureFailed):
    """A file that belongs to the snapshot vanished, changed while it was read, or refuses to be read."""

    code = "unreadable-file"
    hint = "Leave it out with --exclude if the task can do without it."


class Interrupted(CaptureFailed):
    """A warm pass that had to make way for a capture."""

    code = "interrupted"


class PacksMissing(StoreError):
    """The listing lacks a pack that the snapshot needs, or shows another size.

    The known set has forgotten those packs: a repeated capture stores their content again.
    """

    code = "packs-missing"
    hint = "Something else deletes objects below the task's prefix: look for a life-cycle rule of the bucket."


class RestoreTargetFailed(RestoreFailed):
    """The directory that a tree is restored into does not take it (full, read-only, no such xattr, …)."""

    code = "restore-target"
    hint = "The file system there must have room, and the same features as where the snapshot was taken."
