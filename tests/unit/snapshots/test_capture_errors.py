"""Captures that cannot succeed say why, name the file, and commit nothing."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from fsnap.errors import CorruptData, StoreError, StoreUnavailable
from fsnap.snapshots import treecapture
from fsnap.snapshots.baseline import Baseline
from fsnap.snapshots.capture import Capture
from fsnap.snapshots.cut import ByteCutter
from fsnap.snapshots.errors import CaptureFailed, PacksMissing, UnreadableFile
from fsnap.snapshots.feeder import Feeder, Fill
from fsnap.snapshots.known import KnownChunks
from fsnap.snapshots.pace import Pace
from fsnap.snapshots.reading import feed_file
from fsnap.snapshots.records import Record
from fsnap.snapshots.sink import ChunkSink
from fsnap.snapshots.state import NOWHERE
from fsnap.snapshots.treecapture import TreeCapture
from fsnap.snapshots.walk import MAX_DEPTH
from fsnap.stores.base import Buffer
from fsnap.stores.memory import MemoryStore
from tests.unit.snapshots.lab import PREFIX, Lab, about, fill, tree

MIB = 1 << 20


def capture_with(store: MemoryStore) -> Capture:
    return Capture(store=store, prefix=PREFIX, snapshot_id="s1", known=KnownChunks())


def before_content(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Run *act* between the walk and the reading."""
    original = TreeCapture._feed_small

    def feed(self: TreeCapture) -> None:
        act()
        original(self)

    monkeypatch.setattr(TreeCapture, "_feed_small", feed)


@pytest.mark.parametrize("change", ["vanish", "shrink", "grow", "rewrite", "become a link"])
@pytest.mark.parametrize("size", [1000, 3 * MIB])
def test_a_file_that_changes_is_named(
    lab: Lab, source: Path, monkeypatch: pytest.MonkeyPatch, change: str, size: int
) -> None:
    path = source / "d/file"
    fill(source, {"d/file": b"x" * size})

    def act() -> None:
        if change == "vanish":
            path.unlink()
        elif change == "shrink":
            os.truncate(path, size - 1)
        elif change == "grow":
            os.truncate(path, size + 1)
        elif change == "rewrite":
            path.write_bytes(b"y" * size)
        else:
            path.rename(source / "other")
            path.symlink_to(source / "other")

    before_content(monkeypatch, act)
    with pytest.raises(UnreadableFile, match="'d/file'"):
        lab.capture("s1", tree(source))
    assert lab.keys("snapshots/") == []


@pytest.mark.parametrize("left", [5 * MIB, 0])
def test_a_file_that_shrinks_while_it_is_read_is_named(tmp_path: Path, left: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * (9 * MIB))

    class Shrinking(Feeder):
        def feed(self, fill: Fill, length: int) -> int:
            os.truncate(path, left)
            return super().feed(fill, length)

    sink = ChunkSink(
        store=MemoryStore(), prefix=PREFIX, known=KnownChunks(), threads=1, pace=Pace(), connections=1
    )
    feeder = Shrinking(sink)
    feeder.begin(ByteCutter())
    with open(path, "rb") as file, pytest.raises(UnreadableFile, match="'file' shrank while"):
        feed_file(feeder, file.fileno(), start=0, size=9 * MIB, name="'file'")
    sink.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: sets an attribute of overlayfs")
@pytest.mark.parametrize("name", ["redirect", "metacopy"])
def test_an_upper_whose_content_lies_elsewhere_is_refused(lab: Lab, source: Path, name: str) -> None:
    (source / "moved").mkdir()
    os.setxattr(source / "moved", f"trusted.overlay.{name}", b"/old")
    with pytest.raises(UnreadableFile, match=r"'moved'.*another overlay layer"):
        lab.capture("s1", tree(source, kind="overlay-upper"))


def test_a_tree_that_is_too_deep_is_refused(lab: Lab, source: Path) -> None:
    here = os.open(source, os.O_RDONLY)
    for _ in range(MAX_DEPTH + 1):
        os.mkdir("d", dir_fd=here)
        deeper = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    with pytest.raises(CaptureFailed, match="nested"):
        lab.capture("s1", tree(source))


def test_a_root_that_is_not_there_is_named(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="nowhere"):
        lab.capture("s1", tree(tmp_path / "nowhere"))


def test_a_stream_that_is_too_short_is_named(lab: Lab, tmp_path: Path, source: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"short")
    with pytest.raises(UnreadableFile, match=r"log has less than the 6 bytes"):
        lab.capture("s1", tree(source), more=lambda capture: capture.add_file("log", log, 6))
    with pytest.raises(UnreadableFile, match="absent"):
        lab.capture("s1", tree(source), more=lambda capture: capture.add_file("log", tmp_path / "absent", 0))


class FailingStore(MemoryStore):
    """Puts of packs fail after the first *good* ones."""

    def __init__(self, good: int) -> None:
        super().__init__()
        self.left = good

    def put(self, key: str, data: Buffer) -> None:
        if "/packs/" in key:
            if self.left == 0:
                raise StoreUnavailable(f"{key}: no answer")
            self.left -= 1
        super().put(key, data)


