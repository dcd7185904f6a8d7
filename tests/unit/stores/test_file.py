"""The directory store beyond the port's rules: modes, durability, crashes, links, pruning."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fsnap.errors import ObjectExists, ObjectMissing, StoreError, StoreUnavailable
from fsnap.stores.file import FileStore
from tests.unit.stores.support import CALLS, everything_below


class TestDirectory:
    def test_is_made_with_its_parents_for_nobody_else(self, root: Path, store: FileStore) -> None:
        store.put("tasks/t/x", b"secret")
        made = [root.parent, root, root / "tasks", root / "tasks/t"]
        assert [stat.S_IMODE(path.stat().st_mode) for path in made] == [0o700] * 4
        assert stat.S_IMODE((root / "tasks/t/x").stat().st_mode) == 0o600

    def test_is_not_made_on_request(self, root: Path) -> None:
        with pytest.raises(StoreError, match=f"cannot open the store directory {root}: No such file"):
            FileStore(str(root), create=False)
        assert not root.exists()

    def test_may_be_reached_by_a_link(self, root: Path, store: FileStore, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(root)
        FileStore(str(tmp_path / "link")).put("key", b"x")
        assert store.get("key") == b"x"

    @pytest.mark.parametrize("below", ["", "/store", "/deep/er"])
    def test_cannot_be_a_file(self, tmp_path: Path, below: str) -> None:
        (tmp_path / "file").write_text("not a directory")
        with pytest.raises(StoreError, match="Not a directory") as failure:
            FileStore(f"{tmp_path}/file{below}")
        assert str(tmp_path / "file") in str(failure.value)

    def test_takes_an_absolute_path(self) -> None:
        with pytest.raises(ValueError, match="not an absolute path"):
            FileStore("relative")

    def test_its_url_is_quoted(self, tmp_path: Path) -> None:
        assert FileStore(f"{tmp_path}/a b?c").url == f"file://{tmp_path}/a%20b%3Fc"

    @pytest.mark.parametrize("call", CALLS)
    @pytest.mark.parametrize("instead", ["nothing", "another"])
    def test_that_vanished_is_told_from_an_empty_one(
        self, root: Path, store: FileStore, call: str, instead: str
    ) -> None:
        store.put("a/b", b"x")
        root.rename(root.with_name("moved"))
        if instead == "another":
            root.mkdir()
        with pytest.raises(StoreUnavailable, match=f"{root} is not the one that was opened"):
            CALLS[call](store)
        assert root.exists() == (instead == "another")
        assert everything_below(root) == []

    def test_that_comes_back_is_used_again(self, root: Path, store: FileStore) -> None:
        root.rename(root.with_name("moved"))
        with pytest.raises(StoreUnavailable):
            store.put("key", b"x")
        root.with_name("moved").rename(root)
        store.put("key", b"x")
        assert store.get("key") == b"x"


class TestDurability:
    """What was synced when, of what the calls really did to the file system."""

    @pytest.fixture
    def trace(self, store: FileStore, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        steps: list[str] = []

        def name_of(fd: int) -> str:
            name = os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))
            return "temporary" if name.startswith("~") else name

        def traced(function: str, describe: Callable[..., str]) -> None:
            real = getattr(os, function)

            def call(*arguments: object, **named: object) -> object:
                result = real(*arguments, **named)
                steps.append(describe(*arguments))
                return result

            monkeypatch.setattr(os, function, call)

        traced("fsync", lambda fd: f"sync {name_of(fd)}")
        traced("rename", lambda old, new: f"rename {new}")
        traced("link", lambda old, new: f"link {new}")
        traced("mkdir", lambda path, mode: f"mkdir {path}")
        return steps

    def test_put(self, store: FileStore, trace: list[str]) -> None:
        store.put("a/b/key", b"x")
        assert trace == [
            "mkdir a", "sync store", "mkdir b", "sync a",
            "sync temporary", "rename key", "sync b",
        ]  # fmt: skip

    def test_a_directory_that_another_writer_made_is_synced_too(
        self, store: FileStore, trace: list[str]
    ) -> None:
        store.put("a/b/key", b"x")
        trace.clear()
        store.put("a/b/other", b"x")
        assert trace == ["sync store", "sync a", "sync temporary", "rename other", "sync b"]

    def test_create(self, store: FileStore, trace: list[str]) -> None:
        store.create("a/key", b"x")
        assert trace == ["mkdir a", "sync store", "sync temporary", "link key", "sync a"]

    def test_what_exists_already_is_durable_before_it_is_said(
        self, store: FileStore, trace: list[str]
    ) -> None:
        store.create("key", b"x")
        trace.clear()
        with pytest.raises(ObjectExists):
            store.create("key", b"y")
        assert trace == ["sync temporary", "sync store"]

    def test_a_new_root_is_synced_into_its_parents(self, tmp_path: Path, trace: list[str]) -> None:
        FileStore(f"{tmp_path}/new/root")
        assert trace == ["mkdir new", f"sync {tmp_path.name}", "mkdir root", "sync new"]


class TestCrash:
    def test_leftovers_are_not_listed(self, root: Path, store: FileStore) -> None:
        store.put("a/key", b"x")
        (root / "a/~123.abc").write_bytes(b"half")
        assert [row.key for row in store.list()] == ["a/key"]

    def test_only_old_leftovers_are_swept(self, root: Path, store: FileStore) -> None:
        (root / "a").mkdir()
        old, young = root / "a/~1.old", root / "a/~1.young"
        for leftover in (old, young):
            leftover.write_bytes(b"half")
        two_days_ago_s = time.time() - 2 * 86400
        os.utime(old, (two_days_ago_s, two_days_ago_s))
        store.put("a/key", b"x")
        assert (old.exists(), young.exists()) == (False, True)

    @pytest.mark.process
    def test_a_writer_that_is_killed_leaves_old_or_new_bytes(self, root: Path, store: FileStore) -> None:
        store.put("a/key", b"0" * 200_000)
        program = (
            "import itertools, sys; from fsnap.stores.file import FileStore; store = FileStore(sys.argv[1])\n"
            "for n in itertools.count():\n"
            "    store.put('a/key', str(n % 10).encode() * 200_000); print(n, flush=True)\n"
        )
        for _ in range(4):
            with subprocess.Popen([sys.executable, "-c", program, root], stdout=subprocess.PIPE) as writer:
                assert writer.stdout is not None
                for _ in range(5):
                    assert writer.stdout.readline()
                writer.kill()
            value = store.get("a/key")
            assert len(value) == 200_000
            assert len(set(value)) == 1
            assert [row.key for row in store.list()] == ["a/key"]

    @pytest.mark.process
    def test_of_several_processes_one_creates(self, root: Path, store: FileStore) -> None:
        program = (
            "import sys; from fsnap.stores.file import FileStore; from fsnap.errors import ObjectExists\n"
            "store = FileStore(sys.argv[1]); sys.stdin.readline()\n"
            "for n in range(200):\n"
            "    try: store.create(f'race/{n}', sys.argv[2].encode()); print(n, flush=True)\n"
            "    except ObjectExists: pass\n"
        )
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", program, root, str(number)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for number in range(4)
        ]
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        won = [process.communicate()[0].split() for process in processes]
        assert sorted(int(number) for numbers in won for number in numbers) == list(range(200))
        for creator, numbers in enumerate(won):
            assert all(store.get(f"race/{number}") == str(creator).encode() for number in numbers)


class TestForeignFiles:
    def test_are_not_listed(self, root: Path, store: FileStore) -> None:
        store.put("a/key", b"x")
        for name in ("has space", "ümlaut", ".nfs000000000004a2f100000001", "lost+found"):
            (root / "a" / name).write_bytes(b"x")
        (root / "lost+found").mkdir(mode=0)
        os.mkfifo(root / "a/fifo")
        (root / "a/link").symlink_to("key")
        assert [row.key for row in store.list()] == ["a/key"]

    def test_a_linked_directory_is_not_entered(self, root: Path, store: FileStore, tmp_path: Path) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "key").write_bytes(b"foreign")
        (root / "tasks").symlink_to(outside)
        for call in (
            lambda: store.put("tasks/key", b"x"),
            lambda: store.create("tasks/new", b"x"),
            lambda: store.get("tasks/key"),
            lambda: store.delete("tasks/key"),
            lambda: list(store.list("tasks/")),
        ):
            with pytest.raises(StoreError, match="Not a directory") as failure:
                call()
            assert "symbolic link" in failure.value.hint
        assert list(store.list()) == []
        assert (outside / "key").read_bytes() == b"foreign"
        assert everything_below(outside) == ["key"]

    def test_a_linked_object_is_not_followed(self, root: Path, store: FileStore, tmp_path: Path) -> None:
        outside = tmp_path / "outside"
        outside.write_bytes(b"foreign")
        (root / "key").symlink_to(outside)
        with pytest.raises(StoreError, match="symbolic links"):
            store.get("key")
        with pytest.raises(ObjectExists):
            store.create("key", b"x")
        store.put("key", b"ours")
        assert store.get("key") == b"ours"
        assert outside.read_bytes() == b"foreign"

    def test_a_fifo_does_not_hang(self, root: Path, store: FileStore) -> None:
        os.mkfifo(root / "key")
        with pytest.raises(StoreError, match="not a regular file"):
            store.get("key")

    def test_a_directory_is_no_object(self, store: FileStore) -> None:
        store.put("a/b", b"x")
        with pytest.raises(ObjectMissing):
            store.get("a")
        for write in (store.put, store.create):
            with pytest.raises(StoreError, match="directory") as failure:
                write("a", b"x")
            assert not isinstance(failure.value, ObjectExists)
            with pytest.raises(StoreError, match="Not a directory"):
                write("a/b/c", b"x")


class TestPruning:
    def test_a_delete_removes_the_directories_that_it_empties(self, root: Path, store: FileStore) -> None:
        store.put("a/b/c/key", b"x")
        store.put("a/other", b"x")
        store.delete("a/b/c/key")
        assert everything_below(root) == ["a", "a/other"]
        store.delete("a/other")
        assert everything_below(root) == []
        assert root.is_dir()

    def test_a_directory_with_a_leftover_stays(self, root: Path, store: FileStore) -> None:
        store.put("a/key", b"x")
        (root / "a/~1.abc").write_bytes(b"another writer is at work")
        store.delete("a/key")
        assert everything_below(root) == ["a", "a/~1.abc"]


def test_a_closed_store_says_so(root: Path, store: FileStore) -> None:
    store.close()
    store.close()
    with pytest.raises(StoreError):
        store.get("key")
    shutil.rmtree(root)
