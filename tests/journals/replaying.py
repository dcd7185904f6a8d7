"""For tests of any kind that end with a store: the journal in it must replay."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from fsnap.charts import task_chart
from fsnap.cli.replaysource import CannotRead, read_source
from fsnap.cli.replaytext import to_text
from fsnap.cli.replayview import TaskView, view_of
from fsnap.core.whatif import Assumed


def assert_replays(store_url: str, task: str) -> TaskView:
    """Every record of *task* in the store comes out as it was recorded, and none is missing."""
    view = view_of(task_chart(), read_source(store_url, task), Assumed())
    (one,) = view.tasks
    told = to_text(view, with_records=True)
    assert not one.replay.divergences, told
    assert view.whole, told
    assert one.redecided == len(one.replay.steps) > 0, told
    return one


def assert_nothing_diverged(root: Path) -> int:
    """No journal in a store or ``journal.db`` below *root* diverges; how many records were decided again.

    For the end of tests that damage what they made: what can't be read is passed over.
    """
    stores = {folder.parents[2] for folder in root.rglob("tasks/*/journal")}
    sources = [f"file://{quote(str(store))}" for store in sorted(stores)]
    sources += [str(path) for path in sorted(root.rglob("journal.db"))]
    redecided = 0
    for source in sources:
        try:
            view = view_of(task_chart(), read_source(source, None), Assumed())
        except CannotRead:
            continue
        assert not view.diverged, to_text(view, with_records=True)
        redecided += sum(task.redecided for task in view.tasks)
    return redecided