@pytest.mark.parametrize("good", [0, 1])
def test_a_store_that_fails_fails_the_capture(source: Path, good: int) -> None:
    fill(source, {"noise": os.urandom(40 * MIB)})
    store = FailingStore(good)
    with pytest.raises(StoreUnavailable, match="no answer"), capture_with(store) as capture:
        capture.add_tree(tree(source))
        capture.seal_index()
    assert [info.key for info in store.list() if "snapshots" in info.key] == []


class SlowStore(MemoryStore):
    """Puts of packs wait until they are let go."""

    def __init__(self) -> None:
        super().__init__()
        self.started = threading.Event()
        self.let_go = threading.Event()

    def put(self, key: str, data: Buffer) -> None:
        self.started.set()
        assert self.let_go.wait(60)
        super().put(key, data)


def test_after_abort_nothing_more_is_put(source: Path) -> None:
    fill(source, {"noise": os.urandom(200 * MIB)})
    store = SlowStore()
    capture = capture_with(store)
    failure: list[BaseException] = []

    def feed() -> None:
        try:
            capture.add_tree(tree(source))
        except CaptureFailed as error:
            failure.append(error)

    feeding = threading.Thread(target=feed)
    feeding.start()
    assert store.started.wait(60)
    aborting = threading.Thread(target=capture.abort)
    aborting.start()
    store.let_go.set()
    aborting.join(60)
    feeding.join(60)
    there = len(list(store.list()))
    assert [str(error) for error in failure] == ["the capture was aborted"]
    assert there <= 5
    with pytest.raises(CaptureFailed, match="earlier part"):
        capture.add_blob("late", b"1")
    with pytest.raises(CaptureFailed, match="earlier part"):
        capture.seal_index()
    assert len(list(store.list())) == there


def test_a_manifest_is_never_replaced(lab: Lab, source: Path) -> None:
    with Capture(store=lab.store, prefix=PREFIX, snapshot_id="s1", known=lab.known) as capture:
        capture.add_tree(tree(source))
        capture.seal_index()
        first = capture.publish(about("s1"))
        assert capture.publish(about("s1")) == first
        with pytest.raises(CorruptData, match="reads back differently"):
            capture.publish(about("s1", run_ms=1))


def test_an_index_that_is_not_listed_is_no_snapshot(source: Path) -> None:
    class Forgetful(MemoryStore):
        def put(self, key: str, data: Buffer) -> None:
            if not key.endswith("/index"):
                super().put(key, data)

    with pytest.raises(PacksMissing, match="index"), capture_with(Forgetful()) as capture:
        capture.add_tree(tree(source))
        capture.seal_index()


def test_names_are_checked(lab: Lab, source: Path) -> None:
    with pytest.raises(ValueError, match="snapshot"):
        Capture(store=lab.store, prefix=PREFIX, snapshot_id="../s1", known=lab.known)
    with capture_with(lab.store) as capture:
        with pytest.raises(ValueError, match="tree"):
            capture.add_tree(tree(source, name="Upper/../x"))
        capture.add_tree(tree(source))
        with pytest.raises(ValueError, match="before"):
            capture.add_tree(tree(source))
        with pytest.raises(ValueError, match="stream"):
            capture.add_blob("a/b", b"")
        with pytest.raises(ValueError, match="seal_index"):
            capture.publish(about("s1"))


def test_an_open_fails_with_the_stores_own_error(lab: Lab, source: Path) -> None:
    class Silent(MemoryStore):
        def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
            raise StoreUnavailable("no answer")

    lab.capture("s1", tree(source))
    lab.store = Silent()
    with pytest.raises(StoreError, match="no answer"):
        lab.open("s1")


def test_records_of_special_files_have_nothing_to_read() -> None:
    assert Record(path="x", kind=treecapture.Kind.FIFO, state=NOWHERE).read_bytes == 0


class CalledOff(Exception):
    """What a step raises."""


class Slow(MemoryStore):
    """A put of a pack takes until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.putting = threading.Event()
        self.let_go = threading.Event()

    def put(self, key: str, data: Buffer) -> None:
        if "/packs/" in key:
            self.putting.set()
            assert self.let_go.wait(30)
        super().put(key, data)


@pytest.mark.parametrize("size", [40 * MIB, 200 * MIB], ids=["all is read", "it has more to read"])
def test_a_capture_that_is_called_off_waits_for_no_pack(source: Path, size: int) -> None:
    store, known = Slow(), KnownChunks()
    path = source / "file"
    path.write_bytes(os.urandom(40 * MIB))
    os.truncate(path, size)

    def step() -> None:
        if store.putting.is_set():
            raise CalledOff

    with (
        pytest.raises(CalledOff),
        Capture(store=store, prefix=PREFIX, snapshot_id="s1", known=known, step=step) as capture,
    ):
        capture.add_tree(tree(source))
        capture.seal_index()
    assert not [info for info in store.list() if "/packs/" in info.key]
    store.let_go.set()
    capture.abort()  # waits for what was on its way
    assert len(known) > 0


def test_inputs_that_are_hashed_can_be_called_off(lab: Lab, source: Path) -> None:
    fill(source, {"input": b"x" * 9 * MIB})
    called = []

    def step() -> None:
        called.append(1)
        raise CalledOff

    with (
        pytest.raises(CalledOff),
        Capture(store=lab.store, prefix=PREFIX, snapshot_id="s1", known=lab.known, step=step) as capture,
    ):
        capture.add_tree(tree(source, baseline=Baseline.scan(source, ())))
    assert called == [1]
