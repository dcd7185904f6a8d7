"""Parts of init that need no process of their own."""

from __future__ import annotations

import ast
import errno
import os
import sys
from pathlib import Path

import pytest

from fsnap.capsule import identity
from fsnap.capsule import stream as module
from fsnap.capsule.stream import Stream

INSIDE = ("init.py", "launch.py", "children.py", "leasetimer.py", "procfs.py", "stream.py")
INSIDE += ("subreaper.py", "tracing.py", "waits.py")
"""What runs in the capsule, without the agent's environment."""


@pytest.mark.parametrize("name", INSIDE)
def test_what_runs_inside_needs_the_standard_library_alone(name: str, checkout: Path) -> None:
    tree = ast.parse((checkout / "fsnap" / "capsule" / name).read_text())
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module or "")
    own = {f"fsnap.capsule.{inside.removesuffix('.py')}" for inside in INSIDE}
    assert {one for one in imported - own if one.split(".")[0] not in sys.stdlib_module_names} == set()


@pytest.fixture
def stream(tmp_path: Path) -> Stream:
    made = Stream(str(tmp_path / "stdout"))
    made.open()
    return made


def test_a_stream_moves_its_pipe_to_its_spool(stream: Stream, tmp_path: Path) -> None:
    os.write(stream.write_fd, b"abc")
    os.write(stream.write_fd, b"def")
    assert stream.pump()
    assert not stream.pump()
    assert (tmp_path / "stdout").read_bytes() == b"abcdef"
    assert stream.size == 6


def test_the_last_writer_ends_it(stream: Stream) -> None:
    os.write(stream.write_fd, b"abc")
    stream.close_writer()
    stream.close_writer()
    assert stream.pump()
    assert stream.read_fd == -1
    assert not stream.pump()
    assert stream.size == 3


def test_a_spool_with_a_tail_is_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "stdout").write_bytes(b"tail of the attempt before")
    again = Stream(str(tmp_path / "stdout"))
    again.open()
    os.write(again.write_fd, b" and more")
    again.pump()
    assert (tmp_path / "stdout").read_bytes() == b"tail of the attempt before and more"
    assert again.size == 35


def test_the_inode_is_that_of_both_ends(stream: Stream) -> None:
    assert stream.inode == os.fstat(stream.write_fd).st_ino


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_makes_the_task_wait(
    stream: Stream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    waits: list[float] = []
    write = os.write

    def full(fd: int, data: bytes) -> int:
        if len(waits) < 2:
            raise OSError(number, os.strerror(number))
        return write(fd, data[:2])

    write(stream.write_fd, b"abcde")
    monkeypatch.setattr(os, "write", full)
    monkeypatch.setattr(module.time, "sleep", waits.append)
    stream.pump()
    assert len(waits) == 2
    assert (tmp_path / "stdout").read_bytes() == b"abcde"
    assert stream.size == 5


def test_another_failure_is_not_waited_for(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    os.write(stream.write_fd, b"abc")
    os.close(stream.spool)
    with pytest.raises(OSError, match="Bad file descriptor"):
        stream.pump()


# -- identity


def test_this_process_has_a_start() -> None:
    mine = identity.start_ticks(os.getpid())
    assert mine is not None
    assert mine == identity.start_ticks(os.getpid())
    assert mine > 0


def test_no_such_process() -> None:
    assert identity.start_ticks(2**22 + 1) is None


@pytest.mark.parametrize(
    ("stat", "start"),
    [
        ("7 (a) b ) S 1 " + " ".join(str(n) for n in range(5, 25)), 22),
        ("7 ((((x) R 1 " + " ".join(str(n) for n in range(5, 25)), 22),
        ("7 (gone) Z 1 " + " ".join(str(n) for n in range(5, 25)), None),
        ("7 (gone) X 1 " + " ".join(str(n) for n in range(5, 25)), None),
    ],
    ids=["a name with spaces", "a name with brackets", "a zombie", "dead"],
)
def test_fields_of_stat(monkeypatch: pytest.MonkeyPatch, stat: str, start: int | None) -> None:
    monkeypatch.setattr(Path, "read_text", lambda self, **kwargs: stat)
    assert identity.start_ticks(7) == start


def test_boot_and_namespace_are_what_the_kernel_says() -> None:
    assert len(identity.boot_id()) == 36
    assert identity.pid_namespace().startswith("pid:[")
