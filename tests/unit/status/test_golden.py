"""What ``fsnap status`` prints, to the letter.  ``GOLDEN=write`` in the environment writes the files anew."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fsnap.cli.render import to_json, to_text
from fsnap.cli.sources import Look
from fsnap.core.model import Attempt, Config, State
from fsnap.core.status import Signs, TaskView, Whereabouts, seen_of, view_of
from tests.unit.status.lab import HOLDER, MIB, NOW, ago, pending, ref, signs, state

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
OLD, BAD, FINAL = "000001-0000000005", "000001-0000000007", "000002-0000000012"


def running() -> TaskView:
    task = state(
        snapshots=(ref(OLD, age_s=900), ref(BAD, age_s=600), ref(FINAL, kind="final", age_s=300, epoch=2)),
        attempt=Attempt(scheduler="aws-batch", job="5f3c", number=2),
        note="resumed from snapshot 000002-0000000012",
        reclaims_survived=2,
        work_saved_ms=3_725_250,
    )
    return view_of(seen_of(task), signs(), NOW)


def in_trouble() -> TaskView:
    task = state(
        State.RESUMED,
        task="call/sample:7",
        snapshots=(ref(OLD, age_s=900), ref(BAD, age_s=600)),
        quarantined=(BAD,),
        holder=replace(HOLDER, node="ip-10-0-0-17"),
        config=Config(provider="gcp"),
        command=("bash", "-c", "set -e\n\x1b[31mcall \u202e 'x'"),
        since=ago(90),
    )
    return view_of(seen_of(task), signs(beat_s=305, commit_ms=41_500), NOW)


def dumping() -> TaskView:
    task = state(
        State.DUMPING,
        task="dump",
        since=ago(2),
        standing=(pending(left_s=22, wall=True),),
        snapshots=(ref(),),
    )
    return view_of(seen_of(task), signs(commit_ms=9_000), NOW)


def others() -> list[TaskView]:
    tasks = [
        state(
            State.UPLOADED,
            task="away",
            snapshots=(ref(FINAL, kind="final", age_s=8, bytes=812, new_bytes=0, stored_bytes=0),),
            since=ago(8),
            standing=(pending(left_s=100),),
            note="committed",
        ),
        state(task="bare", held=False, outcome="reclaimed", note="a retry starts from nothing"),
        state(State.COMPLETED, task="done", exit_code=0, outcome="exited", snapshots=(ref(kind="files"),)),
        state(State.FAILED, task="lost", exit_code=3, outcome="exited", since=ago(200_000)),
        state(State.FAILED, task="stopped", exit_code=143, outcome="cancelled"),
        state(State.NEW, task="void", epoch=0, since="", command=()),
    ]
    return [view_of(seen_of(task), Signs(), NOW) for task in tasks]


def unprotected() -> TaskView:
    task = state(task="ring", snapshots=(ref(bytes=2 * MIB),))
    return view_of(seen_of(task), signs(unsupported=True, reason="PID 1004 uses io_uring"), NOW)


def gone() -> TaskView:
    return view_of(seen_of(state(task="gone")), Signs(whereabouts=Whereabouts.GONE), NOW)


def look(*views: TaskView, **more: tuple[str, ...]) -> Look:
    return Look(source="s3://bucket/tasks", now=NOW, views=views, **more)  # type: ignore[arg-type]


def overview() -> Look:
    return Look(
        source="s3://bucket/tasks",
        now=NOW,
        views=tuple(sorted([running(), in_trouble(), dumping(), unprotected(), *others()], key=by_name)),
        errors=(("torn", "s3://bucket/tasks: tasks/torn/journal/0000000001.json: not JSON"),),
        notes=("of this many tasks the heads are shown, not the journals",),
    )


def by_name(view: TaskView) -> str:
    return view.seen.task


def agree(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_overview_as_text() -> None:
    agree("status-overview.txt", to_text(overview(), task=None))


def test_overview_on_a_narrow_terminal() -> None:
    agree("status-overview-narrow.txt", to_text(overview(), task=None, columns=100))


def test_overview_as_json() -> None:
    agree("status-overview.json", to_json(overview()) + "\n")


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("running", running()),
        ("trouble", in_trouble()),
        ("dumping", dumping()),
        ("unprotected", unprotected()),
        ("gone", gone()),
        *((view.seen.task, view) for view in others()),
    ],
)
def test_one_task_as_text(name: str, made: TaskView) -> None:
    agree(f"status-task-{name}.txt", to_text(look(made), task=made.seen.task))


def test_one_task_as_json() -> None:
    agree("status-task.json", to_json(look(running())) + "\n")


def test_no_task() -> None:
    agree("status-empty.txt", to_text(look(), task=None))
    agree("status-empty.json", to_json(look()) + "\n")


def test_many_snapshots_are_cut_short() -> None:
    snapshots = tuple(ref(f"000001-{n:010d}", age_s=5_000 - 60 * n) for n in range(1, 21))
    shown = view_of(seen_of(state(snapshots=snapshots)), signs(), NOW)
    agree("status-task-many.txt", to_text(look(shown), task="align"))


def test_every_golden_file_is_of_a_test() -> None:
    """A file that nothing compares with is not a promise any more."""
    source = Path(__file__).read_text(encoding="utf-8")
    made = {
        f"status-task-{name}.txt" for name in ("running", "trouble", "dumping", "unprotected", "gone", "many")
    }
    made |= {f"status-task-{view.seen.task}.txt" for view in others()}
    for path in GOLDEN.glob("status-*"):
        assert path.name in made or f'"{path.name}"' in source


def test_the_text_holds_nothing_that_a_terminal_acts_on() -> None:
    for text in (to_text(overview(), task=None), to_text(look(in_trouble()), task="x")):
        assert all(sign.isprintable() or sign == "\n" for sign in text)


REQUIRED: dict[str, Any] = {
    "task": str,
    "state": str,
    "epoch": int,
    "node": (str, type(None)),
    "since": (str, type(None)),
    "command": (str, type(None)),
    "snapshot": (dict, type(None)),
    "reclaims_survived": int,
    "work_saved_s": (int, float),
    "window": (dict, type(None)),
    "margin_s": (int, float, type(None)),
}


def test_every_row_has_every_field_in_its_type() -> None:
    document = json.loads(to_json(overview()))
    assert document["schema"] == 1
    assert len(document["tasks"]) == 10
    for row in document["tasks"]:
        assert list(row)[: len(REQUIRED)] == list(REQUIRED)
        for name, kinds in REQUIRED.items():
            assert isinstance(row[name], kinds), name
        if row["snapshot"]:
            assert list(row["snapshot"]) == ["id", "bytes", "new_bytes", "stored_bytes", "committed_at"]
        if row["window"]:
            assert list(row["window"]) == ["deadline", "left_s"]
        assert "-" not in row.values()
