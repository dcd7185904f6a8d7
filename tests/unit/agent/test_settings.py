"""Which directories may be state dirs, and which task and attempt this is."""

from __future__ import annotations

from pathlib import Path

import pytest

from fsnap.agent.attempts import identify, on_aws_batch
from fsnap.agent.home import DEFAULT_HOME, RunDir, home_path, journal_path
from fsnap.agent.settings import checked_keys, checked_state_dirs
from fsnap.core.model import Attempt
from fsnap.errors import KeyFileError, NotOurs, UsageError


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in ("work/sub", "other", "home"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


def checked(place: Path, *given: str, store: str = "", home: str = "home") -> tuple[Path, ...]:
    dirs = tuple(str(place / one) if not one.startswith("/") else one for one in given)
    url = store or f"file://{place}/S"
    return checked_state_dirs(dirs, cwd=place / "work", home=place / home, store_url=url)


def test_without_any_it_is_the_current_directory(place: Path) -> None:
    assert checked(place) == (place / "work",)


def test_links_are_followed_and_doubles_dropped(place: Path) -> None:
    (place / "link").symlink_to("work")
    assert checked(place, "link", "work", "other") == (place / "work", place / "other")


def test_one_below_another_is_part_of_it(place: Path) -> None:
    assert checked(place, "work/sub", "work") == (place / "work",)
    (place / "work-2").mkdir()
    assert checked(place, "work", "work-2") == (place / "work", place / "work-2")


@pytest.mark.parametrize("given", ["missing", "work/sub/missing"])
def test_one_that_is_not_there(place: Path, given: str) -> None:
    with pytest.raises(UsageError, match="there is no such directory"):
        checked(place, given)


def test_the_whole_machine(place: Path) -> None:
    with pytest.raises(UsageError, match="--state-dir /"):
        checked(place, "/")


@pytest.mark.parametrize("store", ["work", "work/S", "work/a%20b/S", "link/S"])
def test_one_that_holds_the_store(place: Path, store: str) -> None:
    (place / "link").symlink_to("work")
    with pytest.raises(UsageError, match="it holds the store"):
        checked(place, "work", store=f"file://{place}/{store}")


def test_an_escaped_store_beside_it(place: Path) -> None:
    assert checked(place, "work", store=f"file://{place}/work%20S") == (place / "work",)


@pytest.mark.parametrize("home", ["work", "work/sub/home"])
def test_one_that_holds_the_home(place: Path, home: str) -> None:
    with pytest.raises(UsageError, match="it holds FSNAP_HOME"):
        checked(place, "work", home=home)


def test_a_bucket_is_in_no_directory(place: Path) -> None:
    assert checked(place, "work", store="s3://bucket/prefix") == (place / "work",)


def test_a_bad_store_is_told_before_any_directory(place: Path) -> None:
    with pytest.raises(UsageError, match="three slashes"):
        checked(place, "missing", store="file://dir")


# -- task and attempt

BATCH = {"AWS_BATCH_JOB_ID": "j-1", "AWS_BATCH_JOB_ATTEMPT": "3"}


def test_off_a_scheduler_the_task_must_be_named() -> None:
    with pytest.raises(UsageError, match="no --task"):
        identify(task=None, step=None, attempt=None, env={})


def test_named_task_and_step() -> None:
    assert identify(task="T", step=None, attempt=None, env={}) == ("T", None)
    assert identify(task="T", step="s", attempt=None, env={}) == ("T/s", None)


def test_aws_batch_names_both() -> None:
    task, attempt = identify(task=None, step="s", attempt=None, env=BATCH)
    assert task == "j-1/s"
    assert attempt == Attempt(scheduler="aws-batch", job="j-1", number=3)
    assert attempt.proves_end


def test_the_attempt_counts_under_a_task_that_is_named() -> None:
    task, attempt = identify(task="T", step=None, attempt=None, env=BATCH)
    assert (task, attempt) == ("T", Attempt(scheduler="aws-batch", job="j-1", number=3))


def test_a_given_attempt_proves_nothing() -> None:
    _, attempt = identify(task="T", step=None, attempt=4, env=BATCH)
    assert attempt == Attempt(scheduler="manual", job="T", number=4)
    assert not attempt.proves_end


@pytest.mark.parametrize(
    ("env", "job"),
    [
        ({"AWS_BATCH_JOB_ID": "j:7", "AWS_BATCH_JOB_ARRAY_INDEX": "7"}, "j:7"),
        ({"AWS_BATCH_JOB_ID": "j", "AWS_BATCH_JOB_ARRAY_INDEX": "7"}, "j:7"),
        ({"AWS_BATCH_JOB_ID": "j", "AWS_BATCH_JOB_ARRAY_INDEX": ""}, "j"),
        ({"AWS_BATCH_JOB_ID": "j:17", "AWS_BATCH_JOB_ARRAY_INDEX": "7"}, "j:17:7"),
    ],
)
def test_children_of_an_array_are_tasks_of_their_own(env: dict[str, str], job: str) -> None:
    assert identify(task=None, step=None, attempt=None, env=env)[0] == job


def test_the_first_attempt_has_no_number_in_old_environments() -> None:
    _, attempt = identify(task=None, step=None, attempt=None, env={"AWS_BATCH_JOB_ID": "j"})
    assert attempt is not None
    assert attempt.number == 1


@pytest.mark.parametrize("number", ["x", "-1", "1.5", ""])
def test_a_number_that_is_none(number: str) -> None:
    with pytest.raises(UsageError, match="AWS_BATCH_JOB_ATTEMPT"):
        identify(task=None, step=None, attempt=None, env={**BATCH, "AWS_BATCH_JOB_ATTEMPT": number})


@pytest.mark.parametrize("task", ["", "a/b", ".a", "a b", "x" * 129, "ä", "a\n"])
def test_ids_that_are_none(task: str) -> None:
    with pytest.raises(UsageError, match="--task"):
        identify(task=task, step=None, attempt=None, env={})
    with pytest.raises(UsageError, match="--name"):
        identify(task="T", step=task, attempt=None, env={})


def test_a_negative_attempt() -> None:
    with pytest.raises(UsageError, match="--attempt -1"):
        identify(task="T", step=None, attempt=-1, env={})


def test_on_aws_batch() -> None:
    assert on_aws_batch(BATCH)
    assert not on_aws_batch({"AWS_BATCH_JOB_ID": ""})


# -- the home


def test_home_is_absolute_and_has_a_default(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    assert home_path({}) == home_path({"FSNAP_HOME": ""}) == Path(DEFAULT_HOME)
    assert home_path({"FSNAP_HOME": "home"}) == place / "home"
    assert journal_path(place) == place / "journal.db"


def test_run_dir_is_closed_to_others_and_sweeps_all_but_its_locks(place: Path) -> None:
    run_dir = RunDir(place / "home", "a/b")
    assert run_dir.path == place / "home" / "run" / "a=2Fb"
    assert run_dir.path.stat().st_mode & 0o777 == 0o700
    (run_dir.path / "init.sock").touch()
    (run_dir.path / "images" / "deep").mkdir(parents=True)
    (run_dir.path / "link").symlink_to(place / "work")
    (run_dir.path / "init.lock").touch()
    run_dir.sweep()
    assert [path.name for path in run_dir.path.iterdir()] == ["init.lock"]
    assert (place / "work" / "sub").is_dir()


def test_one_agent_at_a_time(place: Path) -> None:
    run_dir = RunDir(place / "home", "T")
    run_dir.lock_agent()
    with pytest.raises(NotOurs, match="fsnap process"):
        RunDir(place / "home", "T").lock_agent()
    RunDir(place / "home", "other").lock_agent()


def test_one_init_at_a_time(place: Path) -> None:
    run_dir = RunDir(place / "home", "T")
    assert run_dir.lock_init() is not None
    assert run_dir.lock_init() is None


def test_a_key_file_does_not_travel(place: Path) -> None:
    path = place / "work" / "sub" / "keys"
    path.touch(0o600)
    path.write_text("k1 " + "A" * 43 + "=\n")
    with pytest.raises(KeyFileError, match="which travels with the task"):
        checked_keys(path, (place / "other", place / "work"))
    (place / "link").symlink_to(path)
    with pytest.raises(KeyFileError, match="which travels with the task"):
        checked_keys(place / "link", (place / "work",))
    found = checked_keys(path, (place / "other",))
    assert found is not None
    assert found.first.id == "k1"
    assert checked_keys(None, (place / "work",)) is None
