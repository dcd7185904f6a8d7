"""``fsnap status``: what runs where, what is safe, and what is not."""

from __future__ import annotations

import argparse
import os
import shutil
import sys

from fsnap.agent.home import home_path, journal_path
from fsnap.cli.flags import keys_of
from fsnap.cli.render import to_json, to_text
from fsnap.cli.sources import LocalSource, Look, Source, unknown
from fsnap.clock import Clock, SystemClock
from fsnap.errors import FsnapError, UsageError
from fsnap.ids import MAX_KEY_CHARS, task_key

EXIT_HEALTHY = 0
EXIT_ERROR = 1
EXIT_ATTENTION = 2

WATCH_S = 2.0
CLEAR = "\x1b[H\x1b[2J"
"""ECMA-48: cursor home, erase the screen."""


class CannotTell(FsnapError):
    """The journal or the store can't be read, or stdout not be written.

    What went wrong has an exit code of its own, which means something else here.
    """

    code = "status"
    exit_code = EXIT_ERROR


def status(arguments: argparse.Namespace, clock: Clock | None = None) -> int:
    """Print it; 0 healthy, 2 attention, 1 where a task, or all, can't be read.

    :class:`~fsnap.errors.UsageError` for a bad store URL; :class:`CannotTell`,
    :class:`~fsnap.cli.sources.UnknownTask`.
    """
    used = clock or SystemClock()
    source, task = _source(arguments), _checked(arguments.task)
    look = _look(source, task, used)
    _show(look, task, arguments)
    if not arguments.watch:
        return _exit_code(look)
    return _watch(source, task, arguments, used, _exit_code(look))


def _watch(source: Source, task: str | None, arguments: argparse.Namespace, clock: Clock, code: int) -> int:
    """Look again until Ctrl-C; the exit code that the last look called for."""
    try:
        while True:
            clock.sleep(WATCH_S)
            try:
                look = _look(source, task, clock)
            except FsnapError as problem:
                from fsnap.cli.main import one_line

                code = EXIT_ERROR
                sys.stderr.write(f"fsnap: {one_line(problem)}\n")
                continue
            _show(look, task, arguments)
            code = _exit_code(look)
    except KeyboardInterrupt:
        return code


def _source(arguments: argparse.Namespace) -> Source:
    """The store of the line or of ``FSNAP_STORE``; this node's journal where neither names one.

    That is never sealed, so that no key is needed.
    """
    url = arguments.store or os.environ.get("FSNAP_STORE")
    if not url:
        return LocalSource(journal_path(home_path(os.environ)))
    from fsnap.cli.storesource import open_source

    try:
        return open_source(url, keys_of(arguments))
    except UsageError:
        raise
    except FsnapError as problem:
        raise CannotTell(str(problem), hint=problem.hint) from problem


def _checked(task: str | None) -> str | None:
    if task == "":
        raise UsageError("TASK is empty", hint="Name a task, or none to see them all.")
    if task is not None and len(task_key(task)) > MAX_KEY_CHARS:
        raise unknown(task[:40] + "...", "no id is that long")
    return task


def _look(source: Source, task: str | None, clock: Clock) -> Look:
    try:
        return source.look(task, clock.wall())
    except FsnapError as problem:
        if problem.exit_code == EXIT_ERROR:
            raise
        raise CannotTell(str(problem), hint=problem.hint) from problem


def _exit_code(look: Look) -> int:
    if look.errors:
        return EXIT_ERROR
    return EXIT_ATTENTION if any(view.attention for view in look.views) else EXIT_HEALTHY


def _show(look: Look, task: str | None, arguments: argparse.Namespace) -> None:
    """One document, or one screen; when watching, a document is one line."""
    if arguments.json:
        text = to_json(look, indent=None if arguments.watch else 2) + "\n"
    else:
        terminal = sys.stdout.isatty()
        text = to_text(look, task=task, columns=shutil.get_terminal_size().columns if terminal else None)
        if arguments.watch:
            text = CLEAR + text if terminal else text + "\n"
    coding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.write(text.encode(coding, "replace").decode(coding))
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as problem:
        # What is left in the buffer would fail once more at the interpreter's end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise CannotTell(f"stdout can't be written: {problem.strerror}") from problem
