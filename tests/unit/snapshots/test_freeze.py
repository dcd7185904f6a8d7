"""Staging inside a freeze, and not reading again what has not changed."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fsnap.clock import Clock, SystemClock
from fsnap.snapshots.capture import Capture
from fsnap.snapshots.errors import CaptureFailed, UnreadableFile
from fsnap.snapshots.freeze import stage_tree
from fsnap.snapshots.known import KnownChunks
from fsnap.snapshots.records import record_tree
from fsnap.snapshots.seen import Seen
from tests.unit.snapshots.lab import PREFIX, Lab, about, contents, fill, look, tree

MIB = 1 << 20


class LaterClock(SystemClock):
    """A minute ahead, so that no file counts as touched just now."""

    def wall(self) -> datetime:
        return datetime.now(UTC) + timedelta(minutes=1)


LATER = LaterClock()


@pytest.fixture
def staging(tmp_path: Path) -> Path:
    path = tmp_path / "staging"
    path.mkdir()
    return path


def base_files() -> dict[str, bytes]:
    rng = random.Random(19)
    files = {f"small/{n}": rng.randbytes(rng.randrange(2000)) for n in range(50)}
    return {**files, "big": rng.randbytes(4 * MIB), "log": b"line\n" * 400_000}


def first_capture(lab: Lab, source: Path, clock: Clock = LATER) -> Seen:
    fill(source, base_files())
    return capture_at(lab, "s0", source, clock)


def capture_at(lab: Lab, snapshot_id: str, source: Path, clock: Clock) -> Seen:
    sealed = lab.capture(snapshot_id, record_tree(tree(source), clock))
    return sealed.seen["state-0"]


def test_what_was_staged_is_what_was_frozen(lab: Lab, source: Path, dest: Path, staging: Path) -> None:
    fill(source, base_files())
    with open(source / "sparse", "wb") as file:
        file.seek(8 * MIB)
        file.write(b"end")
    os.link(source / "big", source / "second")
    before = look(source)
    staged = stage_tree(tree(source), staging)
    fill(source, {"big": b"the task runs on", "log": b"", "new": b"1"})
    (source / "small/3").unlink()
    os.chmod(source / "small/4", 0)
    lab.capture("s1", staged)
    lab.open("s1").restore_tree("state-0", dest)
    assert look(dest) == before


def test_only_changed_files_are_staged(lab: Lab, source: Path, dest: Path, staging: Path) -> None:
    seen = first_capture(lab, source)
    fill(source, {"small/7": b"changed", "new": b"x" * 200_000})
    (source / "small/8").unlink()
    before = look(source)
    staged = stage_tree(tree(source), staging, seen)
    assert staged.copied_bytes + staged.cloned_bytes == 7 + 200_000
    lab.capture("s1", staged)
    (stats,) = lab.stats
    assert stats.read_bytes == 7 + 200_000
    lab.open("s1").restore_tree("state-0", dest)
    assert look(dest) == before


def test_many_generations_of_reuse(lab: Lab, source: Path, tmp_path: Path) -> None:
    seen = first_capture(lab, source)
    rng = random.Random(20)
    for number in range(1, 6):
        for path in rng.sample(sorted(base_files()), 5):
            fill(source, {path: rng.randbytes(rng.randrange(1, 300_000))})
        staging, dest = tmp_path / f"staging{number}", tmp_path / f"dest{number}"
        staging.mkdir()
        dest.mkdir()
        staged = stage_tree(tree(source), staging, seen, clock=LATER)
        seen = lab.capture(f"s{number}", staged).seen["state-0"]
        lab.open(f"s{number}").restore_tree("state-0", dest)
        assert contents(dest) == contents(source)


def test_a_final_capture_reuses_too(lab: Lab, source: Path, dest: Path) -> None:
    seen = first_capture(lab, source)
    fill(source, {"small/1": b"changed"})
    lab.capture("s1", tree(source, unchanged=seen))
    assert lab.stats[0].read_bytes == 7
    lab.open("s1").restore_tree("state-0", dest)
    assert look(dest) == look(source)


def test_a_file_touched_just_before_is_read_again(lab: Lab, source: Path) -> None:
    """Its stamp might not tell a write that follows within the same tick."""
    seen = first_capture(lab, source, SystemClock())
    lab.capture("s1", tree(source, unchanged=seen))
    assert lab.stats[0].reused_bytes == 0


def test_a_mapped_file_is_read_again_this_time_and_next(lab: Lab, source: Path) -> None:
    seen = first_capture(lab, source)
    mapped = tree(source, unchanged=seen, reread=frozenset({"big"}))
    sealed = lab.capture("s1", record_tree(mapped, LATER))
    assert lab.stats[0].read_bytes == 4 * MIB
    lab.capture("s2", tree(source, unchanged=sealed.seen["state-0"]))
    assert lab.stats[0].read_bytes == 4 * MIB


def test_of_a_file_that_only_grows_only_the_tail_is_read(
    lab: Lab, source: Path, dest: Path, staging: Path
) -> None:
    seen = first_capture(lab, source, SystemClock())
    with open(source / "big", "ab") as file:
        file.write(b"tail" * 1000)
    before = look(source)
    growing = tree(source, unchanged=seen, append_only=("big",), exclude=("small", "log"))
    staged = stage_tree(growing, staging)
    assert staged.cloned_bytes or 4000 <= staged.copied_bytes <= 4000 + MIB // 2
    lab.capture("s1", staged)
    assert 4000 <= lab.stats[0].read_bytes <= 4000 + MIB // 2
    lab.open("s1").restore_tree("state-0", dest)
    assert contents(dest) == {"big": before["big"]["content"]}


@pytest.mark.parametrize("change", ["shrink", "replace"])
def test_a_broken_promise_to_grow_is_seen(lab: Lab, source: Path, dest: Path, change: str) -> None:
    seen = first_capture(lab, source)
    if change == "shrink":
        os.truncate(source / "big", 1000)
    else:
        (source / "big").rename(source / "aside")
        fill(source, {"big": random.Random(21).randbytes(5 * MIB)})
    lab.capture("s1", tree(source, unchanged=seen, append_only=("big",)))
    lab.open("s1").restore_tree("state-0", dest)
    assert contents(dest) == contents(source)


def test_a_damaged_pack_is_not_referred_to(lab: Lab, source: Path, dest: Path, staging: Path) -> None:
    seen = first_capture(lab, source)
    staged = stage_tree(tree(source), staging, seen)
    for pack in seen.index.pack_rows():
        lab.known.evict_pack(pack.id)
    with pytest.raises(CaptureFailed, match="damaged"):
        lab.capture("s1", staged)
    lab.capture("s2", tree(source, unchanged=seen))
    assert lab.stats[0].reused_bytes == 0
    lab.open("s2").restore_tree("state-0", dest)
    assert contents(dest) == contents(source)


def test_a_lost_copy_is_named(lab: Lab, source: Path, staging: Path) -> None:
    fill(source, {"big": b"x" * MIB})
    staged = stage_tree(tree(source), staging)
    for path in staging.iterdir():
        path.unlink()
    with pytest.raises(UnreadableFile, match="'big'"):
        lab.capture("s1", staged)


def test_a_full_staging_directory_is_named(source: Path, tmp_path: Path) -> None:
    fill(source, {"f": b"1"})
    with pytest.raises(CaptureFailed, match="nowhere"):
        stage_tree(tree(source), tmp_path / "nowhere")


def test_a_seen_tree_of_another_process_is_not_needed(lab: Lab, source: Path, dest: Path) -> None:
    """What a new process lacks costs reading, never content."""
    first_capture(lab, source)
    lab.known = KnownChunks()
    with Capture(store=lab.store, prefix=PREFIX, snapshot_id="s1", known=lab.known) as capture:
        capture.add_tree(replace(tree(source), unchanged=None))
        capture.seal_index()
        lab.published["s1"] = capture.publish(about("s1"))
    lab.open("s1").restore_tree("state-0", dest)
    assert look(dest) == look(source)
