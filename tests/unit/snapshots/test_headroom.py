"""What a container has left, from files as the kernel writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from fsnap.snapshots.headroom import fitting_width, headroom_bytes, memory_bytes

MIB = 1 << 20


def cgroup(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / f"memory.{name}").write_text(f"{content}\n")


def left(tmp_path: Path, lines: str) -> int | None:
    own = tmp_path / "cgroup"
    own.write_text(lines)
    return headroom_bytes(own, tmp_path / "fs")


def test_v2_and_its_page_cache(tmp_path: Path) -> None:
    stat = f"anon 1\ninactive_file {20 * MIB}\nactive_file {10 * MIB}"
    cgroup(tmp_path / "fs" / "job", max=500 * MIB, current=300 * MIB, stat=stat)
    assert left(tmp_path, "0::/job\n") == 230 * MIB


def test_the_tightest_above_counts(tmp_path: Path) -> None:
    cgroup(tmp_path / "fs" / "a" / "b", max="max", current=90 * MIB, stat="")
    cgroup(tmp_path / "fs" / "a", max=100 * MIB, current=90 * MIB, stat="")
    cgroup(tmp_path / "fs", max=900 * MIB, current=90 * MIB, stat="")
    assert left(tmp_path, "0::/a/b\n") == 10 * MIB


def test_v1_beside_v2(tmp_path: Path) -> None:
    stat = f"total_inactive_file {MIB}\ntotal_active_file 0"
    folder = tmp_path / "fs" / "memory" / "docker" / "x"
    cgroup(folder, limit_in_bytes=64 * MIB, usage_in_bytes=60 * MIB, stat=stat)
    assert left(tmp_path, "5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n0::/\n") == 5 * MIB


def test_a_container_sees_its_own_as_the_root(tmp_path: Path) -> None:
    cgroup(tmp_path / "fs", max=64 * MIB, current=60 * MIB, stat="")
    assert left(tmp_path, "0::/kubepods/pod/x\n") == 4 * MIB


@pytest.mark.parametrize("limit", ["max", "9223372036854771712", "", "many"])
def test_no_limit(tmp_path: Path, limit: str) -> None:
    cgroup(tmp_path / "fs" / "memory", limit_in_bytes=limit, usage_in_bytes=1, stat="")
    cgroup(tmp_path / "fs", max=limit, current=1, stat="")
    assert left(tmp_path, "4:memory:/\n0::/\n") is None
    assert headroom_bytes(tmp_path / "none", tmp_path) is None


def test_more_used_than_allowed_is_nothing_left(tmp_path: Path) -> None:
    cgroup(tmp_path / "fs", max=10, current=20, stat="")
    assert left(tmp_path, "0::/\n") == 0


@pytest.mark.parametrize(
    ("processors", "left_bytes", "expected"),
    [
        (1, None, (1, 2)),
        (2, None, (2, 4)),
        (64, None, (6, 12)),
        (64, 1 << 40, (6, 12)),
        (64, 700 * MIB, (3, 6)),
        (2, 300 * MIB, (2, 4)),
        (2, 200 * MIB, (1, 2)),
        (2, 100 * MIB, (1, 1)),
        (2, 0, (1, 1)),
    ],
)
def test_as_wide_as_processors_and_memory_allow(
    processors: int, left_bytes: int | None, expected: tuple[int, int]
) -> None:
    found = fitting_width(processors, left_bytes)
    assert (found.threads, found.connections) == expected


def test_the_widest_stays_below_what_is_promised() -> None:
    assert memory_bytes(fitting_width(1000, None)) < 400 * MIB
