"""Bad input: exit code 2 (127 for the command), one line on stderr, and nothing was started."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.protocol.support import fsnap

pytestmark = pytest.mark.criu

USAGE = 2
NO_SUCH_COMMAND = 127
NOT_EXECUTABLE = 126


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a bad call is made: ``{root}`` in its words stands for *root*."""

    root: Path
    state: Path
    home: Path

    def filled(self, text: str) -> str:
        return text.replace("{root}", str(self.root)).replace("{state}", str(self.state))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    state = tmp_path / "D"
    state.mkdir()
    (tmp_path / "plain-file").write_text("x")
    (tmp_path / "not-a-program").write_text("x")
    return Place(root=tmp_path, state=state, home=tmp_path / "H")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bad:
    """A call of ``fsnap run`` that must be refused."""

    name: str
    says: str
    """Part of the line: what is wrong."""
    flags: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    """Usual flags that are left out."""
    command: tuple[str, ...] | None = None
    env: dict[str, str] = field(default_factory=dict)
    code: int = USAGE


def bad(name: str, says: str, *flags: str, **more: object) -> Bad:
    return Bad(name=name, says=says, flags=flags, **more)  # type: ignore[arg-type]


FLAGS = [
    bad("task id with slashes", "--task: '../../etc' is not an id", "--task", "../../etc"),
    bad("task id empty", "--task", "--task", ""),
    bad("task id too long", "has 300 characters", "--task", "x" * 300),
    bad("task id with a line break", "is not an id", "--task", "a\nb"),
    bad("step that is no id", "--name", "--name", "a/b"),
    bad("no task", "no --task", drop=("--task",)),
    bad("task id by variable", "--task: '*' is not an id", drop=("--task",), env={"FSNAP_TASK": "*"}),
    bad("store of an unknown scheme", "unknown scheme 'ftp'", "--store", "ftp://x"),
    bad("store without scheme", "it has no scheme", "--store", "/a/dir"),
    bad("store that is relative", "three slashes", "--store", "file://dir"),
    bad("store that is the root", "the root directory cannot be a store", "--store", "file:///"),
    bad("store of no bucket", "it names no bucket", "--store", "s3://"),
    bad("store with credentials", "it holds credentials", "--store", "s3://key:secret@bucket/x"),
    bad("store that is empty", "store URL", "--store", ""),
    bad("provider unknown", "--provider foo: unknown", "--provider", "foo"),
    bad("provider file without path", "names no path", "--provider", "file:"),
    bad("provider file without directory", "there is no directory", "--provider", "file:/nonexistent/N"),
    bad("provider file that is a directory", "this is not a file", "--provider", "file:{root}"),
    bad("state dir missing", "there is no such directory", "--state-dir", "{root}/missing"),
    bad("state dir that is a file", "there is no such directory", "--state-dir", "{root}/plain-file"),
    bad("state dir in /dev/shm", "can't see the machine's /dev/shm", "--state-dir", "/dev/shm"),
    bad("home in /dev/shm", "FSNAP_HOME /dev/shm/x", env={"FSNAP_HOME": "/dev/shm/x"}),
    bad("state dir that is /", "--state-dir /", "--state-dir", "/"),
    bad("state dir holds the store", "it holds the store", "--store", "file://{state}/S"),
    bad("state dir is the store", "it holds the store", "--store", "file://{state}"),
    bad("state dir holds the store, escaped", "it holds the store", "--store", "file://{state}/a%20b"),
    bad("state dir holds the home", "it holds FSNAP_HOME", env={"FSNAP_HOME": "{state}/H"}),
    bad("scratch missing", "--scratch", "--scratch", "{root}/missing"),
    bad("scratch that is /", "--scratch", "--scratch", "/"),
    bad("scratch that is the state dir", "--scratch", "--scratch", "{state}"),
    bad("attempt no number", "--attempt", "--attempt", "x"),
    bad("attempt negative", "--attempt", "--attempt", "-1"),
    bad("attempt by variable", "--attempt", env={"FSNAP_ATTEMPT": "x"}),
    bad(
        "attempt of a scheduler",
        "AWS_BATCH_JOB_ATTEMPT",
        env={"AWS_BATCH_JOB_ID": "j", "AWS_BATCH_JOB_ATTEMPT": "x"},
    ),
    bad("lease no number", "--lease", "--lease", "soon"),
    bad("lease negative", "--lease -3", "--lease", "-3"),
    bad("lease endless", "--lease", "--lease", "inf"),
    bad("lease nan", "--lease", "--lease", "nan"),
    bad("lease by variable", "--lease", env={"FSNAP_LEASE": "x"}),
    bad("wait no number", "--wait", "--wait", "x"),
    bad("term window no number", "--term-window", "--term-window", "x"),
    bad("interval no number", "--interval", "--interval", "x"),
    bad("interval zero", "--interval 0", "--interval", "0"),
    bad("overhead no number", "--max-overhead", "--max-overhead", "x"),
    bad("after-commit unknown", "--after-commit", "--after-commit", "x"),
    bad("after-commit by variable", "after-commit", env={"FSNAP_AFTER_COMMIT": "x"}),
    bad("tcp by variable", "tcp", env={"FSNAP_TCP": "x"}),
    bad("on-restore-failure by variable", "on-restore-failure", env={"FSNAP_ON_RESTORE_FAILURE": "x"}),
    bad("log format by variable", "log-format", env={"FSNAP_LOG_FORMAT": "x"}),
    bad("fresh by variable", "perhaps", env={"FSNAP_FRESH": "perhaps"}),
    bad("unknown flag", "unrecognized arguments: --bogus", "--bogus"),
    bad("flag without its value", "--store", "--store"),
    bad("stdout in no directory", "its directory is not there", "--stdout", "{root}/missing/f"),
    bad("stdout is a directory", "--stdout", "--stdout", "{root}"),
    bad("stderr is a directory", "--stderr", "--stderr", "{root}"),
    bad("result file is a directory", "--result-file", "--result-file", "{root}"),
    bad("log file is a directory", "--log-file", "--log-file", "{root}"),
    bad("no command", "no command", command=()),
    bad("home is a file", "FSNAP_HOME", env={"FSNAP_HOME": "{root}/plain-file"}),
    bad("home below a file", "FSNAP_HOME", env={"FSNAP_HOME": "{root}/plain-file/x"}),
    bad("home nobody can make", "FSNAP_HOME", env={"FSNAP_HOME": "/proc/fsnap"}),
    bad("no CRIU", "FSNAP_CRIU", env={"FSNAP_CRIU": "/nonexistent/criu"}),
    bad("a CRIU that is none", "does not say its version", env={"FSNAP_CRIU": "/bin/true"}),
    bad("a CRIU that is no program", "no program", env={"FSNAP_CRIU": "{root}/not-a-program"}),
    bad("config missing", "can't be read", env={"FSNAP_CONFIG": "/nonexistent.toml"}),
    bad("config a directory", "can't be read", env={"FSNAP_CONFIG": "{root}"}),
]

