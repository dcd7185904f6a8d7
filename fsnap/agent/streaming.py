"""A final dump that is not staged: pages go from CRIU's pipes straight into the capture.

``pages-*.img`` hold nearly all of a dump.  They are read, cut and stored while CRIU still
writes them; what is stored waits for nothing, and CRIU waits when the store is slower.
All other images become files, as in a dump without a stream, and so does a pages image
that opens before the one before it is whole (CRIU would wait for ever if nobody read it).
For each streamed image a file of its size that holds nothing keeps its place in the tree.

When anything fails here the pipes are closed.  CRIU then fails too and lets the tree run on.
"""

from __future__ import annotations

import fnmatch
import os
import queue
import select
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from fsnap.crashpoints import CrashPoint, reach
from fsnap.criu.stream import ImageSocket, is_written
from fsnap.errors import CheckpointFailed, FsnapError
from fsnap.snapshots.capture import Capture
from fsnap.snapshots.feeder import Fill
from fsnap.snapshots.seen import Extent
from fsnap.snapshots.treecapture import PAGES_GLOB

COPY_BYTES = 1 << 18
STOP_POLL_MS = 200
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class StreamedImages:
    """Receives the images of one dump.  One thread takes what comes, one feeds the capture."""

    def __init__(self, images: Path, capture: Capture) -> None:
        self._images = images
        self._capture = capture
        self._socket = ImageSocket(images)
        self._lock = threading.Lock()
        self._pages: queue.SimpleQueue[tuple[str, int] | None] = queue.SimpleQueue()
        self._unread: set[int] = set()
        """Pipes of pages images that are queued or being fed."""
        self._copies: dict[int, int] = {}
        """Pipe to the file that it is copied to."""
        self._all_sent = False
        self._stop = threading.Event()
        self.failure: Exception | None = None
        """What went wrong at this end: the cause, where CRIU's own complaint is a broken pipe."""
        self._fed: dict[str, list[Extent]] = {}
        self._receiver = threading.Thread(target=self._guarded, args=(self._receive,), name="images")
        self._feeder = threading.Thread(target=self._guarded, args=(self._feed,), name="pages")
        self._receiver.start()
        self._feeder.start()

    def __enter__(self) -> StreamedImages:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()
        self._socket.close()

    def finish(self) -> dict[str, list[Extent]]:
        """CRIU stands at its gate: take what is still in the pipes; where each streamed image lies."""
        self._all_sent = True
        self._socket.wake()
        self._receiver.join()
        self._feeder.join()
        if self.failure is not None:
            raise self.failure
        if self._stop.is_set():
            raise CheckpointFailed("the dump was called off")
        return self._fed

    def abort(self) -> None:
        """Close the pipes, so that CRIU fails unless it is done; returns when no thread runs any longer."""
        self._stop.set()
        self._socket.wake()
        self._receiver.join()
        self._feeder.join()

    def _guarded(self, work: Any) -> None:
        try:
            work()
        except (FsnapError, OSError) as problem:
            self._fail(problem)

    def _fail(self, problem: Exception) -> None:
        if self.failure is None and not self._stop.is_set():
            self.failure = problem
        self._stop.set()
        self._socket.wake()

    # -- receiving

    def _receive(self) -> None:
        try:
            if self._socket.accept():
                self._serve()
        finally:
            self._pages.put(None)
            for pipe, file in self._copies.items():
                os.close(pipe)
                os.close(file)
            if self._stop.is_set():
                self._socket.hang_up()

    def _serve(self) -> None:
        peer, wake = self._socket.peer_fd, self._socket.wake_fd
        poll = select.poll()
        for fd in (peer, wake):
            poll.register(fd, select.POLLIN)
        while not self._stop.is_set():
            ready = [fd for fd, _ in poll.poll(0 if self._all_sent and not self._copies else None)]
            if not ready:
                return
            for fd in ready:
                if fd == wake:
                    os.read(wake, 64)
                elif fd in self._copies:
                    self._copy(poll, fd)
                elif (image := self._socket.next_image()) is not None:
                    self._take(poll, *image)
                else:
                    self._all_sent = True
                    poll.unregister(peer)

    def _take(self, poll: select.poll, name: str, pipe: int) -> None:
        with self._lock:
            feed = fnmatch.fnmatchcase(name, PAGES_GLOB) and all(is_written(fd) for fd in self._unread)
            if feed:
                self._unread.add(pipe)
        if feed:
            self._pages.put((name, pipe))
            return
        try:
            self._copies[pipe] = os.open(self._images / name, _CREATE, 0o600)
        except OSError:
            os.close(pipe)
            raise
        poll.register(pipe, select.POLLIN)

    def _copy(self, poll: select.poll, pipe: int) -> None:
        rest = memoryview(os.read(pipe, COPY_BYTES))
        if rest:
            while rest:
                rest = rest[os.write(self._copies[pipe], rest) :]
            return
        poll.unregister(pipe)
        os.close(self._copies.pop(pipe))
        os.close(pipe)

    # -- feeding

    def _feed(self) -> None:
        try:
            while (image := self._pages.get()) is not None:
                name, pipe = image
                try:
                    self._fed[name] = self._capture.feed_pages(name, self._reader(pipe))
                finally:
                    self._let_go(pipe)
                reach(CrashPoint.PAGES_FED)
                length = sum(extent[1] for extent in self._fed[name])
                place = os.open(self._images / name, _CREATE, 0o600)
                try:
                    os.ftruncate(place, length)
                finally:
                    os.close(place)
        except (FsnapError, OSError) as problem:
            self._fail(problem)
            # CRIU waits for whoever reads: it has to see that nobody does.
            while (image := self._pages.get()) is not None:
                self._let_go(image[1])

    def _let_go(self, pipe: int) -> None:
        with self._lock:
            self._unread.discard(pipe)
            os.close(pipe)

    def _reader(self, pipe: int) -> Fill:
        poll = select.poll()
        poll.register(pipe, select.POLLIN)

        def fill(buffer: memoryview) -> int:
            while not poll.poll(STOP_POLL_MS):
                if self._stop.is_set():
                    raise CheckpointFailed("the dump was called off")
            if self._stop.is_set():
                raise CheckpointFailed("the dump was called off")
            return os.readv(pipe, [buffer])

        return fill
