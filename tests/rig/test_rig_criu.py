"""CRIU works in a node: a process that is dumped on one goes on on the next, after the first is gone."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from tools.rig import Node, Rig

pytestmark = pytest.mark.criu

COUNT = """
import sys, time
for number in range(1_000_000):
    print(number, flush=True)
    if number == 200:
        break
    time.sleep(0.01)
"""
OPTIONS = ["-v4", "--manage-cgroups=ignore", "--network-lock", "skip"]


def start(node: Node, out: Path) -> int:
    """Start the counter in *node* under a high PID; returns it."""
    script = (
        "echo 1000 > /proc/sys/kernel/ns_last_pid; "
        f"setsid {sys.executable} -I -c '{COUNT}' </dev/null >{out} 2>&1 & echo $!"
    )
    return int(node.exec(["sh", "-c", script], cwd="/").stdout)


def wait_for_line(path: Path, line: str) -> None:
    limit = time.monotonic() + 30
    while line not in path.read_text().splitlines():
        assert time.monotonic() < limit, path.read_text()[-200:]
        time.sleep(0.01)


@pytest.mark.parametrize("offset_s", [0.0, 1_000_000.0])
def test_a_process_moves_from_node_to_node(
    rig: Rig, tmp_path: Path, criu_binary: str, offset_s: float
) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    first = rig.node("first", monotonic_offset_s=offset_s)
    pid = start(first, out)
    wait_for_line(out, "20")
    first.exec([criu_binary, "dump", "-t", str(pid), "-D", images, "-o", "dump.log", *OPTIONS])
    first.destroy()
    lines = len(out.read_text().splitlines())
    assert lines < 200
    second = rig.node("second", monotonic_offset_s=offset_s)
    second.exec([criu_binary, "restore", "-d", "-D", images, "-o", "restore.log", *OPTIONS], cwd="/")
    wait_for_line(out, "200")
    assert out.read_text().splitlines() == [str(number) for number in range(201)]


def test_criu_check_passes_in_a_node(rig: Rig, criu_binary: str) -> None:
    assert rig.node("a").exec([criu_binary, "check"]).returncode == 0