COMMANDS = [
    bad("absolute", "no such command", command=("/nonexistent/cmd",), code=NO_SUCH_COMMAND),
    bad("on the PATH", "no such command", command=("nonexistentcmd",), code=NO_SUCH_COMMAND),
    bad("relative", "no such command", command=("./nothing",), code=NO_SUCH_COMMAND),
    bad("empty", "no such command", command=("",), code=NO_SUCH_COMMAND),
]

CONFIGS = {
    "no TOML": ("lease = = 3\n", "can't be read"),
    "not UTF-8": (b"lease = '\xff'\n", "can't be read"),
    "lease is text": ("lease = 'soon'\n", "lease"),
    "lease is a list": ("lease = [1]\n", "lease"),
    "store is a number": ("store = 7\n", "store"),
    "provider is a number": ("provider = 7\n", "provider"),
    "state-dir has a number": ("state-dir = [1]\n", "state-dir"),
    "task has a slash": ("task = 'a/b'\n", "task"),
    "lease is a truth": ("lease = true\n", "lease"),
    "fresh is neither": ("fresh = 'perhaps'\n", "perhaps"),
    "after-commit unknown": ("after-commit = 'x'\n", "after-commit"),
    "a name that nothing has": ("leese = 3\n", "leese"),
    "a table": ("[run]\nlease = 3\n", "run"),
}


def usual(place: Place, drop: tuple[str, ...] = ()) -> list[str]:
    flags = {
        "--task": "T",
        "--store": f"file://{place.root}/S",
        "--state-dir": str(place.state),
        "--provider": "none",
    }
    return [word for name, value in flags.items() if name not in drop for word in (name, value)]


