"""How long a tree was frozen, out of ``stats-dump``."""

from __future__ import annotations

from pathlib import Path

import pytest

from fsnap.criu.protobuf import varint
from fsnap.criu.stats import frozen_ms


def entry(frozen_us: int, *, before: bytes = b"", outer_before: bytes = b"") -> bytes:
    inner = (
        varint(1 << 3) + varint(11) + before + varint(2 << 3) + varint(frozen_us) + varint(3 << 3) + varint(7)
    )
    return b"\0" * 12 + outer_before + varint(1 << 3 | 2) + varint(len(inner)) + inner


@pytest.mark.parametrize("frozen_us", [0, 999, 1000, 127_000, 128_000, 16_384_000, 4_000_000_000])
def test_microseconds_become_milliseconds(tmp_path: Path, frozen_us: int) -> None:
    (tmp_path / "stats-dump").write_bytes(entry(frozen_us))
    assert frozen_ms(tmp_path) == frozen_us // 1000


def test_other_fields_are_passed_over(tmp_path: Path) -> None:
    text = varint(9 << 3 | 2) + varint(3) + b"abc"
    (tmp_path / "stats-dump").write_bytes(entry(5000, before=text, outer_before=text))
    assert frozen_ms(tmp_path) == 5


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 12,
        entry(5_000_000)[:-6],
        b"\0" * 12 + b"\x0a\xff",
        b"\0" * 12 + varint(1 << 3) + varint(5),
        b"\0" * 12 + varint(1 << 3 | 5) + b"abcd",
    ],
    ids=["empty", "header", "cut", "cut length", "a number", "a kind that is not there"],
)
def test_a_file_that_says_nothing(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "stats-dump").write_bytes(data)
    assert frozen_ms(tmp_path) is None


def test_no_file(tmp_path: Path) -> None:
    assert frozen_ms(tmp_path) is None
