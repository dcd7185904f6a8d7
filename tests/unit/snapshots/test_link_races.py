"""A task that swaps a directory for a link while it is read or written: nothing outside is ever touched.

The walk is slowed by nothing: swaps and walks run side by side until enough of each have crossed.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from fsnap.errors import FsnapError
from fsnap.snapshots.baseline import Baseline
from tests.unit.snapshots.lab import Lab, fill, tree

RENAME_EXCHANGE = 2
AT_FDCWD = -100
SECRET = b"the secret outside" * 300
ROUNDS = 60
MOST_ROUNDS = 100 * ROUNDS
"""Until one has come through."""

SWAPS_IN_A_ROW = 300
LONG_ROUNDS = 500


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """What must neither be read nor be written; its names are those inside."""
    fill(tmp_path / "outside", {f"{n}/file": SECRET for n in range(4)})
    return tmp_path / "outside"


@pytest.fixture
def inside(tmp_path: Path, outside: Path) -> Path:
    fill(tmp_path / "inside", {f"d/{n}/file": b"inside" * 300 for n in range(4)})
    return tmp_path / "inside"


@contextmanager
def swapped(directory: Path, link: Path, target: Path) -> Iterator[list[int]]:
    """*directory* and a link to *target* change places all the time, each time at once (renameat2(2))."""
    link.symlink_to(target)
    libc = ctypes.CDLL(None, use_errno=True)
    words = (AT_FDCWD, os.fsencode(directory), AT_FDCWD, os.fsencode(link), RENAME_EXCHANGE)
    swaps = [0]
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            swaps[0] += libc.renameat2(*words) == 0
            if not directory.is_symlink() and not link.is_symlink():  # a restore has put a directory there
                shutil.rmtree(link, ignore_errors=True)
                with suppress(FileExistsError):
                    link.symlink_to(target)
            # Now and then a walk is to come through.
            time.sleep(0 if swaps[0] % SWAPS_IN_A_ROW else 0.01)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield swaps
    finally:
        stop.set()
        thread.join()
        if directory.is_symlink():
            libc.renameat2(*words)
        if link.is_symlink():
            link.unlink()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def read_all_the_while(inside: Path, outside: Path, tmp_path: Path, rounds: int) -> None:
    lab = Lab()
    taken = 0
    with swapped(inside / "d", tmp_path / "link", outside) as swaps:
        for number in range(MOST_ROUNDS):
            if number >= rounds and taken:
                break
            with suppress(FsnapError):
                lab.capture(f"s{number}", tree(inside))
                taken += 1
    assert swaps[0] > rounds
    assert taken, "no capture came through"
    dest = tmp_path / "dest"
    for key in lab.keys("manifest.json"):
        dest.mkdir(exist_ok=True)
        lab.open(key.split("/")[3]).restore_tree("state-0", dest)
        assert SECRET not in contents(dest).values()


def write_all_the_while(inside: Path, outside: Path, tmp_path: Path, rounds: int) -> None:
    lab = Lab()
    lab.capture("s1", tree(inside))
    before = contents(outside)
    done = 0
    with swapped(inside / "d", tmp_path / "link", outside) as swaps:
        for number in range(MOST_ROUNDS):
            if number >= rounds and done:
                break
            with suppress(FsnapError):
                lab.open("s1").restore_tree("state-0", inside, remove_recorded=["d/0/gone"])
                done += 1
        assert swaps[0] > rounds
    assert contents(outside) == before
    assert done, "no restore came through"


def test_a_capture_never_reads_outside(inside: Path, outside: Path, tmp_path: Path) -> None:
    read_all_the_while(inside, outside, tmp_path, ROUNDS)


def test_a_restore_never_writes_outside(inside: Path, outside: Path, tmp_path: Path) -> None:
    write_all_the_while(inside, outside, tmp_path, ROUNDS)


@pytest.mark.slow
def test_for_long(inside: Path, outside: Path, tmp_path: Path) -> None:
    write_all_the_while(inside, outside, tmp_path, LONG_ROUNDS)
    read_all_the_while(inside, outside, tmp_path, LONG_ROUNDS)


def test_inputs_are_looked_at_inside_alone(inside: Path, outside: Path, tmp_path: Path) -> None:
    """The names and sizes of a baseline, taken while the directory is swapped."""
    with swapped(inside / "d", tmp_path / "link", outside):
        for _ in range(ROUNDS):
            try:
                found = Baseline.scan(inside, ())
            except FsnapError:
                continue
            sizes = {entry.size for path in found.paths() if (entry := found.get(path)) is not None}
            assert len(SECRET) not in sizes