def assert_refused(run: subprocess.CompletedProcess[str], place: Place, says: str, code: int = USAGE) -> None:
    assert run.returncode == code, run
    lines = run.stderr.splitlines()
    assert len(lines) == 1, run.stderr
    assert lines[0].startswith("fsnap: ")
    assert place.filled(says) in lines[0]
    assert run.stdout == ""
    assert list(place.state.iterdir()) == []
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("case", [*FLAGS, *COMMANDS], ids=lambda case: case.name)
def test_refused(place: Place, case: Bad) -> None:
    # An explicit --state-dir adds to the usual one, an explicit other flag replaces it.
    drop = (*case.drop, *(("--state-dir",) if "--state-dir" in case.flags else ()))
    words = ["run", *usual(place, drop), *map(place.filled, case.flags)]
    command = ("touch", "started") if case.command is None else case.command
    if case.flags != ("--store",):  # a flag without its value is the line's end
        words += ["--", *map(place.filled, command)]
    env = {"FSNAP_HOME": str(place.home), **{name: place.filled(text) for name, text in case.env.items()}}
    assert_refused(fsnap(*words, cwd=place.state, env=env), place, case.says, case.code)


@pytest.mark.parametrize("name", CONFIGS)
def test_configuration_file_is_refused(place: Place, name: str) -> None:
    content, says = CONFIGS[name]
    path = place.root / "fsnap.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    drop = ("--store", "--provider", "--state-dir", "--task")
    kept = [] if "task" in says else ["--task", "T"]
    if "store" not in says:
        kept += ["--store", f"file://{place.root}/S"]
    if "provider" not in says:
        kept += ["--provider", "none"]
    env = {"FSNAP_HOME": str(place.home), "FSNAP_CONFIG": str(path)}
    words = ["run", *usual(place, drop), *kept, "--", "touch", "started"]
    assert_refused(fsnap(*words, cwd=place.state, env=env), place, says)


@pytest.mark.parametrize("command", ["{root}", "{root}/not-a-program"])
def test_command_that_is_there_and_no_program(place: Place, command: str) -> None:
    """As a shell has it; the task has failed then, since CMD may be one on another node."""
    words = ["run", *usual(place), "--", place.filled(command)]
    run = fsnap(*words, cwd=place.state, env={"FSNAP_HOME": str(place.home)})
    assert run.returncode == NOT_EXECUTABLE
    assert f"{place.filled(command)}: Permission denied" in run.stderr
    assert "Traceback" not in run.stderr


def test_without_root(place: Place) -> None:
    for path in [place.root, *place.root.parents]:
        if path.stat().st_mode & 0o005 != 0o005 and str(path).startswith("/tmp/"):
            path.chmod(0o755)
    prefix = ("setpriv", "--reuid", "65534", "--clear-groups")
    words = ["run", *usual(place), "--", "touch", "started"]
    run = fsnap(*words, cwd=place.state, env={"FSNAP_HOME": "/nonexistent"}, prefix=prefix)
    assert_refused(run, place, "needs root")


@pytest.mark.parametrize("used_before", [False, True])
def test_home_on_a_read_only_file_system(place: Place, used_before: bool) -> None:
    place.home.mkdir()
    if used_before:
        words = ["run", *usual(place), "--task", "before", "--", "true"]
        assert fsnap(*words, cwd=place.state, env={"FSNAP_HOME": str(place.home)}).returncode == 0
    script = 'mount --bind "$FSNAP_HOME" "$FSNAP_HOME" && mount -o remount,bind,ro "$FSNAP_HOME" && exec "$@"'
    prefix = ("unshare", "--mount", "sh", "-c", script, "sh")
    words = ["run", *usual(place), "--task", "before", "--", "touch", "started"]
    run = fsnap(*words, cwd=place.state, env={"FSNAP_HOME": str(place.home)}, prefix=prefix)
    assert_refused(run, place, str(place.home))


def test_current_directory_that_was_removed(place: Place) -> None:
    script = 'mkdir gone && cd gone && rmdir ../gone && exec "$@"'
    words = ["run", *usual(place), "--", "touch", "started"]
    run = fsnap(
        *words, cwd=place.state, env={"FSNAP_HOME": str(place.home)}, prefix=("sh", "-c", script, "sh")
    )
    assert_refused(run, place, "the current directory was removed")


@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_closed_standard_streams_harm_nothing(place: Place, closed: str) -> None:
    """What the task prints must not end up in whatever file got the free number."""
    script = "for i in 1 2 3; do echo out $i; echo err $i >&2; done; echo done > file"
    words = ["run", *usual(place), "--", "sh", "-c", script]
    env = {"FSNAP_HOME": str(place.home)}
    run = fsnap(*words, cwd=place.state, env=env, prefix=("sh", "-c", f'exec "$@" {closed}', "sh"))
    assert run.returncode == 0
    assert (place.state / "file").read_text() == "done\n"
    assert run.stdout == ("" if "1>" in closed else "out 1\nout 2\nout 3\n")
    for top, _, files in os.walk(place.root):
        for name in files:
            path = Path(top, name)
            assert b"err 2" not in path.read_bytes() or path.name.startswith("~"), path
