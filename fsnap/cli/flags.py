"""The flags of each verb.  A flag beats ``FSNAP_<FLAG>``, which beats the configuration file."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from fsnap.errors import UsageError
from fsnap.keys import KeyRing, read_key_file

VARIABLE = "FSNAP_"
CHOICES = {
    "after_commit": ("hold", "exit"),
    "tcp": ("established", "close"),
    "warm": ("auto", "off"),
    "on_restore_failure": ("restart", "fail"),
    "log_format": ("text", "json"),
}
"""Flags of ``run`` that take one of a few words, wherever the word comes from."""
KEY_FILE = "keys, of which the first seals what goes to the store"


def add_run(verbs: Any) -> None:
    """``fsnap run``."""
    run = verbs.add_parser(
        "run",
        help="start a task, or go on with it",
        usage="fsnap run [flags] -- CMD [ARG...]",
        description="Restore the task if a committed snapshot exists, else start it. Idempotent: "
        "start the same line again after exit codes 175 to 177.",
    )
    add = run.add_argument
    add(
        "--task", metavar="ID", help="the task's id, the same in every attempt (a scheduler's variables else)"
    )
    add("--name", metavar="STEP", help="a step within the task")
    add(
        "--attempt", type=int, metavar="N", help="the scheduler's count of starts; a higher one may take over"
    )
    add("--store", metavar="URL", help="file:///dir, s3://bucket/prefix (default: $FSNAP_HOME/store)")
    add(
        "--state-dir", action="append", metavar="DIR", help="travels with the task (default: the current one)"
    )
    add("--scratch", action="append", metavar="DIR", help="like /tmp: what the task writes there travels")
    add("--exclude", action="append", metavar="GLOB", help="files that do not travel")
    add("--append-only", action="append", metavar="GLOB", help="files of which only the tail is ever new")
    add("--include-inputs", action="store_true", help="store files that were there before the task, too")
    add("--shared-state", action="store_true", help="the state dirs are on shared storage")
    add("--provider", metavar="P", help="auto, aws, none, or file:PATH (default: auto)")
    add("--after-commit", choices=CHOICES["after_commit"], help="wait for the host to go, or end with 177")
    add(
        "--interval",
        metavar="S",
        help="seconds between periodic checkpoints, 'auto' or 'off' (default: auto)",
    )
    add("--max-overhead", type=float, metavar="PCT", help="slowdown that checkpoints may cost (default: 2)")
    add(
        "--lease",
        type=float,
        metavar="S",
        help="silence after which another node may take over (default: 120)",
    )
    add("--wait", type=float, metavar="S", help="how long to wait for a claim (default: 0)")
    add("--term-window", type=float, metavar="S", help="seconds that a SIGTERM leaves (default: 25)")
    add("--warm", choices=CHOICES["warm"], help="store memory ahead while the task runs (default: auto)")
    add("--tcp", choices=CHOICES["tcp"], help="what a restore does with connections")
    add("--ipc", action="store_true", help="give the task an IPC namespace (SysV shared memory)")
    add("--fresh", action="store_true", help="forget what there is of this task and begin anew")
    add(
        "--on-restore-failure",
        choices=CHOICES["on_restore_failure"],
        help="when no snapshot can be restored here",
    )
    add("--unprotected-ok", action="store_true", help="run even where nothing can be saved")
    add("--stdout", metavar="F", help="send the task's stdout to a file, exactly once")
    add("--stderr", metavar="F", help="the same for stderr")
    add("--result-file", metavar="F", help="write the outcome there, as JSON")
    add("--dry-run", action="store_true", help="say what would be done, and do nothing")
    add("--key-file", metavar="F", help=KEY_FILE)
    add("--log-format", choices=CHOICES["log_format"], help="of the log on stderr")
    add("--log-file", metavar="F", help="log there instead")
    add("--verbose", action="store_true", help="log more")
    add("command", nargs=argparse.REMAINDER, metavar="-- CMD")


def add_status(verbs: Any) -> None:
    """``fsnap status``."""
    status = verbs.add_parser("status", help="what runs where, what is safe, and what is not")
    add = status.add_argument
    add("task", nargs="?", metavar="TASK")
    add("--store", metavar="URL", help="read a store instead of this node's journal")
    add("--json", action="store_true", help="one JSON document")
    add("--watch", action="store_true", help="show it again every two seconds")
    add("--key-file", metavar="F", help=KEY_FILE)


def add_hooks(verbs: Any) -> None:
    """``fsnap hooks``."""
    hooks = verbs.add_parser("hooks", help="print a working snippet for a scheduler")
    hooks.add_argument("name", nargs="?", metavar="NAME", help="the snippet (default: list them)")
    hooks.add_argument("--list", action="store_true", help="the names, with one line each")


def add_replay(verbs: Any) -> None:
    """``fsnap replay``."""
    replay = verbs.add_parser(
        "replay",
        help="decide every record of a journal again, and show what happened in which second",
        description="Exit codes: 0 every decision is the recorded one, 3 one is not, 1 something can't be"
        " read. SOURCE is only read.",
    )
    add = replay.add_argument
    add("source", metavar="SOURCE", help="a journal.db, a store's URL, or records as JSON lines")
    add("--task", metavar="ID", help="this task alone")
    add("--json", action="store_true", help="one JSON document")
    add(
        "--what-if",
        action="append",
        metavar="KEY=VALUE",
        help="decide with another number too: window_s, commit_bps, fixed_s, tree_bytes, files_bytes,"
        " interval_s, max_overhead_pct, lease_s, after_commit, on_restore_failure, shared_state",
    )
    add("--html", metavar="F", help="write it as a page, too")
    add("--key-file", metavar="F", help=KEY_FILE)


def add_verify(verbs: Any) -> None:
    """``fsnap verify``."""
    verify = verbs.add_parser(
        "verify",
        help="read every byte of a task's snapshots again and check it",
        description="Exit codes: 0 every byte is right, 1 damage or no such task, 2 no snapshot to verify.",
    )
    add = verify.add_argument
    add("task", metavar="TASK")
    add("--snapshot", metavar="ID", help="this one alone")
    add("--store", metavar="URL", help="where it is (default: $FSNAP_STORE, or this node's own)")
    add("--json", action="store_true", help="one JSON document")
    add("--key-file", metavar="F", help=KEY_FILE)


def add_gc(verbs: Any) -> None:
    """``fsnap gc``."""
    gc = verbs.add_parser(
        "gc",
        help="delete what nothing needs",
        description="Deletes the snapshots of tasks that have ended; their journals stay.",
    )
    add = gc.add_argument
    add("task", nargs="*", metavar="TASK", help="these alone (default: all in the store)")
    add("--store", metavar="URL", help="where they are (default: $FSNAP_STORE, or this node's own)")
    add("--older-than", default="7d", metavar="AGE", help="of the task's last sign of life (default: 7d)")
    add("--dry-run", action="store_true", help="say what would be deleted, and delete nothing")
    add("--force", action="store_true", help="also tasks that have not ended: that gives them up")
    add("--json", action="store_true", help="one JSON document")
    add("--key-file", metavar="F", help=KEY_FILE)


def setting(arguments: argparse.Namespace, name: str, config: dict[str, Any], default: Any = None) -> Any:
    """The value of flag *name*: from the line, else the environment, else the file, else *default*.

    :class:`UsageError` when it is none of the flag's choices.
    """
    value = getattr(arguments, name)
    if value not in (None, False):
        return value
    flag = name.replace("_", "-")
    value = os.environ.get(VARIABLE + name.upper()) or config.get(flag, default)
    choices = CHOICES.get(name)
    if choices and value is not None and value not in choices:
        raise UsageError(f"--{flag} {value}: it is one of {', '.join(choices)}")
    return value


def key_path(value: Any) -> Path | None:
    """The key file that a flag, a variable or the configuration names."""
    return Path(str(value)).absolute() if value else None


def keys_of(arguments: argparse.Namespace) -> KeyRing | None:
    """The keys that a verb which only looks may use: of the line, or of the environment."""
    path = key_path(setting(arguments, "key_file", {}))
    return None if path is None else read_key_file(path)
