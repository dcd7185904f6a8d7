"""``--provider file:PATH``: a notice is a file there.

The file is read when its writer closes it.  inotify tells the moment; a slow look
every half second is the net below it, for file systems that send no events (NFS,
9p), for a directory that was replaced, and for events that were dropped.

Whether somebody still writes is asked of the kernel: a read lease is refused while
any descriptor is open for writing.  Where leases are not to be had, content counts
once it has not changed between two looks.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from loguru import logger

from fsnap.clock import Clock
from fsnap.core.events import Notice, NoticeCancelled
from fsnap.errors import UsageError
from fsnap.notices.base import Post
from fsnap.notices.payload import (
    DEFAULT_WINDOW_S,
    MAX_CONTENT_BYTES,
    FileNoticeText,
    notice_id,
    parse_file_notice,
    window_ms,
)

if TYPE_CHECKING:
    from watchdog.observers.api import BaseObserver

POLL_S = 0.5
WRITER_PATIENCE_S = 5.0
"""A file that stays open for writing, yet unchanged for this long, is read all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Version:
    """One content of the file, as far as ``stat`` tells."""

    inode: int
    mtime_ns: int
    size_bytes: int

    @classmethod
    def of(cls, found: os.stat_result) -> _Version:
        return cls(inode=found.st_ino, mtime_ns=found.st_mtime_ns, size_bytes=found.st_size)


def open_for_writing(descriptor: int) -> bool | None:
    """Whether any process has the file open for writing; ``None`` where the kernel can't tell.

    A lease is asked for and given back at once (``fcntl(2)``, F_SETLEASE).  A writer
    that comes just then would have SIGIO sent here, which ends a process: SIGURG, which
    is ignored, is asked for instead.
    """
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    return False


