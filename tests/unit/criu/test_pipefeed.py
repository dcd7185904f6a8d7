"""What goes into a pipe by its pages comes out as it was, with slow readers and short-lived buffers."""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
import time
from collections.abc import Iterator
from random import Random

import pytest

from fsnap.criu.pipefeed import BATCH_BYTES, MAX_PARTS, PipeFeed

pytestmark = pytest.mark.process


class Reader(threading.Thread):
    """Takes what comes, *step* bytes at a time, with a pause after each."""

    def __init__(self, pipe: int, step: int, pause_s: float) -> None:
        super().__init__()
        self.digest = hashlib.sha256()
        self.length = 0
        self._pipe, self._step, self._pause_s = pipe, step, pause_s

    def run(self) -> None:
        while data := os.read(self._pipe, self._step):
            self.digest.update(data)
            self.length += len(data)
            time.sleep(self._pause_s)


@pytest.fixture
def ends() -> Iterator[tuple[int, int]]:
    ours, theirs = os.pipe()
    yield ours, theirs
    for fd in (ours, theirs):
        try:
            os.close(fd)
        except OSError:
            pass  # closed by the test


def go_on() -> None:
    pass


@pytest.mark.parametrize("capacity", [4096, 1 << 16, 1 << 20])
@pytest.mark.parametrize(
    ("pieces", "largest", "step", "pause_s"),
    [(40, 1 << 20, 1 << 20, 0.0), (2000, 9000, 1 << 16, 0.0), (30, 300_000, 1 << 16, 0.002), (3, 10, 1, 0.0)],
)
def test_everything_arrives(
    ends: tuple[int, int], capacity: int, pieces: int, largest: int, step: int, pause_s: float
) -> None:
    ours, theirs = ends
    fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, capacity)
    rng, expected, length = Random(pieces), hashlib.sha256(), 0
    reader = Reader(ours, step, pause_s)
    reader.start()
    feed = PipeFeed(theirs, go_on)
    for _ in range(pieces):
        data = rng.randbytes(rng.randint(0, largest))  # nobody else holds it: freed, it would be the next one
        expected.update(data)
        length += len(data)
        feed.send(memoryview(data))
        del data
    feed.finish()
    os.close(theirs)
    reader.join()
    assert (reader.length, reader.digest.digest()) == (length, expected.digest())


def test_what_the_reader_has_not_taken_is_held(ends: tuple[int, int]) -> None:
    ours, theirs = ends
    fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, 1 << 20)
    feed = PipeFeed(theirs, go_on)
    buffer = bytearray(b"a" * 8192)
    feed.send(memoryview(buffer)[:8192])
    finishing = threading.Thread(target=feed.finish)
    finishing.start()
    time.sleep(0.05)
    assert finishing.is_alive(), "the pages are still in the pipe"
    assert os.read(ours, 8192) == b"a" * 8192
    finishing.join(10)
    assert not finishing.is_alive()


def test_many_small_pieces_are_not_kept_back(ends: tuple[int, int]) -> None:
    ours, theirs = ends
    fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, MAX_PARTS * 4096)  # each piece takes a page's place
    feed = PipeFeed(theirs, go_on)
    for _ in range(MAX_PARTS):
        feed.send(memoryview(b"x"))
    assert os.read(ours, 10_000) == b"x" * MAX_PARTS


def test_a_reader_that_is_gone_is_told(ends: tuple[int, int]) -> None:
    ours, theirs = ends
    feed = PipeFeed(theirs, go_on)
    os.close(ours)
    with pytest.raises(BrokenPipeError):
        feed.send(memoryview(bytes(BATCH_BYTES)))


def test_a_reader_that_goes_meanwhile_ends_the_wait(ends: tuple[int, int]) -> None:
    ours, theirs = ends
    feed = PipeFeed(theirs, go_on)
    feed.send(memoryview(b"some"))
    threading.Timer(0.05, os.close, [ours]).start()
    feed.finish()


def test_the_wait_for_a_reader_can_be_ended(ends: tuple[int, int]) -> None:
    """By what *pause* raises."""

    class Enough(Exception):
        pass

    calls = iter(range(20))

    def pause() -> None:
        if next(calls, None) is None:
            raise Enough

    with pytest.raises(Enough):
        PipeFeed(ends[1], pause).send(memoryview(bytes(BATCH_BYTES)))
