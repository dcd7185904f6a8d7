"""``fsnap run``: the flags to settings, the settings to the agent, the outcome to an exit code."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from fsnap import logs
from fsnap.agent.attempts import identify, on_aws_batch
from fsnap.agent.home import home_path
from fsnap.agent.settings import RunSettings, checked_keys, checked_state_dirs
from fsnap.cli.configfile import read_config
from fsnap.cli.flags import key_path, setting
from fsnap.core.model import Config
from fsnap.errors import EXIT_NO_SUCH_COMMAND, FsnapError, NoSuchCommand, UnfitMachine, UsageError

YES = ("1", "true", "yes", "on")
NO = ("0", "false", "no", "off")
LONGEST_INTERVAL_MS = 10**12
"""``--interval off``: longer than any task."""


def run(arguments: argparse.Namespace) -> int:
    """Carry the task as far as this node can."""
    config = read_config(vars(arguments))
    settings = settings_from(arguments, config)
    logs.configure(
        style=setting(arguments, "log_format", config, "text"),
        file=_path(setting(arguments, "log_file", config), "--log-file"),
        verbose=arguments.verbose,
    )
    if arguments.dry_run:
        return _dry_run(settings)
    try:
        _check_machine()
    except UnfitMachine as problem:
        if not settings.unprotected_ok:
            raise
        return _run_unprotected(settings, problem)
    return _run_protected(settings)


def _run_protected(settings: RunSettings) -> int:
    _import_numpy()
    from fsnap.agent.service import Outcome, Service, write_result

    if settings.store_url == f"file://{settings.home}/store":
        from loguru import logger

        logger.warning("no --store: snapshots go to {} and are lost with this node", settings.store_url)
    try:
        outcome = Service(settings).run()
    except FsnapError as problem:
        if settings.result_file is not None:
            write_result(settings.result_file, Outcome(exit_code=problem.exit_code, outcome=problem.code))
        raise
    if settings.result_file is not None:
        write_result(settings.result_file, outcome)
    if outcome.outcome != "exited":
        sys.stderr.write(f"fsnap: {outcome.outcome}: {outcome.note}\n")
    return outcome.exit_code


def _import_numpy() -> None:
    """Without its linear algebra's threads, which nobody here uses, and which wait by spinning."""
    variable = "OPENBLAS_NUM_THREADS"
    given = os.environ.get(variable)
    os.environ[variable] = "1"
    try:
        import numpy  # noqa: F401
    finally:  # the task gets the environment as it was
        del os.environ[variable]
        if given is not None:
            os.environ[variable] = given


def _check_machine() -> None:
    from fsnap.criu.install import criu_version, find_criu, look_ahead

    if os.geteuid() != 0:
        raise UnfitMachine("fsnap run needs root")
    criu_version(find_criu())
    look_ahead()


def _run_unprotected(settings: RunSettings, problem: UnfitMachine) -> int:
    """``--unprotected-ok``: the task runs as if there were no fsnap; signals are passed on to it."""
    sys.stderr.write(f"fsnap: UNPROTECTED, nothing will be saved: {problem}\n")
    try:
        process = subprocess.Popen(
            settings.command,
            cwd=settings.cwd,
            stdin=subprocess.DEVNULL,
            stdout=_opened(settings.stdout),
            stderr=_opened(settings.stderr),
        )
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda number, frame: process.send_signal(number))
        code = process.wait()
    except FileNotFoundError:
        raise NoSuchCommand(f"{settings.command[0]}: no such command") from None
    except PermissionError as refusal:
        sys.stderr.write(f"fsnap: {settings.command[0]}: {refusal.strerror}\n")
        return EXIT_NO_SUCH_COMMAND - 1
    code = code if code >= 0 else 128 - code
    if settings.result_file is not None:
        from fsnap.agent.service import Outcome, write_result

        write_result(settings.result_file, Outcome(exit_code=code, outcome="exited"))
    return code


def _opened(path: Path | None) -> int | None:
    return (
        None if path is None else os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    )


def _dry_run(settings: RunSettings) -> int:
    sys.stdout.write(
        f"task {settings.task}: would restore it from {settings.store_url} if it has a committed snapshot, "
        f"else start {' '.join(settings.command)}\n"
    )
    return 0


