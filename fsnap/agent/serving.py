"""A restore whose memory is not staged: pages go from the store's packs straight into CRIU's pipes.

``pages-*.img`` hold nearly all of a snapshot.  They are fetched, verified and written into
CRIU's pipes in the order in which it reads them, a bounded part ahead; the other images,
and small ones of pages, are files below the images directory.  The first of them is
fetched from the start, before CRIU runs.

A chunk that fails its digest never enters a pipe.  The pipe is closed instead, CRIU fails
on it, and what it had made of the tree was never released.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from types import TracebackType

from fsnap.criu.pipefeed import PipeFeed
from fsnap.criu.serve import ServeSocket
from fsnap.errors import FsnapError
from fsnap.snapshots.fetch import Snapshot
from fsnap.snapshots.ordered import Feed, OrderedReader
from fsnap.snapshots.tables import EntryRow

PAGES_GLOB = "pages-*.img"
LEAST_BYTES = 1 << 20
"""Images of pages below this are staged with the rest."""
AT_ONCE = 16
"""Pipes that are fed at once; more wait their turn.  No process waits for another while it reads."""
SEND_BYTES = 1 << 20


def streamed(snapshot: Snapshot) -> list[str]:
    """Names of the images that are worth it, in the order in which CRIU most likely reads them."""
    sizes = {path: row.size for path, row in snapshot.files("images").items()}
    found = [p for p, size in sizes.items() if size >= LEAST_BYTES and fnmatch.fnmatchcase(p, PAGES_GLOB)]
    return sorted(found, key=lambda name: (len(name), name))


class ServedImages:
    """Serves one run of CRIU.  As a context manager it ends with it, whatever state it is in."""

    def __init__(self, snapshot: Snapshot, images: Path, names: list[str]) -> None:
        self._images = images
        self.names = names
        self._streamed: dict[str, EntryRow] = {}
        self._reader: OrderedReader | None = None
        self._begun: dict[str, Feed] = {}
        self._turns = threading.Semaphore(AT_ONCE)
        self._socket: ServeSocket | None = None
        self._stop = threading.Event()
        self.failure: Exception | None = None
        """What went wrong at this end: the cause, where CRIU's own complaint is a broken pipe."""
        self._threads: list[threading.Thread] = []
        if names:
            files = snapshot.files("images")
            self._streamed = {name: files[name] for name in names}
            self._reader = snapshot.ordered(min(len(names), AT_ONCE))
            self._begun[names[0]] = self._reader.feed(files[names[0]])
            self._begun[names[0]].read_ahead()

    def __enter__(self) -> ServedImages:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._socket is not None:
            self._socket.wake()
        if self._reader is not None:
            self._reader.__exit__(kind, error, trace)
        for thread in self._threads:
            thread.join()
        if self._socket is not None:
            self._socket.close()

    def listen(self) -> None:
        """Be there for CRIU."""
        self._socket = ServeSocket(self._images)
        self._begin(self._serve, self._socket)

    def _begin(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=self._guarded, args=(work, *arguments), name="images", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _guarded(self, work: Callable[..., None], *arguments: object) -> None:
        try:
            work(*arguments)
        except (CancelledError, ConnectionError):
            return  # nobody wants more: CRIU has ended, or this restore has
        except (FsnapError, OSError) as problem:
            if self.failure is None and not self._stop.is_set():
                self.failure = problem
            self._stop.set()

    def _serve(self, socket: ServeSocket) -> None:
        if not socket.accept():
            return
        while (name := socket.next_name()) is not None:
            if name in self._streamed:
                assert self._reader is not None
                feed = self._begun.pop(name, None) or self._reader.feed(self._streamed[name])
                self._begin(self._pump, feed, socket.promise(name))
            elif (self._images / name).is_file():
                self._begin(self._copy, self._images / name, socket.promise(name))
            else:
                socket.refuse()

    def _copy(self, path: Path, pipe: int) -> None:
        with self._feeding(pipe) as out, path.open("rb") as file:
            while data := file.read(SEND_BYTES):
                out.send(memoryview(data))

    def _pump(self, feed: Feed, pipe: int) -> None:
        with self._turns, self._feeding(pipe) as out:
            for data in feed.content():
                out.send(data)

    @contextlib.contextmanager
    def _feeding(self, pipe: int) -> Iterator[PipeFeed]:
        """Closes *pipe* at the end; that CRIU wants no more is none of our business."""
        out = PipeFeed(pipe, self._go_on)
        try:
            with contextlib.suppress(BrokenPipeError):
                yield out
                out.finish()
        finally:
            os.close(pipe)

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise CancelledError
