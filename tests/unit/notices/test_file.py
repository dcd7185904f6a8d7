"""``--provider file:PATH``: real files, real inotify; the clock is a fake one where time is asserted."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fsnap.core.events import NoticeCancelled
from fsnap.errors import UsageError
from fsnap.notices import file as file_module
from fsnap.notices.file import WRITER_PATIENCE_S, FileNotice, open_for_writing

NEVER_S = 3600.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "notice"


@pytest.fixture
def no_inotify(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_module, "_observe", lambda path, wake: None)


@contextmanager
def watching(path: Path, clock: Any, inbox: Any, poll_s: float = NEVER_S) -> Iterator[FileNotice]:
    """With the default *poll_s* whatever arrives was brought by inotify."""
    source = FileNotice(path, clock, poll_s=poll_s)
    source.start(inbox.post)
    try:
        yield source
    finally:
        source.stop()


def test_an_empty_file_is_two_minutes(path: Path, clock: Any, inbox: Any) -> None:
    with watching(path, clock, inbox):
        path.touch()
        inbox.wait(1)
    assert (inbox.notice(0).provider, inbox.notice(0).window_ms) == ("file", 120_000)
    assert (inbox.notice(0).action, inbox.notice(0).deadline_at) == ("terminate", None)
    assert inbox.seen_s == [clock.mono_s()]


def test_a_deadline_is_set_against_the_wall_clock(path: Path, clock: Any, inbox: Any) -> None:
    with watching(path, clock, inbox):
        path.write_text('{"deadline": "2026-11-21T12:00:45Z"}')
        inbox.wait(1)
    assert (inbox.notice(0).window_ms, inbox.notice(0).deadline_at) == (45_000, "2026-11-21T12:00:45Z")


def test_a_window_that_is_over_ends_now(path: Path, clock: Any, inbox: Any) -> None:
    with watching(path, clock, inbox):
        path.write_text('{"window_s": -5}')
        inbox.wait(1)
    assert inbox.notice(0).window_ms == 0


def test_it_is_read_when_its_writer_closes_it(path: Path, clock: Any, inbox: Any) -> None:
    with watching(path, clock, inbox) as source:
        with path.open("w") as writer:
            writer.write('{"window_s"')
            writer.flush()
            source.look(closed=False)
            assert inbox.events == []
            writer.write(": 30}")
        inbox.wait(1)
    assert inbox.notice(0).window_ms == 30_000


def test_a_late_word_of_an_earlier_writer_does_not_cut_the_next_one_short(
    path: Path, clock: Any, inbox: Any, no_inotify: None
) -> None:
    with watching(path, clock, inbox) as source, path.open("w") as writer:
        source.look(closed=True)
        assert inbox.events == []
        writer.write('{"window_s": 30}')
        writer.close()
        source.look(closed=True)
    assert [event.window_ms for event in inbox.events] == [30_000]


@pytest.mark.parametrize("how", ["rename", "rename from elsewhere", "hard link"])
def test_a_file_that_arrives_whole_counts(
    how: str, path: Path, clock: Any, inbox: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ready = (path.parent if how == "rename" else tmp_path_factory.mktemp("elsewhere")) / "ready"
    ready.write_text('{"window_s": 9}')
    with watching(path, clock, inbox):
        if how == "hard link":
            path.hardlink_to(ready)
        else:
            ready.rename(path)
        inbox.wait(1)
    assert inbox.notice(0).window_ms == 9_000


def test_one_that_is_there_already_is_posted_before_start_returns(path: Path, clock: Any, inbox: Any) -> None:
    path.write_text('{"window_s": 30}')
    with watching(path, clock, inbox):
        assert len(inbox.events) == 1
    with watching(path, clock, inbox):
        assert inbox.notice(0) == inbox.notice(1), "the id is the file's, so that the journal can drop it"


def test_removal_cancels(path: Path, clock: Any, inbox: Any) -> None:
    with watching(path, clock, inbox):
        path.touch()
        inbox.wait(1)
        path.unlink()
        events = inbox.wait(2)
    assert events[1] == NoticeCancelled(notice_id=inbox.notice(0).notice_id)


def test_a_notice_may_come_and_go_again(path: Path, clock: Any, inbox: Any) -> None:
    with watching(path, clock, inbox):
        for count in (1, 3):
            path.touch()
            inbox.wait(count)
            path.unlink()
            inbox.wait(count + 1)
    ids = [event.notice_id for event in inbox.events]
    assert ids == [ids[0], ids[0], ids[2], ids[2]]


def test_rewriting_is_a_new_notice_and_removal_then_cancels_both(path: Path, clock: Any, inbox: Any) -> None:
    with watching(path, clock, inbox):
        path.write_text('{"window_s": 120}')
        inbox.wait(1)
        path.write_text('{"window_s": 30}')
        inbox.wait(2)
        path.unlink()
        inbox.wait(4)
    assert [inbox.notice(0).window_ms, inbox.notice(1).window_ms] == [120_000, 30_000]
    ids = [inbox.notice(0).notice_id, inbox.notice(1).notice_id]
    assert len(set(ids)) == 2
    assert inbox.events[2:] == [NoticeCancelled(notice_id=identity) for identity in ids]


def test_nonsense_is_a_notice_all_the_same(path: Path, clock: Any, inbox: Any, log: list[str]) -> None:
    with watching(path, clock, inbox):
        path.write_text("soon")
        inbox.wait(1)
    assert inbox.notice(0).window_ms == 120_000
    assert log == [f"the notice {path} makes no sense (not JSON): taken for one of 120 s"]


def test_a_directory_that_appears_there_is_a_notice(
    path: Path, clock: Any, inbox: Any, log: list[str]
) -> None:
    source = FileNotice(path, clock)
    path.mkdir()
    source.start(inbox.post)
    source.stop()
    assert inbox.notice(0).window_ms == 120_000
    assert len(log) == 1


def test_a_directory_that_vanishes_is_no_error_and_no_cancel(
    tmp_path: Path, clock: Any, inbox: Any, no_inotify: None
) -> None:
    directory, path = tmp_path / "mount", tmp_path / "mount" / "notice"
    directory.mkdir()
    path.touch()
    with watching(path, clock, inbox) as source:
        directory.rename(tmp_path / "away")
        source.look(closed=False)
        assert len(inbox.events) == 1
        directory.mkdir()
        source.look(closed=False)
        assert inbox.events[1:] == [NoticeCancelled(notice_id=inbox.notice(0).notice_id)]


def test_a_directory_that_was_replaced_is_watched_on(tmp_path: Path, clock: Any, inbox: Any) -> None:
    directory = tmp_path / "mount"
    directory.mkdir()
    with watching(directory / "notice", clock, inbox, poll_s=0.01):
        directory.rmdir()
        directory.mkdir()
        (directory / "notice").write_text('{"window_s": 30}')
        inbox.wait(1)
    assert inbox.notice(0).window_ms == 30_000


def test_the_slow_look_finds_what_inotify_does_not_tell(
    path: Path, clock: Any, inbox: Any, no_inotify: None
) -> None:
    with watching(path, clock, inbox, poll_s=0.01):
        path.write_text('{"window_s": 30}')
        inbox.wait(1)
        path.unlink()
        inbox.wait(2)
    assert inbox.notice(0).window_ms == 30_000


def test_without_leases_content_must_be_stable(
    path: Path, clock: Any, inbox: Any, no_inotify: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_module, "open_for_writing", lambda descriptor: None)
    with watching(path, clock, inbox) as source:
        path.write_text('{"window_s"')
        source.look(closed=False)
        clock.pass_s(NEVER_S)
        path.write_text('{"window_s": 30}')
        source.look(closed=False)
        assert inbox.events == []
        clock.pass_s(NEVER_S)
        source.look(closed=False)
    assert inbox.notice(0).window_ms == 30_000
    assert inbox.seen_s == [clock.mono_s() - NEVER_S], "its window counts from when it was first seen"


def test_a_writer_that_never_closes_loses_no_notice(
    path: Path, clock: Any, inbox: Any, no_inotify: None
) -> None:
    with watching(path, clock, inbox) as source, path.open("w") as writer:
        writer.write('{"deadline": "2026-11-21T12:00:45Z"}')
        writer.flush()
        source.look(closed=False)
        clock.pass_s(WRITER_PATIENCE_S)
        source.look(closed=False)
    assert inbox.notice(0).window_ms == 45_000
    assert inbox.seen_s == [clock.mono_s() - WRITER_PATIENCE_S]


def test_a_read_lease_tells_writers(path: Path) -> None:
    path.touch()
    descriptor = os.open(path, os.O_RDONLY)
    try:
        assert open_for_writing(descriptor) in (False, None)
        with path.open("a"):
            assert open_for_writing(descriptor) in (True, None)
    finally:
        os.close(descriptor)


def test_nothing_is_posted_and_nothing_runs_after_stop(path: Path, clock: Any, inbox: Any) -> None:
    before = threading.active_count()
    with watching(path, clock, inbox) as source:
        pass
    path.touch()
    source.look(closed=True)
    assert inbox.events == []
    assert threading.active_count() == before


def test_a_source_may_be_stopped_from_its_own_post(path: Path, clock: Any, inbox: Any) -> None:
    source = FileNotice(path, clock)
    stopped = threading.Event()

    def post(event: Any, seen_mono_s: float) -> None:
        source.stop()
        stopped.set()

    source.start(post)
    path.touch()
    assert stopped.wait(20)


def test_bad_paths_are_one_line(tmp_path: Path, clock: Any) -> None:
    with pytest.raises(UsageError, match="there is no directory") as missing:
        FileNotice(tmp_path / "no" / "notice", clock)
    assert "\n" not in str(missing.value)
    with pytest.raises(UsageError, match="is not a file"):
        FileNotice(tmp_path, clock)