def settings_from(arguments: argparse.Namespace, config: dict[str, Any]) -> RunSettings:
    """The checked settings; :class:`UsageError` names the flag that is wrong."""

    def value(name: str, default: Any = None) -> Any:
        return setting(arguments, name, config, default)

    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        raise UsageError("no command", hint="Say fsnap run [flags] -- CMD [ARG...].")
    attempt = value("attempt")
    task, counted = identify(
        task=value("task"),
        step=value("name"),
        attempt=None if attempt is None else int(_number(attempt, "--attempt")),
        env=os.environ,
    )
    home = home_path(os.environ)
    cwd = _cwd()
    store_url = value("store", f"file://{home}/store")
    state_dirs = checked_state_dirs(_list(value("state_dir")), cwd=cwd, home=home, store_url=store_url)
    scratch = tuple(_existing(path, "--scratch") for path in _list(value("scratch")))
    proves_end = counted is not None and counted.proves_end
    batch = on_aws_batch(os.environ)
    return RunSettings(
        task=task,
        attempt=counted,
        command=tuple(command),
        cwd=cwd,
        home=home,
        store_url=store_url,
        provider=value("provider", "auto"),
        state_dirs=state_dirs,
        scratch=scratch,
        exclude=_list(value("exclude")),
        append_only=_list(value("append_only")),
        include_inputs=_truth(value("include_inputs", False)),
        wait_s=_number(value("wait", 0), "--wait"),
        term_window_s=_number(value("term_window", 25), "--term-window"),
        warm=value("warm", "auto") == "auto",
        tcp=value("tcp", "established"),
        ipc=_truth(value("ipc", False)),
        fresh=_truth(value("fresh", False)),
        unprotected_ok=_truth(value("unprotected_ok", False)),
        stdout=_path(value("stdout"), "--stdout"),
        stderr=_path(value("stderr"), "--stderr"),
        result_file=_path(value("result_file"), "--result-file"),
        keys=checked_keys(key_path(value("key_file")), (*state_dirs, *scratch)),
        config=Config(
            lease_ms=int(_number(value("lease", 0 if proves_end else 120), "--lease") * 1000),
            after_commit=value("after_commit", "hold" if batch else "exit"),
            interval_ms=_interval_ms(value("interval", "auto")),
            max_overhead_permille=int(_number(value("max_overhead", 2), "--max-overhead") * 10),
            shared_state=_truth(value("shared_state", False)),
            on_restore_failure=value("on_restore_failure", "fail"),
            provider=value("provider", "auto"),
            state_dirs=tuple(str(path) for path in state_dirs),
        ),
    )


def _cwd() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise UsageError("the current directory was removed", hint="Start from one that exists.") from None


def _interval_ms(value: Any) -> int | None:
    if value == "auto":
        return None
    if value == "off":
        return LONGEST_INTERVAL_MS
    seconds = _number(value, "--interval")
    if seconds <= 0:
        raise UsageError(f"--interval {value}: it must be more than 0 seconds, 'auto' or 'off'")
    return int(seconds * 1000)


def _number(value: Any, flag: str) -> float:
    try:
        number = float(value)
    except ValueError:
        raise UsageError(f"{flag} {value}: not a number") from None
    if not 0 <= number < float("inf"):
        raise UsageError(f"{flag} {value}: it can't be negative or endless")
    return number


def _truth(value: Any) -> bool:
    text = str(value).lower()
    if text not in YES + NO:
        raise UsageError(f"{value} is neither yes nor no", hint=f"Say one of {', '.join(YES + NO)}.")
    return text in YES


def _list(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    return tuple(value) if isinstance(value, list) else tuple(str(value).split(":"))


def _existing(text: str, flag: str) -> Path:
    path = Path(text)
    if not path.is_dir():
        raise UsageError(f"{flag} {text}: there is no such directory", hint="Create it first.")
    return path.resolve()


def _path(value: Any, flag: str) -> Path | None:
    if value is None:
        return None
    path = Path(str(value)).absolute()
    if not path.parent.is_dir():
        raise UsageError(f"{flag} {path}: its directory is not there", hint="Create it first.")
    if path.is_dir():
        raise UsageError(f"{flag} {path}: it is a directory", hint="Name a file.")
    return path
