"""Durable files: what is there after each step, and what was synced before it is relied on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fsnap.durable import make_directory, sync_directory, write_atomic


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were synced or renamed, in order."""
    seen: list[str] = []
    fsync, replace = os.fsync, os.replace

    def record_fsync(fd: int) -> None:
        name = os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))
        seen.append("sync temporary" if name.startswith(".file.") else f"sync {name}")
        fsync(fd)

    def record_replace(source: str, target: Path) -> None:
        seen.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_replace)
    return seen


def test_content_is_synced_before_the_name_and_the_name_before_the_return(
    tmp_path: Path, calls: list[str]
) -> None:
    file = tmp_path / "file"
    file.write_text("old")
    write_atomic(file, b"new", mode=0o640)
    assert file.read_bytes() == b"new"
    assert file.stat().st_mode & 0o777 == 0o640
    assert calls == ["sync temporary", "rename", f"sync {tmp_path.name}"]
    assert os.listdir(tmp_path) == ["file"]


def test_a_write_that_fails_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_text("old")

    def refuse(*_: object) -> None:
        raise OSError("no")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="no"):
        write_atomic(file, b"new")
    monkeypatch.undo()
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="no"):
        write_atomic(file, b"new")
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_directories_are_made_from_the_top_and_each_is_synced(tmp_path: Path, calls: list[str]) -> None:
    make_directory(tmp_path / "a" / "b")
    assert calls == [f"sync {tmp_path.name}", "sync a"]
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700
    (tmp_path / "a").chmod(0o755)
    make_directory(tmp_path / "a")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o755


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_directory(tmp_path / "file")
    with pytest.raises(NotADirectoryError):
        sync_directory(tmp_path / "file")
