"""Writes past the kernel's cache: the same bytes, wherever a file system or a buffer stands in the way."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fsnap.stores import _direct
from fsnap.stores._direct import ALIGNED_BYTES, LEAST_BYTES, write_direct
from fsnap.stores.file import FileStore

SIZES = [LEAST_BYTES - 1, LEAST_BYTES, LEAST_BYTES + 1, 3 * LEAST_BYTES + ALIGNED_BYTES + 77]


@pytest.fixture
def room() -> memoryview:
    made = mmap.mmap(-1, 4 << 20)
    made.write(os.urandom(4 << 20))
    return memoryview(made)


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    made = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield made
    os.close(made)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("offset", [0, 8])
def test_an_object_is_what_was_put(tmp_path: Path, room: memoryview, size: int, offset: int) -> None:
    store = FileStore(str(tmp_path / "store"))
    data = room[offset : offset + size]
    store.put("key", data)
    assert store.get("key") == data
    assert store.get("key", start=size - 5) == data[-5:]


@pytest.mark.parametrize("size", SIZES)
def test_whole_pages_are_written(fd: int, room: memoryview, size: int) -> None:
    done = write_direct(fd, room[:size])
    assert done == (size // ALIGNED_BYTES * ALIGNED_BYTES if size >= LEAST_BYTES else 0)
    assert os.pread(fd, size, 0) == room[:done]
    assert not fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT


def test_what_can_not_be_written_so_is_left(fd: int, room: memoryview) -> None:
    assert write_direct(fd, room[8:]) == 0
    assert write_direct(fd, memoryview(bytes(room))) == 0
    assert os.fstat(fd).st_size == 0


def _invalid(*_: object) -> int:
    raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


def test_a_file_system_that_refuses_the_flag(
    fd: int, room: memoryview, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fcntl.fcntl
    monkeypatch.setattr(
        _direct.fcntl,
        "fcntl",
        lambda fd, what, flags=0: _invalid() if flags & os.O_DIRECT else real(fd, what, flags),
    )
    assert write_direct(fd, room) == 0


def test_a_file_system_that_refuses_the_write(
    fd: int, room: memoryview, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_direct.os, "write", _invalid)
    assert write_direct(fd, room) == 0
    assert not fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT


def test_a_full_disk_is_told(fd: int, room: memoryview, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(_direct.os, "write", fail)
    with pytest.raises(OSError, match="No space left"):
        write_direct(fd, room)
    assert not fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT
