"""Restoring over what is there: recorded paths come out exactly, everything else stays."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from fsnap.snapshots.errors import RestoreTargetFailed
from fsnap.snapshots.fetch import RestoreReport
from tests.unit.snapshots.lab import Lab, contents, fill, look, tree


@pytest.fixture
def kinds(lab: Lab, source: Path) -> Lab:
    """A snapshot with one path of each kind."""
    fill(source, {"file": b"content", "dir/inner": b"1", "dir/deep/x": b"2"})
    os.symlink("file", source / "link")
    os.mkfifo(source / "fifo")
    os.link(source / "file", source / "hard")
    lab.capture("s1", tree(source))
    return lab


def make(path: Path, kind: str) -> None:
    if kind == "file":
        path.write_bytes(b"other, and longer than before")
    elif kind == "dir":
        path.mkdir()
    elif kind == "link":
        os.symlink("/nowhere/else", path)
    elif kind == "fifo":
        os.mkfifo(path)


@pytest.mark.parametrize("there", ["file", "dir", "link", "fifo"])
def test_any_kind_is_replaced_by_any_kind(kinds: Lab, source: Path, dest: Path, there: str) -> None:
    for name in ("file", "dir", "link", "fifo", "hard"):
        make(dest / name, there)
    report = kinds.open("s1").restore_tree("state-0", dest)
    assert look(dest) == look(source)
    assert report == RestoreReport(displaced=())


def test_twice_is_the_same_as_once(kinds: Lab, source: Path, dest: Path) -> None:
    for _ in range(2):
        kinds.open("s1").restore_tree("state-0", dest)
    assert look(dest) == look(source)


def test_a_hard_link_to_elsewhere_is_not_written_through(kinds: Lab, tmp_path: Path, dest: Path) -> None:
    (tmp_path / "precious").write_bytes(b"keep me")
    os.link(tmp_path / "precious", dest / "file")
    kinds.open("s1").restore_tree("state-0", dest)
    assert (tmp_path / "precious").read_bytes() == b"keep me"
    assert (dest / "file").read_bytes() == b"content"


def test_a_link_in_place_of_a_directory_is_not_followed(kinds: Lab, tmp_path: Path, dest: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    os.symlink(outside, dest / "dir")
    kinds.open("s1").restore_tree("state-0", dest)
    assert list(outside.iterdir()) == []
    assert not (dest / "dir").is_symlink()


def test_unknown_files_stay(kinds: Lab, dest: Path) -> None:
    fill(dest, {".command.log": b"outer", "dir/unknown": b"1", "other/x": b"2"})
    kinds.open("s1").restore_tree("state-0", dest)
    assert {".command.log", "dir/unknown", "other/x"} <= contents(dest).keys()


def test_unknown_files_where_the_snapshot_has_no_directory_are_moved_aside(kinds: Lab, dest: Path) -> None:
    fill(dest, {"file/unknown": b"1", "dir/inner/unknown": b"2"})
    report = kinds.open("s1").restore_tree("state-0", dest)
    assert (dest / "file").read_bytes() == b"content"
    assert sorted((dest / path / "unknown").read_bytes() for path in report.displaced) == [b"1", b"2"]


def test_recorded_paths_of_a_later_state_go(kinds: Lab, source: Path, dest: Path) -> None:
    shutil.copytree(source, dest, symlinks=True, dirs_exist_ok=True, copy_function=_copy)
    fill(dest, {"late": b"1", "latedir/a/b": b"2", "mixed/recorded": b"3", "mixed/unknown": b"4"})
    later = ["late", "latedir", "latedir/a", "latedir/a/b", "mixed", "mixed/recorded", "file", "absent/x"]
    kinds.open("s1").restore_tree("state-0", dest, remove_recorded=later)
    assert not (dest / "late").exists()
    assert not (dest / "latedir").exists()
    assert (dest / "file").read_bytes() == b"content"
    assert os.listdir(dest / "mixed") == ["unknown"]


def _copy(source: str, dest: str, *, follow_symlinks: bool = True) -> None:
    if os.path.isfile(source):
        shutil.copy2(source, dest, follow_symlinks=follow_symlinks)


@pytest.mark.parametrize("path", ["../outside", "/outside", "link/outside", "dir/../../outside", "."])
def test_removal_never_leaves_the_directory(kinds: Lab, tmp_path: Path, dest: Path, path: str) -> None:
    (tmp_path / "outside").write_bytes(b"keep me")
    os.symlink(tmp_path, dest / "link")
    kinds.open("s1").restore_tree("state-0", dest, remove_recorded=[path])
    assert (tmp_path / "outside").read_bytes() == b"keep me"


def test_a_directory_that_is_not_there_is_named(kinds: Lab, tmp_path: Path) -> None:
    with pytest.raises(RestoreTargetFailed, match="nowhere"):
        kinds.open("s1").restore_tree("state-0", tmp_path / "nowhere")
