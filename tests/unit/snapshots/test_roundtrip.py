"""Capture and restore give back what was there."""

from __future__ import annotations

import os
import random
import socket
import stat
from pathlib import Path

import pytest

from fsnap.snapshots.capture import Capture
from tests.unit.snapshots.lab import Lab, contents, fill, look, tree

MIB = 1 << 20
IS_ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not IS_ROOT, reason="needs root: makes device nodes and foreign owners")

# A POSIX ACL as linux/posix_acl_xattr.h has it: version 2, then tag, permissions and id of each entry.
ACL = b"".join(
    [
        (2).to_bytes(4, "little"),
        *(
            tag.to_bytes(2, "little") + bits.to_bytes(2, "little") + number.to_bytes(4, "little")
            for tag, bits, number in [
                (0x01, 6, 0xFFFFFFFF),
                (0x02, 4, 1000),
                (0x04, 4, 0xFFFFFFFF),
                (0x10, 6, 0xFFFFFFFF),
                (0x20, 0, 0xFFFFFFFF),
            ]
        ),
    ]
)


def round_trip(lab: Lab, source: Path, dest: Path, **fields: object) -> None:
    lab.capture("s1", tree(source, **fields))
    before = look(source)
    assert lab.open("s1").verify().ok
    lab.open("s1").restore_tree("state-0", dest)
    assert look(dest) == before


def test_an_empty_directory(lab: Lab, source: Path, dest: Path) -> None:
    os.chmod(source, 0o1751)
    os.utime(source, ns=(1, 1_234_567_890_123_456_789))
    round_trip(lab, source, dest)
    assert lab.keys("packs/") == []


def test_files_of_all_sizes(lab: Lab, source: Path, dest: Path) -> None:
    rng = random.Random(4)
    sizes = [0, 1, 4095, 4096, 4097, 100_000, MIB - 1, MIB, MIB + 1, 9 * MIB + 5]
    fill(source, {f"d{n % 3}/f{n}": rng.randbytes(size) for n, size in enumerate(sizes)})
    round_trip(lab, source, dest)


def test_ten_thousand_small_files_make_few_chunks(lab: Lab, source: Path, dest: Path) -> None:
    rng = random.Random(5)
    fill(source, {f"{n % 100}/{n}": rng.randbytes(rng.randrange(300)) for n in range(10_000)})
    sealed = lab.capture("s1", tree(source))
    assert len(sealed.index.chunks) < 60
    lab.open("s1").restore_tree("state-0", dest)
    assert contents(dest) == contents(source)


def test_zeros_take_no_space_and_noise_is_stored_raw(lab: Lab, source: Path) -> None:
    noise = random.Random(6).randbytes(4 * MIB)
    fill(source, {"noise": noise, "zeros": bytes(64 * MIB)})
    sealed = lab.capture("s1", tree(source))
    assert len(noise) < sealed.stored_bytes < len(noise) + 100_000
    assert sealed.bytes == 68 * MIB


def test_holes_stay_holes_and_zeros_stay_data(lab: Lab, source: Path, dest: Path) -> None:
    with open(source / "sparse", "wb") as file:
        file.seek(3 * MIB)
        file.write(b"middle")
        file.truncate(20 * MIB)
    (source / "all-hole").touch()
    os.truncate(source / "all-hole", 5 * MIB)
    fill(source, {"zeros": bytes(2 * MIB), "plain": b"x" * 5000})
    round_trip(lab, source, dest)
    assert os.stat(dest / "all-hole").st_blocks == 0
    assert os.stat(dest / "zeros").st_blocks * 512 >= 2 * MIB


def test_hard_links_stay_one_file(lab: Lab, source: Path, dest: Path) -> None:
    fill(source, {"a/one": b"same", "other": b"same"})
    os.link(source / "a/one", source / "two")
    os.link(source / "a/one", source / "a/zzz")
    os.symlink("nowhere", source / "l1")
    os.link(source / "l1", source / "l2", follow_symlinks=False)
    round_trip(lab, source, dest)
    assert os.stat(dest / "two").st_nlink == 3


def test_names_that_are_no_text(lab: Lab, source: Path, dest: Path) -> None:
    for name in (b"new\nline", b"\xff\xfe", b"-rf *", b"quote'\"\\", "snö".encode(), b"x" * 255):
        with open(os.path.join(os.fsencode(source), name), "wb") as file:
            file.write(name)
    os.symlink(b"\xff/..//target", os.path.join(os.fsencode(source), b"link\x80"))
    round_trip(lab, source, dest)


def test_links_fifos_and_sockets(lab: Lab, source: Path, dest: Path) -> None:
    os.symlink("/etc/passwd", source / "absolute")
    os.symlink("../../up", source / "up")
    os.mkfifo(source / "fifo", 0o640)
    os.mknod(source / "socket", stat.S_IFSOCK | 0o755)
    round_trip(lab, source, dest)
    assert socket.AF_UNIX and stat.S_ISSOCK(os.lstat(dest / "socket").st_mode)


