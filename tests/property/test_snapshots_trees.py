"""Any tree comes back as it was, over any tree, in any order of snapshots."""

from __future__ import annotations

import os
import random
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fsnap.snapshots.freeze import stage_tree
from tests.unit.snapshots.lab import Lab, look, tree

NAMES = st.sampled_from(
    [b"a", b"b", b"c", b"new\nline", b"\xff\x80", b"-x", b" ", b"snap.img", b"pages-1.img"]
)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(b"/".join)
STAMPS = st.integers(-(10**18), 4 * 10**18)
FILES = st.fixed_dictionaries(
    {
        "kind": st.just("file"),
        "parts": st.lists(
            st.tuples(
                st.sampled_from(["noise", "zeros", "same", "hole"]),
                st.sampled_from([0, 1, 100, 4095, 4096, 8192, 70_000, 1_100_000]),
                st.integers(0, 3),
            ),
            max_size=3,
        ),
        "xattr": st.one_of(st.none(), st.binary(max_size=40)),
    }
)
OTHERS = st.one_of(
    st.fixed_dictionaries(
        {"kind": st.just("link"), "target": st.sampled_from([b"a", b"../b", b"/nowhere/else", b"\xfe"])}
    ),
    st.fixed_dictionaries({"kind": st.sampled_from(["dir", "fifo", "socket"])}),
    st.fixed_dictionaries({"kind": st.just("hard"), "of": PATHS}),
)
NODES = st.tuples(st.one_of(FILES, OTHERS), st.integers(0, 0o777), STAMPS)
TREES = st.dictionaries(PATHS, NODES, max_size=8)


def grow(root: Path, nodes: dict[bytes, Any]) -> None:
    """Make the tree; nodes whose place is taken by another kind of thing are left out.

    A node below a symbolic link is left out too: nothing is ever made outside *root*.
    """
    top = os.fsencode(root)
    for path, (what, _, _) in nodes.items():
        if stays_below(top, path) and stays_below(top, what.get("of", b"")):
            try:
                os.makedirs(os.path.dirname(os.path.join(top, path)), exist_ok=True)
                make(os.path.join(top, path), what, top)
            except (FileExistsError, FileNotFoundError, NotADirectoryError, PermissionError):
                continue
    for path, (_, mode, stamp) in sorted(nodes.items(), reverse=True):
        full = os.path.join(top, path)
        if not stays_below(top, path) or not os.path.lexists(full):
            continue
        state = os.lstat(full)
        if not stat.S_ISLNK(state.st_mode):
            os.chmod(full, mode | (0o700 if stat.S_ISDIR(state.st_mode) else 0o400))
        os.utime(full, ns=(1, stamp), follow_symlinks=False)


def stays_below(top: bytes, path: bytes) -> bool:
    """Whether no directory of *path* is a symbolic link."""
    parts = path.split(b"/")
    return not any(os.path.islink(os.path.join(top, *parts[:depth])) for depth in range(1, len(parts)))


def make(full: bytes, what: dict[str, Any], top: bytes) -> None:
    if what["kind"] == "dir":
        os.mkdir(full)
    elif what["kind"] == "fifo":
        os.mkfifo(full)
    elif what["kind"] == "socket":
        os.mknod(full, stat.S_IFSOCK | 0o600)
    elif what["kind"] == "link":
        os.symlink(what["target"], full)
    elif what["kind"] == "hard":
        os.link(os.path.join(top, what["of"]), full, follow_symlinks=False)
    else:
        with open(full, "xb") as file:
            for kind, length, seed in what["parts"]:
                if kind == "hole":
                    file.seek(length, os.SEEK_CUR)
                elif kind == "noise":
                    file.write(random.Random(seed).randbytes(length))
                else:
                    file.write(bytes([0 if kind == "zeros" else seed + 65]) * length)
            file.truncate()
        if what["xattr"] is not None:
            os.setxattr(full, "user.x", what["xattr"])


def fresh(top: str, name: str) -> Path:
    path = Path(top, name)
    path.mkdir()
    return path


@settings(max_examples=60)
@given(nodes=TREES, page_structured=st.booleans())
def test_a_tree_comes_back(nodes: dict[bytes, Any], page_structured: bool) -> None:
    with tempfile.TemporaryDirectory() as top:
        source, dest = fresh(top, "source"), fresh(top, "dest")
        grow(source, nodes)
        lab = Lab()
        lab.capture("s1", tree(source, page_structured=page_structured))
        before = look(source, holes=not page_structured)
        assert lab.open("s1").verify().ok
        lab.open("s1").restore_tree("state-0", dest)
        assert look(dest, holes=not page_structured) == before


@settings(max_examples=60)
@given(first=TREES, second=TREES, staged=st.booleans())
def test_going_back_and_forth_between_two_snapshots(
    first: dict[bytes, Any], second: dict[bytes, Any], staged: bool
) -> None:
    with tempfile.TemporaryDirectory() as top:
        dest, staging = fresh(top, "dest"), fresh(top, "staging")
        lab = Lab()
        views = {}
        for name, nodes in (("s1", first), ("s2", second)):
            source = fresh(top, name)
            grow(source, nodes)
            lab.capture(name, stage_tree(tree(source), staging) if staged else tree(source))
            views[name] = look(source)
        there: frozenset[str] = frozenset()
        for name in ("s1", "s2", "s1"):
            snapshot = lab.open(name)
            snapshot.restore_tree("state-0", dest, remove_recorded=there)
            there = snapshot.recorded_paths("state-0")
            assert look(dest) == views[name]


@settings(max_examples=40)
@given(first=TREES, changes=TREES, gone=st.lists(PATHS, max_size=3))
def test_reuse_gives_what_a_full_read_gives(
    first: dict[bytes, Any], changes: dict[bytes, Any], gone: list[bytes]
) -> None:
    with tempfile.TemporaryDirectory() as top:
        source, dest, staging = fresh(top, "source"), fresh(top, "dest"), fresh(top, "staging")
        grow(source, first)
        lab = Lab()
        seen = lab.capture("s1", tree(source)).seen["state-0"]
        for path in gone:
            full = os.path.join(os.fsencode(source), path)
            if not stays_below(os.fsencode(source), path):
                continue
            if os.path.isdir(full) and not os.path.islink(full):
                shutil.rmtree(full)
            elif os.path.lexists(full):
                os.unlink(full)
        grow(source, changes)
        before = look(source)
        lab.capture("s2", stage_tree(tree(source), staging, seen))
        lab.open("s2").restore_tree("state-0", dest)
        assert look(dest) == before
