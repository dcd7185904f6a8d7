"""Inputs: recorded, checked, not stored; and what the task removed of them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from fsnap.errors import CorruptData, NewerSchema
from fsnap.snapshots.baseline import Baseline
from fsnap.snapshots.codec import digest
from fsnap.snapshots.fetch import InputProblem
from tests.unit.snapshots.lab import Lab, contents, fill, tree

INPUTS = {"in.fa": b"ACGT" * 500_000, "ref/idx": b"index", "old": b"to be removed", "gone/a/b": b"2"}


@pytest.fixture
def baseline(source: Path) -> Baseline:
    fill(source, INPUTS)
    return Baseline.scan(source, ())


def never() -> bool:
    return False


def run_task(source: Path) -> None:
    """What a task does to its directory."""
    fill(source, {"out": b"result", "ref/new": b"1"})
    (source / "old").unlink()
    shutil.rmtree(source / "gone")


def test_inputs_are_recorded_and_not_stored(lab: Lab, source: Path, dest: Path, baseline: Baseline) -> None:
    run_task(source)
    sealed = lab.capture("s1", tree(source, baseline=baseline))
    (stats,) = lab.stats
    assert (stats.inputs, stats.input_bytes, stats.deleted_inputs) == (2, 2_000_005, 4)
    assert sealed.bytes == len(b"result1")
    lab.open("s1").restore_tree("state-0", dest)
    assert contents(dest) == {"out": b"result", "ref/new": b"1"}
    assert lab.open("s1").recorded_paths("state-0") == {"out", "ref", "ref/new"}


def test_on_request_inputs_are_stored(lab: Lab, source: Path, dest: Path, baseline: Baseline) -> None:
    lab.capture("s1", tree(source, baseline=baseline, include_inputs=True))
    lab.open("s1").restore_tree("state-0", dest)
    assert contents(dest) == INPUTS


def test_a_restore_repeats_the_removals_and_leaves_the_inputs(
    lab: Lab, source: Path, dest: Path, baseline: Baseline
) -> None:
    run_task(source)
    lab.capture("s1", tree(source, baseline=baseline))
    fill(dest, {**INPUTS, "wrapper.log": b"outer"})
    lab.open("s1").restore_tree("state-0", dest)
    assert contents(dest) == {
        "in.fa": INPUTS["in.fa"],
        "ref/idx": b"index",
        "ref/new": b"1",
        "out": b"result",
        "wrapper.log": b"outer",
    }
    assert not (dest / "gone").exists()


@pytest.mark.parametrize("change", ["append", "overwrite", "replace", "chmod", "touch"])
def test_a_changed_input_is_stored(
    lab: Lab, source: Path, dest: Path, baseline: Baseline, change: str
) -> None:
    path = source / "ref/idx"
    if change == "append":
        path.write_bytes(b"index and more")
    elif change == "overwrite":
        with open(path, "r+b") as file:
            file.write(b"INDEX")
    elif change == "replace":
        (source / "new").write_bytes(b"index")
        os.rename(source / "new", path)
    elif change == "chmod":
        path.chmod(0o600)
    else:
        os.utime(path, ns=(1, 1))
    lab.capture("s1", tree(source, baseline=baseline))
    lab.open("s1").restore_tree("state-0", dest)
    assert contents(dest) == {"ref/idx": path.read_bytes()}


def test_a_write_right_after_the_scan_always_shows(source: Path) -> None:
    for number in range(50):
        path = source / f"f{number}"
        path.write_bytes(b"before")
        baseline = Baseline.scan(source, ())
        with open(path, "r+b") as file:
            file.write(b"behind")
        assert not baseline.is_input(path.name, os.stat(path))


@pytest.mark.parametrize("hashed_before", [True, False])
def test_inputs_are_checked(
    lab: Lab, source: Path, dest: Path, baseline: Baseline, hashed_before: bool
) -> None:
    if hashed_before:
        baseline.hash_all(source, never)
        assert baseline.unhashed_bytes() == 0
    lab.capture("s1", tree(source, baseline=baseline))
    snapshot = lab.open("s1")
    assert snapshot.check_inputs("state-0", source) == []
    fill(dest, {"in.fa": b"ACGA" * 500_000, "ref/idx": b"inde"})
    (dest / "old").mkdir()
    assert snapshot.check_inputs("state-0", dest) == [
        InputProblem(path="gone/a/b", problem="missing"),
        InputProblem(path="in.fa", problem="digest"),
        InputProblem(path="old", problem="missing"),
        InputProblem(path="ref/idx", problem="size"),
    ]


def test_a_link_is_no_input(lab: Lab, source: Path, dest: Path, baseline: Baseline) -> None:
    lab.capture("s1", tree(source, baseline=baseline))
    fill(dest, {"elsewhere": INPUTS["in.fa"]})
    os.symlink("elsewhere", dest / "in.fa")
    problems = lab.open("s1").check_inputs("state-0", dest)
    assert InputProblem(path="in.fa", problem="missing") in problems


def test_links_and_fifos_that_were_there_are_left_as_they_are(lab: Lab, source: Path, dest: Path) -> None:
    os.symlink("/old/stage/in.bam", source / "in.bam")
    os.mkfifo(source / "log.pipe")
    os.symlink("a", source / "moved")
    baseline = Baseline.scan(source, ())
    os.unlink(source / "moved")
    os.symlink("b", source / "moved")
    lab.capture("s1", tree(source, baseline=baseline))
    os.symlink("/new/stage/in.bam", dest / "in.bam")
    snapshot = lab.open("s1")
    assert snapshot.check_inputs("state-0", dest) == [InputProblem(path="log.pipe", problem="missing")]
    snapshot.restore_tree("state-0", dest)
    assert os.readlink(dest / "in.bam") == "/new/stage/in.bam"
    assert os.readlink(dest / "moved") == "b"
    assert snapshot.recorded_paths("state-0") == {"moved"}
    assert snapshot.check_inputs("state-0", source) == []


def test_hashing_stops_when_told(source: Path, baseline: Baseline) -> None:
    baseline.hash_all(source, lambda: True)
    assert baseline.unhashed_bytes() == sum(len(data) for data in INPUTS.values())


def test_hashing_passes_over_what_has_changed(source: Path, baseline: Baseline) -> None:
    (source / "old").write_bytes(b"changed")
    (source / "ref/idx").unlink()
    baseline.hash_all(source, never)
    assert baseline.unhashed_bytes() == len(INPUTS["old"]) + len(INPUTS["ref/idx"])
    entry = baseline.get("in.fa")
    assert entry is not None
    assert entry.digest == digest(INPUTS["in.fa"])


def test_bytes_and_back(source: Path, baseline: Baseline) -> None:
    odd = os.path.join(os.fsencode(source), b"\xff\n")
    with open(odd, "wb"):
        pass
    baseline = Baseline.scan(source, ())
    baseline.hash_all(source, never)
    again = Baseline.from_bytes(baseline.to_bytes())
    assert again.paths() == baseline.paths()
    assert {p: again.get(p) for p in again.paths()} == {p: baseline.get(p) for p in baseline.paths()}


def test_damaged_bytes(baseline: Baseline) -> None:
    import zstandard

    good = baseline.to_bytes()
    for data in (b"", b"x", good[:-1], good[: len(good) // 2], good + b"x"):
        with pytest.raises(CorruptData):
            Baseline.from_bytes(data)
    for text in (
        b"{}",
        b"[]",
        b'{"schema":1,"rows":[["p",1]]}',
        b'{"schema":1,"rows":[[1,2,3,4,5,6,7,null]]}',
    ):
        with pytest.raises(CorruptData):
            Baseline.from_bytes(zstandard.compress(text))
    with pytest.raises(NewerSchema):
        Baseline.from_bytes(zstandard.compress(b'{"schema":2,"rows":[]}'))


def test_excluded_and_unseen_paths_do_not_count_as_removed(
    lab: Lab, source: Path, baseline: Baseline
) -> None:
    lab.capture("s1", tree(source, baseline=baseline, exclude=("gone", "*.fa")))
    (stats,) = lab.stats
    assert stats.deleted_inputs == 0


def test_an_attempt_that_goes_on_elsewhere_knows_its_inputs(
    lab: Lab, source: Path, dest: Path, baseline: Baseline
) -> None:
    run_task(source)
    lab.capture("s1", tree(source, baseline=baseline))
    fill(dest, {**INPUTS, "wrapper.log": b"outer"})
    first = lab.open("s1")
    first.restore_tree("state-0", dest)
    assert first.check_inputs("state-0", dest) == []
    rebased = first.rebase_baseline("state-0", dest, ())
    assert rebased.unhashed_bytes() == len(b"outer")
    fill(dest, {"out2": b"more"})
    lab.capture("s2", tree(dest, baseline=rebased))
    (stats,) = lab.stats
    assert (stats.inputs, stats.deleted_inputs) == (3, 4)
    assert lab.open("s2").recorded_paths("state-0") == {"out", "out2", "ref", "ref/new"}


@pytest.fixture
def later(source: Path, baseline: Baseline) -> Baseline:
    """The scan of an attempt that finds what one before it left on the same disk."""
    run_task(source)
    (source / "ref/idx").write_bytes(b"INDEX, changed")
    return Baseline.scan(source, ())


def test_what_came_or_changed_since_the_first_attempt_is_no_input(
    baseline: Baseline, later: Baseline
) -> None:
    since = later.since(baseline, gone=False)
    assert since.paths() == {"in.fa"}


def test_inputs_that_a_dead_copy_removed_are_known_as_such(
    lab: Lab, source: Path, dest: Path, baseline: Baseline, later: Baseline
) -> None:
    lab.capture("s1", tree(source, baseline=later.since(baseline, gone=True)))
    fill(dest, {"in.fa": INPUTS["in.fa"], "old": b"staged again"})
    assert lab.open("s1").check_inputs("state-0", dest) == []
    lab.open("s1").restore_tree("state-0", dest)
    assert contents(dest) == {
        "in.fa": INPUTS["in.fa"],
        "out": b"result",
        "ref/new": b"1",
        "ref/idx": b"INDEX, changed",
    }


def test_an_input_that_was_compared_with_the_snapshots_stays_one(source: Path, baseline: Baseline) -> None:
    os.utime(source / "in.fa")
    again = Baseline.scan(source, ())
    again.learn_digest("in.fa", digest(INPUTS["in.fa"]))
    assert "in.fa" in again.since(baseline, gone=False).paths()


def test_on_an_untouched_disk_all_stays_as_it_was(source: Path, baseline: Baseline) -> None:
    assert Baseline.scan(source, ()).since(baseline, gone=True).paths() == baseline.paths()
