"""What ``fsnap run`` was asked to do: one frozen value, checked once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fsnap.capsule.mounts import within
from fsnap.core.model import Attempt, Config
from fsnap.errors import KeyFileError, UsageError
from fsnap.keys import KeyRing, read_key_file
from fsnap.stores.urls import parse_url


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """The flags of ``run``, after environment and configuration file."""

    task: str
    """The whole id, step included."""
    attempt: Attempt | None
    command: tuple[str, ...]
    cwd: Path
    home: Path
    store_url: str
    provider: str
    state_dirs: tuple[Path, ...]
    scratch: tuple[Path, ...] = ()
    exclude: tuple[str, ...] = ()
    append_only: tuple[str, ...] = ()
    include_inputs: bool = False
    wait_s: float = 0.0
    term_window_s: float = 25.0
    warm: bool = True
    """Put memory and files into the store while the task runs, ahead of the next snapshot."""
    tcp: str = "established"
    ipc: bool = False
    fresh: bool = False
    unprotected_ok: bool = False
    stdout: Path | None = None
    stderr: Path | None = None
    result_file: Path | None = None
    keys: KeyRing | None = None
    """What leaves this node is sealed with the first; what comes back must be with one of them."""
    config: Config


def checked_state_dirs(given: tuple[str, ...], *, cwd: Path, home: Path, store_url: str) -> tuple[Path, ...]:
    """The state dirs, resolved; :class:`UsageError` for one that can't be one.

    Without any, the current directory is the state dir.
    """
    store = parse_url(store_url)
    resolved = []
    _refuse_hidden("FSNAP_HOME", home)
    for text in given or (str(cwd),):
        path = Path(text)
        if not path.is_dir():
            raise UsageError(f"--state-dir {text}: there is no such directory", hint="Create it first.")
        path = path.resolve()
        if path == Path("/"):
            raise UsageError(
                "--state-dir /: the whole machine can't be a state dir", hint="Name a directory."
            )
        _refuse_hidden("--state-dir", path)
        _refuse_holding(path, str(home.resolve()), "FSNAP_HOME")
        if store.scheme == "file":
            _refuse_holding(path, str(Path(store.path).resolve()), "the store")
        if path not in resolved:
            resolved.append(path)
    outer = [p for p in resolved if not any(p != q and within(str(p), str(q)) for q in resolved)]
    return tuple(outer)


def checked_keys(path: Path | None, travels: tuple[Path, ...]) -> KeyRing | None:
    """The keys in the file *path*; :class:`UsageError` for one that can't be used.

    A key file that travels with the task would be in the very snapshots that it seals.
    """
    if path is None:
        return None
    keys = read_key_file(path)
    for folder in travels:
        if within(str(path.resolve()), str(folder)):
            raise KeyFileError(
                f"key file {path}: it lies in {folder}, which travels with the task",
                hint="Keep it where the task does not write.",
            )
    return keys


def _refuse_hidden(what: str, path: Path) -> None:
    """Each task has a ``/dev/shm`` of its own, which is saved with it: the machine's is not seen there."""
    if within(str(path.resolve()), "/dev/shm"):
        raise UsageError(
            f"{what} {path}: a task can't see the machine's /dev/shm", hint="Name a directory elsewhere."
        )


def _refuse_holding(state_dir: Path, inner: str, what: str) -> None:
    if within(inner, str(state_dir)):
        raise UsageError(
            f"--state-dir {state_dir}: it holds {what} ({inner})", hint="Put one of them somewhere else."
        )