class FileNotice:
    """Watches one path; construct it with a path whose directory exists.

    Raises :class:`~fsnap.errors.UsageError` when the directory is missing or the
    path names something that is not a file.  A notice that is there already is
    posted before ``start`` returns.  What happens to the directory later is no error.
    """

    def __init__(self, path: Path, clock: Clock, *, poll_s: float = POLL_S) -> None:
        self._path = Path(os.path.abspath(path))
        self._clock = clock
        self._poll_s = poll_s
        if not self._path.parent.is_dir():
            raise UsageError(
                f"--provider file:{path}: there is no directory {self._path.parent}",
                hint="Create it first; the notice itself is a file made there later.",
            )
        if self._path.exists() and not self._path.is_file():
            raise UsageError(
                f"--provider file:{path}: this is not a file", hint="Name a path where a file can appear."
            )
        self._post: Post | None = None
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self._closed = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._observer: BaseObserver | None = None
        self._accepted: _Version | None = None
        self._pending: _Version | None = None
        self._pending_since_s = 0.0
        self._live_ids: list[str] = []
        self._complained = False

    @property
    def name(self) -> str:
        return f"file:{self._path}"

    def start(self, post: Post) -> None:
        self._post = post
        self._observer = _observe(self._path, self._on_event)
        self.look(closed=False)
        self._thread = threading.Thread(target=self._run, name="notice-file", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        with self._lock:
            self._stopping = True
        self._wake.set()
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait(self._poll_s)
            self._wake.clear()
            closed = self._closed.is_set()
            self._closed.clear()
            self.look(closed=closed)

    def _on_event(self, closed: bool) -> None:
        if closed:
            self._closed.set()
        self._wake.set()

    def look(self, *, closed: bool) -> None:
        """Compare the path with what was posted.

        *closed*, that a writer has just closed it, counts only where leases are not to be
        had: by now the next writer may have opened it.
        """
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            self._gone()
            return
        except OSError as error:
            self._complain(f"cannot look at {self._path}: {error.strerror}")
            return
        version = _Version.of(found)
        if version == self._accepted:
            return
        now_s = self._clock.mono_s()
        if version != self._pending:
            self._pending, self._pending_since_s = version, now_s
        if stat.S_ISREG(found.st_mode):
            self._look_inside(version, closed, now_s - self._pending_since_s)
        else:
            self._accept(version, b"", FileNoticeText(problem="not a file"))

    def _look_inside(self, version: _Version, closed: bool, unchanged_s: float) -> None:
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        except OSError as error:
            self._accept(version, b"", FileNoticeText(problem=error.strerror))
            return
        try:
            writing = open_for_writing(descriptor)
            if writing and unchanged_s < WRITER_PATIENCE_S:
                return
            if writing is None and not closed and unchanged_s < self._poll_s:
                return
            version = _Version.of(os.fstat(descriptor))  # first: what is written meanwhile is a new version
            content = os.read(descriptor, MAX_CONTENT_BYTES + 1)
        except OSError as error:
            self._complain(f"cannot read {self._path}: {error.strerror}")
            return
        finally:
            os.close(descriptor)
        self._accept(version, content, parse_file_notice(content))

    def _accept(self, version: _Version, content: bytes, text: FileNoticeText) -> None:
        """Post a new notice; its window counts from when this content was first seen."""
        self._accepted = version
        identity = notice_id("file", version.inode, version.mtime_ns, content)
        if identity in self._live_ids:
            return
        if text.problem is not None:
            logger.warning(
                "the notice {} makes no sense ({}): taken for one of {:.0f} s",
                self._path,
                text.problem,
                DEFAULT_WINDOW_S,
            )
        passed_s = self._clock.mono_s() - self._pending_since_s
        left_s = text.left_s(self._clock.wall())
        if text.deadline is not None:
            left_s += passed_s  # the deadline was put against the wall clock now, not when it was first seen
        self._live_ids.append(identity)
        notice = Notice(
            notice_id=identity,
            provider="file",
            window_ms=window_ms(left_s),
            deadline_at=text.deadline_text,
        )
        self._emit(notice, self._pending_since_s)

    def _gone(self) -> None:
        """Take back every notice of this file, unless its whole directory went: that proves nothing."""
        if not self._path.parent.is_dir():
            return
        self._accepted = self._pending = None
        for identity in self._live_ids:
            self._emit(NoticeCancelled(notice_id=identity), self._clock.mono_s())
        self._live_ids.clear()

    def _emit(self, event: Notice | NoticeCancelled, seen_mono_s: float) -> None:
        with self._lock:
            if not self._stopping and self._post is not None:
                self._post(event, seen_mono_s)

    def _complain(self, message: str) -> None:
        if not self._complained:
            self._complained = True
            logger.warning("{}; going on looking", message)


def _observe(path: Path, wake: Callable[[bool], None]) -> BaseObserver | None:
    """Start inotify on the directory of *path*; ``None``, after a warning, where it can't be had.

    *wake* is called with whether a writer closed the file or it was moved in whole.
    """
    from watchdog import events
    from watchdog.observers.inotify import InotifyObserver

    class Handler(events.FileSystemEventHandler):
        def on_any_event(self, event: events.FileSystemEvent) -> None:
            if os.fspath(path) in (event.src_path, event.dest_path):
                moved_in = event.event_type == events.EVENT_TYPE_MOVED and event.dest_path == os.fspath(path)
                wake(moved_in or event.event_type == events.EVENT_TYPE_CLOSED)

    kinds: list[type[events.FileSystemEvent]] = [
        events.FileClosedEvent,
        events.FileCreatedEvent,
        events.FileDeletedEvent,
        events.FileMovedEvent,
    ]
    try:
        observer = InotifyObserver(generate_full_events=True)
        observer.schedule(Handler(), os.fspath(path.parent), recursive=False, event_filter=kinds)
        observer.start()
    except OSError as error:
        logger.warning("no inotify on {} ({}): looking every {} s", path.parent, error.strerror, POLL_S)
        return None
    return observer
