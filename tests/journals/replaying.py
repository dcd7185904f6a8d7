"""For tests of any kind that end with a store: the journal in it must replay."""

from __future__ import annotations

from fsnap.charts import task_chart
from fsnap.cli.replaysource import read_source
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
