"""The directory store when the file system fails: made-up errors, and a real full, read-only or lost one."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fsnap.errors import CorruptData, StoreError, StoreUnavailable, StoreUnfit
from fsnap.stores.file import FileStore
from tests.unit.stores.support import CALLS, everything_below, fail


class TestFailures:
    @pytest.mark.parametrize(
        ("code", "retryable"),
        [
            (errno.ENOSPC, False),
            (errno.EDQUOT, False),
            (errno.EACCES, False),
            (errno.EROFS, False),
            (errno.EIO, True),
            (errno.ESTALE, True),
            (errno.EMFILE, True),
        ],
    )
    @pytest.mark.parametrize("function", ["write", "fsync", "mkdir"])
    @pytest.mark.parametrize("call", ["put", "create"])
    def test_a_write_that_fails_is_one_line_and_leaves_nothing(
        self, root: Path, store: FileStore, monkeypatch: pytest.MonkeyPatch,
        code: int, retryable: bool, function: str, call: str,
    ) -> None:  # fmt: skip
        with monkeypatch.context() as patch:
            fail(patch, function, code)
            with pytest.raises(StoreError) as failure:
                CALLS[call](store)
        key = "a/b" if call == "put" else "a/c"
        assert str(failure.value) == f"cannot write {root}/{key}: {os.strerror(code)}"
        assert failure.value.retryable is retryable
        assert failure.value.exit_code == 174
        assert [path for path in everything_below(root) if path != "a"] == []

    def test_a_failed_put_keeps_the_old_bytes(
        self, store: FileStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.put("key", b"old")
        with monkeypatch.context() as patch:
            fail(patch, "write", errno.ENOSPC)
            with pytest.raises(StoreError):
                store.put("key", b"new")
        assert store.get("key") == b"old"

    @pytest.mark.parametrize(
        ("call", "function"), [("get", "pread"), ("list", "scandir"), ("delete", "unlink")]
    )
    def test_other_calls_name_what_they_did(
        self, root: Path, store: FileStore, monkeypatch: pytest.MonkeyPatch, call: str, function: str
    ) -> None:
        store.put("a/b", b"x")
        verb = {"get": "read", "list": "list", "delete": "delete"}[call]
        with monkeypatch.context() as patch:
            fail(patch, function, errno.EIO)
            with pytest.raises(StoreUnavailable, match=f"cannot {verb} {root}/a/.*: Input/output error"):
                CALLS[call](store)

    def test_without_hard_links_a_store_is_unfit(
        self, store: FileStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fail(monkeypatch, "link", errno.EPERM)
        with pytest.raises(StoreUnfit, match="no hard links"):
            store.create("key", b"x")

    def test_a_link_whose_answer_was_lost_counts(
        self, store: FileStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An NFS client sends it again, and hears that the name is taken: by itself."""
        real = os.link

        def link_twice(*arguments: str, **named: Any) -> None:
            real(*arguments, **named)
            real(*arguments, **named)

        monkeypatch.setattr(os, "link", link_twice)
        store.create("key", b"ours")
        assert store.get("key") == b"ours"

    def test_directories_that_cannot_be_synced_are_taken(
        self, store: FileStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = os.fsync

        def sync_files_only(fd: int) -> None:
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                raise OSError(errno.EINVAL, "Invalid argument")
            real(fd)

        monkeypatch.setattr(os, "fsync", sync_files_only)
        store.create("a/key", b"x")
        assert store.get("a/key") == b"x"

    def test_a_file_that_becomes_shorter_while_it_is_read(
        self, store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.put("a/key", b"0123456789")
        (path,) = (path for path in tmp_path.rglob("key") if path.is_file())
        real = os.pread

        def cut_first(fd: int, length: int, start: int) -> bytes:
            os.truncate(path, 4)
            return real(fd, length, start)

        monkeypatch.setattr(os, "pread", cut_first)
        with pytest.raises(CorruptData, match="a/key became shorter while it was read"):
            store.get("a/key")

    def test_no_descriptor_is_left_open(self, store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
        store.put("a/b", b"x")
        before = len(os.listdir("/proc/self/fd"))
        for call in CALLS.values():
            call(store)
        with monkeypatch.context() as patch:
            fail(patch, "fsync", errno.EIO)
            for name in ("put", "create"):
                with pytest.raises(StoreUnavailable):
                    CALLS[name](store)
        assert len(os.listdir("/proc/self/fd")) <= before


@pytest.fixture
def small_mount(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a small file system")
    place = tmp_path / "mount"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "fsnap-test", place],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"may not mount here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", place], capture_output=True, check=False)


@pytest.mark.process
class TestRealFileSystem:
    def test_a_full_disk(self, small_mount: Path) -> None:
        store = FileStore(f"{small_mount}/store")
        store.put("a/small", b"x" * 1000)
        for write in (store.put, store.create):
            with pytest.raises(StoreError, match="No space left on device") as failure:
                write("a/large", b"x" * 500_000)
            assert f"{small_mount}/store/a/large" in str(failure.value)
            assert "Free space" in failure.value.hint
        assert [row.key for row in store.list()] == ["a/small"]
        assert everything_below(small_mount) == ["store", "store/a", "store/a/small"]
        store.put("a/small", b"y" * 2000)
        assert store.get("a/small") == b"y" * 2000

    def test_a_read_only_one(self, small_mount: Path) -> None:
        store = FileStore(f"{small_mount}/store")
        store.put("key", b"x")
        subprocess.run(["mount", "-o", "remount,ro", small_mount], check=True)
        with pytest.raises(StoreError, match="Read-only file system"):
            store.put("key", b"y")
        assert store.get("key") == b"x"
        with pytest.raises(StoreError, match="Read-only file system"):
            FileStore(f"{small_mount}/other")

    @pytest.mark.parametrize("call", CALLS)
    def test_one_that_was_unmounted(self, small_mount: Path, call: str) -> None:
        """The directory below the mount point is another one, and empty: nothing may go there."""
        store = FileStore(str(small_mount))
        store.put("a/b", b"x")
        subprocess.run(["umount", "--lazy", small_mount], check=True)
        with pytest.raises(StoreUnavailable, match="unmounted"):
            CALLS[call](store)
        assert everything_below(small_mount) == []

    def test_listing_while_objects_are_replaced(self, small_mount: Path) -> None:
        """Rename over a name that is being listed: tmpfs orders its directory by age, ext4 by hash."""
        store = FileStore(f"{small_mount}/store")
        keys = [f"d/{number:02d}" for number in range(30)]
        for key in keys:
            store.put(key, b"x")
        program = (
            "import sys; from fsnap.stores.file import FileStore; store = FileStore(sys.argv[1]); n = 0\n"
            "while True: store.put(f'd/{n % 30:02d}', b'y'); n += 1; n % 30 or print(n, flush=True)"
        )
        arguments = [sys.executable, "-c", program, f"{small_mount}/store"]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            try:
                for _ in range(200):
                    assert [row.key for row in store.list("d/")] == keys
            finally:
                writer.kill()
