"""The command line: parse, call one verb, map errors to exit codes, once.

Verbs are imported when they are called, so that ``fsnap status`` answers at once.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import threading
from collections.abc import Sequence
from typing import NoReturn

import fsnap
from fsnap.errors import EXIT_USAGE, FsnapError


class Parser(argparse.ArgumentParser):
    """One line per mistake, exit code 2."""

    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"fsnap: {message}. See '{self.prog} --help'.\n")
        raise SystemExit(EXIT_USAGE)


def build_parser() -> Parser:
    """All verbs and flags."""
    from fsnap.cli import flags

    parser = Parser(
        prog="fsnap", description="Keeps the work of batch tasks on machines that are taken away."
    )
    parser.add_argument("--version", action="version", version=f"fsnap {fsnap.__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=Parser)
    flags.add_run(verbs)
    flags.add_status(verbs)
    flags.add_hooks(verbs)
    flags.add_replay(verbs)
    flags.add_verify(verbs)
    flags.add_gc(verbs)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code.

    Without *argv* it is this process's own, which ends with it.
    """
    if argv is not None:
        return _main(list(argv))
    words = sys.argv[1:]
    if words[:1] == ["run"]:
        from fsnap import signals

        signals.hold()
    code = _main(words)
    if threading.active_count() > 1:
        _leave(code)
    return code


def _leave(code: int) -> NoReturn:
    """End with *code*, whatever a thread that was given up still does.

    An interpreter that ends takes such a thread apart, which C++ code in it answers with an abort.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _main(words: list[str]) -> int:
    _complete_streams()
    try:
        arguments = build_parser().parse_args(words)
        if arguments.verb == "run":
            from fsnap.cli.run import run

            return run(arguments)
        if arguments.verb == "hooks":
            from fsnap.cli.hooks import hooks

            return hooks(arguments)
        if arguments.verb == "verify":
            from fsnap.cli.verify import verify

            return verify(arguments)
        if arguments.verb == "gc":
            from fsnap.cli.gc import gc

            return gc(arguments)
        if arguments.verb == "replay":
            from fsnap.cli.replay import replay

            return replay(arguments)
        from fsnap.cli.status import status

        return status(arguments)
    except FsnapError as problem:
        sys.stderr.write(f"fsnap: {one_line(problem)}\n")
        return problem.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except KeyboardInterrupt:
        return 130


def _complete_streams() -> None:
    """Open what our caller closed of 0 to 2: no other file may get a number that output is written to."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)
    sys.stderr = sys.stderr or open(2, "w", closefd=False)


def one_line(problem: FsnapError) -> str:
    """What happened, and what to do about it."""
    text = " ".join(str(problem).split())
    if not problem.hint:
        return text
    return f"{text}{'' if text.endswith(('.', '!', '?')) else '.'} {problem.hint}"


if __name__ == "__main__":
    sys.exit(main())
