"""Which trees lose processes to init when CRIU restores them."""

from __future__ import annotations

from pathlib import Path

import pytest

from fsnap.criu.protobuf import varint
from fsnap.criu.pstree import has_strays

MAGICS = (0x54564319).to_bytes(4, "little") + (0x50273030).to_bytes(4, "little")


def image(*processes: tuple[int, int, int]) -> bytes:
    """PID, parent and session of each."""
    entries = [
        b"".join(
            varint(number << 3) + varint(value)
            for number, value in ((1, pid), (2, parent), (3, session), (4, session), (5, pid), (5, pid + 1))
        )
        for pid, parent, session in processes
    ]
    return MAGICS + b"".join(len(entry).to_bytes(4, "little") + entry for entry in entries)


ROOT = (1001, 0, 1001)


@pytest.mark.parametrize(
    ("processes", "strays"),
    [
        ([ROOT], False),
        ([ROOT, (1002, 1001, 1001)], False),
        ([ROOT, (1002, 1001, 1002), (1003, 1002, 1002)], False),
        ([ROOT, (70000, 1001, 69999)], True),
        ([ROOT, (1002, 1001, 1002), (1003, 1001, 1002)], True),
        ([(1002, 1001, 1002), (1003, 1001, 1002), ROOT], True),
        ([ROOT, (1002, 1001, 1001), (1003, 1002, 999)], False),
    ],
    ids=[
        *("alone", "child", "session", "session without leader", "session of another", "any order"),
        "not the root's child",
    ],
)
def test_children_of_the_root_in_the_session_of_another(
    processes: list[tuple[int, int, int]], strays: bool, tmp_path: Path
) -> None:
    (tmp_path / "pstree.img").write_bytes(image(*processes))
    assert has_strays(tmp_path) is strays


@pytest.mark.parametrize(
    "data", [b"", MAGICS, MAGICS + b"\xff\xff", image(ROOT)[:-1], MAGICS + b"\1\0\0\0\x0d"]
)
def test_an_image_that_says_nothing(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "pstree.img").write_bytes(data)
    assert not has_strays(tmp_path)


def test_no_image(tmp_path: Path) -> None:
    assert not has_strays(tmp_path)
