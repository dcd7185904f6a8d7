"""``fsnap replay``: decide every record again, and show what happened in which second."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from fsnap.charts import task_chart
from fsnap.cli.flags import keys_of
from fsnap.cli.replaysource import read_source
from fsnap.cli.replaytext import to_text
from fsnap.cli.replayview import View, to_json, view_of
from fsnap.core.whatif import assumed
from fsnap.errors import UsageError
from fsnap.stores.urls import parse_url

EXIT_SAME = 0
EXIT_UNREADABLE = 1
EXIT_DIVERGED = 3


def replay(arguments: argparse.Namespace) -> int:
    """Print it; 0 all the same, 3 diverged, 1 where something can't be read.

    :class:`~fsnap.errors.UsageError`; :class:`~fsnap.cli.replaysource.CannotRead`.
    """
    what = assumed(arguments.what_if or ())
    if arguments.html is not None:
        _refuse_to_overwrite(arguments.source, Path(arguments.html))
    view = view_of(task_chart(), read_source(arguments.source, arguments.task, keys_of(arguments)), what)
    if arguments.html is not None:
        _write_page(view, Path(arguments.html))
    if arguments.json:
        text = to_json(view, alone=arguments.task is not None) + "\n"
    else:
        text = to_text(view, with_records=len(view.tasks) == 1)
    coding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(coding, "replace").decode(coding))
    sys.stdout.flush()
    return exit_code(view)


def exit_code(view: View) -> int:
    """A divergence is one whatever else is wrong; a part that can't be read is not vouched for."""
    if view.diverged:
        return EXIT_DIVERGED
    return EXIT_SAME if view.whole else EXIT_UNREADABLE


def _refuse_to_overwrite(source: str, page: Path) -> None:
    """The page must not take the place of SOURCE, of a file beside it, or of an object in it."""
    there = Path(os.path.realpath(page))
    if source.startswith("file:"):
        root = Path(os.path.realpath(parse_url(source).path))
        is_source = root == there or root in there.parents
    else:
        given = Path(source)
        names = [Path(f"{one}{end}") for one in (given, given / "journal.db") for end in ("", "-wal", "-shm")]
        is_source = "://" not in source and there in [Path(os.path.realpath(name)) for name in names]
    if is_source:
        raise UsageError(f"--html {page}: that is SOURCE, or within it", hint="Name another file.")


def _write_page(view: View, page: Path) -> None:
    from fsnap.cli.replayhtml import to_html
    from fsnap.durable import write_atomic

    try:
        write_atomic(page, to_html(view).encode("utf-8", "replace"))
    except OSError as problem:
        raise UsageError(
            f"--html {page}: {problem.strerror or problem}", hint="Name a file that can be written."
        ) from problem
