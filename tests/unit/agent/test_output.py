"""The task's output: exact offsets whatever its reader does."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fsnap.agent import output as module
from fsnap.agent.output import Output

LIMIT_S = 20.0
MANY = b"".join(b"line %06d\n" % number for number in range(40_000))
"""More than a pipe holds."""


@pytest.fixture(autouse=True)
def _short_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a task waits long for a slow reader; a test does not."""
    monkeypatch.setattr(module, "STOP_S", 1.0)


class Fifo:
    """A pipe with a name, and its reader."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self.data = bytearray()
        self._reading = False
        self._thread = threading.Thread(target=self._read, daemon=True)

    def take(self, count: int) -> bytes:
        """The next *count* bytes."""
        end = time.monotonic() + LIMIT_S
        got = bytearray()
        while len(got) < count:
            assert time.monotonic() < end, f"only {len(got)} of {count} bytes came"
            try:
                got += os.read(self.fd, count - len(got))
            except BlockingIOError:
                time.sleep(0.005)
        self.data += got
        return bytes(got)

    def rest(self) -> bytes:
        """What is in the pipe now."""
        try:
            got = os.read(self.fd, 1 << 20)
        except BlockingIOError:
            got = b""
        self.data += got
        return got

    def start(self) -> None:
        """Read all of it from now on."""
        self._reading = True
        self._thread.start()

    def _read(self) -> None:
        while self._reading:
            if not self.rest():
                time.sleep(0.002)

    def close(self) -> None:
        if self._reading:
            self._reading = False
            self._thread.join()
        os.close(self.fd)


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[Fifo]:
    pipe = Fifo(tmp_path / "pipe")
    yield pipe
    pipe.close()


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "stdout"


def wait(ready: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_S
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.002)


def append(spool: Path, data: bytes) -> None:
    with spool.open("ab") as file:
        file.write(data)


def test_a_file_gets_everything_from_its_offset_on(tmp_path: Path, spool: Path) -> None:
    target = tmp_path / "out"
    target.write_bytes(b"0123456789 and what another attempt wrote")
    output = Output(name="stdout", spool=spool, target=target)
    append(spool, b"abc")
    output.start(10)
    append(spool, b"def")
    assert output.flush(6, LIMIT_S)
    assert (output.base, output.emitted) == (10, 16)
    append(spool, b"the end")
    output.stop()
    assert target.read_bytes() == b"0123456789abcdefthe end"
    assert output.emitted == 23


def test_a_slow_reader_holds_nothing_up(fifo: Fifo, spool: Path) -> None:
    append(spool, MANY)
    output = Output(name="stdout", spool=spool, target=fifo.path)
    output.start(0)
    assert not output.flush(len(MANY), 0.2)
    assert output.emitted < len(MANY)
    fifo.start()
    assert output.flush(len(MANY), LIMIT_S)
    output.stop()
    wait(lambda: len(fifo.data) == len(MANY))
    assert fifo.data == MANY


def test_what_a_slow_reader_left_is_exactly_the_tail(fifo: Fifo, spool: Path) -> None:
    append(spool, MANY)
    output = Output(name="stdout", spool=spool, target=fifo.path)
    output.start(1000)
    fifo.take(30_000)
    output.hold()
    start, end = output.tail_range(len(MANY))
    assert output.emitted == 1000 + start
    assert end == len(MANY)
    time.sleep(0.1)
    assert output.tail_range(len(MANY)) == (start, end)
    output.stop()
    while fifo.rest():
        pass
    assert bytes(fifo.data) + spool.read_bytes()[start:end] == MANY


def test_unhold_goes_on_where_it_stopped(fifo: Fifo, spool: Path) -> None:
    append(spool, MANY)
    output = Output(name="stdout", spool=spool, target=fifo.path)
    output.start(0)
    fifo.take(10_000)
    output.hold()
    fifo.start()
    output.unhold()
    assert output.flush(len(MANY), LIMIT_S)
    output.stop()
    wait(lambda: len(fifo.data) == len(MANY))
    assert fifo.data == MANY


def test_hold_is_obeyed_before_the_start(tmp_path: Path, spool: Path) -> None:
    append(spool, b"abc")
    output = Output(name="stdout", spool=spool, target=tmp_path / "out")
    output.hold()
    output.start(0)
    time.sleep(0.1)
    assert output.emitted == 0
    output.stop()
    assert (tmp_path / "out").read_bytes() == b""


def test_a_reader_that_is_gone_costs_the_task_nothing(fifo: Fifo, spool: Path) -> None:
    append(spool, MANY)
    output = Output(name="stdout", spool=spool, target=fifo.path)
    output.start(0)
    fifo.take(1000)
    os.close(fifo.fd)
    assert output.flush(len(MANY), LIMIT_S)
    append(spool, b"more")
    output.stop()
    fifo.fd = os.open(os.devnull, os.O_RDONLY)


def test_a_full_disk_loses_nothing(spool: Path) -> None:
    append(spool, b"abc")
    output = Output(name="stdout", spool=spool, target=Path("/dev/full"))
    output.start(5)
    assert not output.flush(3, 0.3)
    assert output.emitted == 5
    assert output.tail_range(3) == (0, 3)
    output.stop()


def test_null_takes_everything_and_is_no_file_of_ours(spool: Path) -> None:
    append(spool, MANY)
    output = Output(name="stdout", spool=spool, target=Path("/dev/null"))
    output.start(0)
    assert not output.exact
    assert output.flush(len(MANY), LIMIT_S)
    output.stop()


def test_an_agent_goes_on_where_the_one_before_it_died(tmp_path: Path, spool: Path) -> None:
    target = tmp_path / "out"
    append(spool, b"abcdef")
    first = Output(name="stdout", spool=spool, target=target)
    first.start(100)
    assert first.flush(6, LIMIT_S)
    first.hold()  # it is dead: it writes no more
    with target.open("ab") as file:
        file.write(b"left, and not yet in the mark")
    append(spool, b"ghi")
    second = Output(name="stdout", spool=spool, target=target)
    second.start(100, resume=True)
    assert second.flush(9, LIMIT_S)
    second.stop()
    assert second.emitted == 109
    assert target.read_bytes()[100:] == b"abcdefghi"
    first.stop()


@pytest.mark.parametrize("mark", [b"", b"x y\n", b"12", b"\xff\xff"])
def test_a_mark_that_says_nothing_is_the_beginning(tmp_path: Path, spool: Path, mark: bytes) -> None:
    append(spool, b"abc")
    (tmp_path / "stdout.emitted").write_bytes(mark)
    output = Output(name="stdout", spool=spool, target=tmp_path / "out")
    output.start(7, resume=True)
    assert output.flush(3, LIMIT_S)
    output.stop()
    assert (tmp_path / "out").read_bytes() == b"\0" * 7 + b"abc"


def test_the_mark_is_never_torn(tmp_path: Path, spool: Path) -> None:
    """Its length is the same at every moment: a reader, or a crash, finds one whole mark."""
    output = Output(name="stdout", spool=spool, target=tmp_path / "out")
    output.start(0)
    sizes = set()
    for _ in range(200):
        append(spool, b"x" * 1000)
        sizes.add((tmp_path / "stdout.emitted").stat().st_size)
    output.stop()
    assert len(sizes) == 1


def test_emitted_parts_of_a_long_spool_are_given_back(
    tmp_path: Path, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PUNCH_BYTES", 1 << 16)
    output = Output(name="stdout", spool=spool, target=tmp_path / "out")
    output.start(0)
    for part in range(0, len(MANY), 50_000):
        append(spool, MANY[part : part + 50_000])
        assert output.flush(min(part + 50_000, len(MANY)), LIMIT_S)
    append(spool, b"the end")
    output.stop()
    assert (tmp_path / "out").read_bytes() == MANY + b"the end"
    assert spool.stat().st_size == len(MANY) + len(b"the end")


def test_a_start_that_failed_can_be_stopped(tmp_path: Path, spool: Path) -> None:
    output = Output(name="stdout", spool=spool, target=tmp_path)
    with pytest.raises(IsADirectoryError):
        output.start(0)
    output.stop()
