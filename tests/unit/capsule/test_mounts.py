"""Which mounts a capsule needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from fsnap.capsule.launch import _escaped
from fsnap.capsule.mounts import (
    CapsuleMounts,
    MountLine,
    Overlay,
    fstype_of,
    plan_mounts,
    read_mounts,
    within,
)
from fsnap.errors import UsageError

ROOT = MountLine(point="/", fstype="ext4")
RUN_DIR = "/var/lib/fsnap/run/T"


def plan(
    *extra: MountLine,
    run_dir: str = RUN_DIR,
    state_dirs: Sequence[str] = ("/work",),
    scratch: Sequence[str] = (),
    root: MountLine = ROOT,
) -> CapsuleMounts:
    return plan_mounts(run_dir=run_dir, state_dirs=state_dirs, scratch=scratch, mounts=[root, *extra])


def test_the_plain_case() -> None:
    assert plan() == CapsuleMounts(
        overlays=(Overlay(name="tmp", target="/tmp"),), keep=(), scratch_tmpfs=False
    )


def test_state_dirs_below_tmp_are_bound_back() -> None:
    assert plan(state_dirs=["/tmp/a/b", "/work", "/tmpfile"]).keep == ("/tmp/a/b",)


def test_tmp_as_a_state_dir_has_no_overlay() -> None:
    mounts = plan(state_dirs=["/tmp"])
    assert mounts.overlays == ()
    assert mounts.keep == ()


def test_a_home_below_tmp_is_bound_back_and_its_uppers_take_memory() -> None:
    mounts = plan(run_dir="/tmp/home/run/T")
    assert mounts.keep == ("/tmp/home/run/T",)
    assert mounts.scratch_tmpfs


@pytest.mark.parametrize(
    ("fstype", "fits"), [("ext4", True), ("xfs", True), ("tmpfs", True), ("overlay", False), ("nfs4", False)]
)
def test_file_systems_that_can_not_hold_an_upper(fstype: str, fits: bool) -> None:
    assert plan(root=MountLine(point="/", fstype=fstype)).scratch_tmpfs is not fits


def test_a_volume_under_the_home_fits_on_a_container_s_overlay() -> None:
    container = MountLine(point="/", fstype="overlay")
    volume = MountLine(point="/var/lib/fsnap", fstype="ext4")
    assert plan(root=container).scratch_tmpfs
    assert not plan(volume, root=container).scratch_tmpfs


def test_mounts_below_an_overlay_stay_visible() -> None:
    mounts = plan(
        MountLine(point="/tmp", fstype="tmpfs"),
        MountLine(point="/tmp/data", fstype="nfs4"),
        MountLine(point="/tmp/data/inner", fstype="ext4"),
        MountLine(point="/tmpnot", fstype="ext4"),
    )
    assert mounts.keep == ("/tmp/data",)


def test_scratch_places_get_overlays_of_their_own() -> None:
    mounts = plan(scratch=["/scratch", "/tmp", "/local"], state_dirs=["/scratch/work"])
    assert [(o.name, o.target) for o in mounts.overlays] == [
        ("tmp", "/tmp"),
        ("scratch-0", "/scratch"),
        ("scratch-2", "/local"),
    ]
    assert mounts.keep == ("/scratch/work",)


@pytest.mark.parametrize("place", ["/", "/work"])
def test_scratch_places_that_can_not_be(place: str) -> None:
    with pytest.raises(UsageError, match="--scratch"):
        plan(scratch=[place])


def test_the_plan_goes_to_the_launcher_whole() -> None:
    plain = plan(state_dirs=["/tmp/a"]).to_plain()
    assert plain == {
        "overlays": [{"name": "tmp", "target": "/tmp"}],
        "keep": ["/tmp/a"],
        "scratch_tmpfs": False,
    }


def test_the_mount_table(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(
        "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
        "23 22 0:5 / /with\\040space rw - tmpfs tmpfs rw\n"
        "24 22 0:6 / /back\\134slash rw shared:2 master:3 - xfs /dev/vdb rw\n"
    )
    assert read_mounts(table) == [
        MountLine(point="/", fstype="ext4"),
        MountLine(point="/with space", fstype="tmpfs"),
        MountLine(point="/back\\slash", fstype="xfs"),
    ]


def test_the_machine_s_own_table_has_a_root() -> None:
    assert fstype_of("/", read_mounts())


def test_the_newest_of_the_nearest_mounts_counts() -> None:
    rows = [
        ROOT,
        MountLine(point="/a", fstype="xfs"),
        MountLine(point="/a", fstype="tmpfs"),
        MountLine(point="/a/b", fstype="nfs"),
    ]
    assert fstype_of("/a/x", rows) == "tmpfs"
    assert fstype_of("/a/b", rows) == "nfs"
    assert fstype_of("/ab", rows) == "ext4"


@pytest.mark.parametrize(
    ("path", "parent", "inside"),
    [
        ("/a", "/a", True),
        ("/a/b", "/a", True),
        ("/ab", "/a", False),
        ("/a", "/a/b", False),
        ("/a", "/", True),
        ("/", "/", True),
    ],
)
def test_within(path: str, parent: str, inside: bool) -> None:
    assert within(path, parent) is inside


def test_overlay_options_escape_what_means_something() -> None:
    assert _escaped("/a:b,c\\d") == "/a\\:b\\,c\\\\d"
