"""Warm passes: what they put is not put again, and nothing else changes."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from fsnap.clock import SystemClock
from fsnap.snapshots.errors import Interrupted
from fsnap.snapshots.known import KnownChunks
from fsnap.snapshots.pageindex import PageIndex
from fsnap.snapshots.reading import bytes_reader
from fsnap.snapshots.warm import FilesRead, WarmPass, WarmStats
from tests.unit.snapshots.lab import PREFIX, Lab, fill, look, tree

MIB = 1 << 20
PAGE = 4096


class FakeClock(SystemClock):
    """Real time, but for the rests, which are added up."""

    slept_s = 0.0
    later_s = 0.0

    def wall(self) -> datetime:
        return super().wall() + timedelta(seconds=self.later_s)

    def sleep(self, seconds: float) -> None:
        self.slept_s += seconds


def warm_pass(
    lab: Lab, *, clock: FakeClock | None = None, share: float = 1.0, ok: Callable[[], bool] = lambda: True
) -> WarmPass:
    return WarmPass(
        store=lab.store,
        prefix=PREFIX,
        known=lab.known,
        clock=clock or FakeClock(),
        share=share,
        may_go_on=ok,
    )


def run(
    lab: Lab,
    memory: bytes = b"",
    files: Path | None = None,
    done: FilesRead | None = None,
    later_s: float = 0.0,
) -> WarmStats:
    clock = FakeClock()
    clock.later_s = later_s
    with warm_pass(lab, clock=clock) as warm:
        if memory:
            warm.pages(bytes_reader(memory))
        if files is not None:
            warm.tree(tree(files), {} if done is None else done)
        return warm.finish()


def test_what_a_pass_met_is_not_put_again(lab: Lab, source: Path, dest: Path) -> None:
    memory = random.Random(1).randbytes(9 * MIB)
    stats = run(lab, memory)
    assert stats.read_bytes == stats.pages_bytes == stats.new_bytes == 9 * MIB
    assert stats.put_bytes > 9 * MIB
    fill(source, {"pages-1.img": memory})
    sealed = lab.capture("s1", tree(source, page_structured=True))
    assert sealed.stored_bytes < 10_000
    assert sealed.new_bytes == 9 * MIB  # no snapshot had it before
    lab.open("s1").restore_tree("state-0", dest)
    assert look(dest) == look(source)


def test_a_second_pass_puts_what_changed(lab: Lab) -> None:
    memory = bytearray(random.Random(2).randbytes(9 * MIB))
    run(lab, bytes(memory))
    memory[3 * MIB : 4 * MIB] = random.Random(3).randbytes(MIB)
    stats = run(lab, bytes(memory))
    assert MIB <= stats.new_bytes < 2.5 * MIB
    assert stats.read_bytes == 9 * MIB


def test_a_snapshot_builds_deltas_on_a_pass(lab: Lab, source: Path, dest: Path) -> None:
    lab.known = KnownChunks(pages=PageIndex())
    memory = bytearray(random.Random(4).randbytes(8 * MIB))
    run(lab, bytes(memory))
    for number in random.Random(5).sample(range(2048), 60):
        memory[number * PAGE : (number + 1) * PAGE] = random.Random(number).randbytes(PAGE)
    fill(source, {"pages-1.img": bytes(memory)})
    sealed = lab.capture("s1", tree(source, page_structured=True))
    assert sealed.stored_bytes < 3 * 60 * PAGE
    lab.open("s1").restore_tree("state-0", dest)
    assert look(dest) == look(source)


def test_files_are_read_again_once_they_changed(lab: Lab, source: Path) -> None:
    done: FilesRead = {}
    large = random.Random(6).randbytes(3 * MIB)
    fill(source, {"large": large, "small": b"x" * 1000})
    assert run(lab, files=source, done=done, later_s=10).read_bytes == 3 * MIB
    assert run(lab, files=source, done=done, later_s=10).read_bytes == 0
    fill(source, {"large": large + b"more"})
    assert run(lab, files=source, done=done).new_bytes < MIB
    sealed = lab.capture("s1", tree(source))
    assert sealed.stored_bytes < 10_000


def test_a_file_touched_just_now_or_mapped_is_read_again(lab: Lab, source: Path) -> None:
    """Its times need not tell of the next write."""
    done: FilesRead = {}
    fill(source, {"large": random.Random(7).randbytes(2 * MIB)})
    run(lab, files=source, done=done)
    assert run(lab, files=source, done=done).read_bytes == 2 * MIB


def test_a_pass_that_may_not_go_on_ends_and_leaves_nothing_broken(lab: Lab, source: Path) -> None:
    asked = 0

    def twice() -> bool:
        nonlocal asked
        asked += 1
        return asked <= 2

    memory = random.Random(8).randbytes(40 * MIB)
    with pytest.raises(Interrupted), warm_pass(lab, ok=twice) as warm:
        warm.pages(bytes_reader(memory))
        warm.finish()
    fill(source, {"pages-1.img": memory})
    lab.capture("s1", tree(source, page_structured=True))
    assert lab.open("s1").verify().ok


def test_the_rests_are_the_rest_of_the_time() -> None:
    lab, clock = Lab(), FakeClock()
    with warm_pass(lab, clock=clock, share=0.1) as warm:
        warm.pages(bytes_reader(random.Random(9).randbytes(48 * MIB)))
        stats = warm.finish()
    assert clock.slept_s == pytest.approx(9 * stats.busy_s, rel=0.5)


def test_another_key_than_the_known_chunks_is_refused(lab: Lab) -> None:
    lab.known = KnownChunks(key_id="k1")
    with pytest.raises(ValueError, match="key"):
        warm_pass(lab)