def test_modes_and_times(lab: Lab, source: Path, dest: Path) -> None:
    fill(source, {"d/f": b"1", "d/exec": b"2", "d/none": b"3"})
    for number, (name, mode) in enumerate(
        [("d/f", 0o4755), ("d/exec", 0o2711), ("d/none", 0), ("d", 0o3777)]
    ):
        os.chmod(source / name, mode)
        os.utime(source / name, ns=(5, -(10**15) + number * 10**18 + 987_654_321))
    round_trip(lab, source, dest)


def test_times_of_directories_survive_the_files_made_in_them(lab: Lab, source: Path, dest: Path) -> None:
    fill(source, {"a/b/c/f": b"1"})
    for path in ("a/b/c", "a/b", "a", "."):
        os.utime(source / path, ns=(3, 1_000_000_007))
    round_trip(lab, source, dest)


def test_attributes_and_acls(lab: Lab, source: Path, dest: Path) -> None:
    fill(source, {"f": b"1", "d/g": b"2"})
    os.setxattr(source / "f", "user.note", b"\x00\xff value")
    os.setxattr(source / "f", "system.posix_acl_access", ACL)
    os.setxattr(source / "d", "system.posix_acl_default", ACL)
    os.setxattr(source, "user.root", b"of the tree")
    round_trip(lab, source, dest)


def test_an_inherited_acl_does_not_stick(lab: Lab, source: Path, dest: Path) -> None:
    fill(source, {"f": b"1", "d/g": b"2"})
    os.setxattr(dest, "system.posix_acl_default", ACL)
    round_trip(lab, source, dest)


@needs_root
def test_owners_capabilities_and_devices(lab: Lab, source: Path, dest: Path) -> None:
    fill(source, {"f": b"1", "setuid": b"2", "capable": b"3"})
    os.chown(source / "f", 1234, 4321)
    os.chown(source / "setuid", 1234, 4321)
    os.chmod(source / "setuid", 0o6755)
    os.symlink("f", source / "link")
    os.chown(source / "link", 77, 88, follow_symlinks=False)
    os.chown(source / "capable", 5, 5)
    # cap_net_bind_service=ep, revision 2 (linux/capability.h)
    os.setxattr(source / "capable", "security.capability", bytes.fromhex("0100000200040000" + "00" * 12))
    os.setxattr(source / "f", "trusted.mine", b"yes")
    os.mknod(source / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(source / "loop", stat.S_IFBLK | 0o660, os.makedev(7, 300))
    os.chown(source, 99, 98)
    round_trip(lab, source, dest)


@needs_root
def test_an_overlay_upper_keeps_whiteouts_and_opaque_alone(lab: Lab, source: Path, dest: Path) -> None:
    os.mknod(source / "deleted", stat.S_IFCHR, 0)
    os.link(source / "deleted", source / "deleted2")
    (source / "opaque").mkdir()
    os.setxattr(source / "opaque", "trusted.overlay.opaque", b"y")
    os.setxattr(source / "opaque", "trusted.overlay.origin", b"\x00\xfb\x1d")
    os.setxattr(source, "trusted.overlay.impure", b"y")
    os.setxattr(source / "opaque", "user.mine", b"kept")
    lab.capture("s1", tree(source, kind="overlay-upper"))
    lab.open("s1").restore_tree("state-0", dest)
    for name in ("deleted", "deleted2"):
        state = os.lstat(dest / name)
        assert stat.S_ISCHR(state.st_mode) and state.st_rdev == 0
    assert sorted(os.listxattr(dest / "opaque")) == ["trusted.overlay.opaque", "user.mine"]
    assert os.listxattr(dest) == []


def test_several_trees_and_streams(lab: Lab, tmp_path: Path, source: Path, dest: Path) -> None:
    images = tmp_path / "images"
    fill(images, {"pages-1.img": random.Random(7).randbytes(3 * MIB), "core-1.img": b"core"})
    fill(source, {"out": b"result\n" * 1000})
    log = tmp_path / "stdout"
    log.write_bytes(b"line\n" * 100_000)

    def more(capture: Capture) -> None:
        capture.add_blob("baseline", b"a small document")
        capture.add_blob("empty", b"")
        capture.add_file("stdout", log, 12_345)

    lab.capture("s1", tree(images, name="images", page_structured=True), tree(source), more=more)
    snapshot = lab.open("s1")
    assert snapshot.read_blob("baseline") == b"a small document"
    assert snapshot.read_blob("empty") == b""
    snapshot.restore_file("stdout", tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == log.read_bytes()[:12_345]
    (tmp_path / "images2").mkdir()
    snapshot.restore_tree("images", tmp_path / "images2")
    assert contents(tmp_path / "images2") == contents(images)
    snapshot.restore_tree("state-0", dest)
    assert look(dest) == look(source)
    assert snapshot.about.command == ("sort", "in.txt")


def test_what_is_excluded_is_not_there(lab: Lab, source: Path, dest: Path) -> None:
    fill(
        source,
        {
            "keep": b"1",
            "a.tmp": b"2",
            "d/b.tmp": b"3",
            "cache/x": b"4",
            "d/cache/y": b"5",
            "z": b"6",
            "d/z": b"7",
        },
    )
    lab.capture("s1", tree(source, exclude=("*.tmp", "d/cache", "/z")))
    lab.open("s1").restore_tree("state-0", dest)
    assert contents(dest).keys() == {"keep", "cache/x", "d/z"}
