"""A counting task, the nodes that it meets, and what may be said of it afterwards."""

from __future__ import annotations

import itertools
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from fsnap.core.records import Record
from fsnap.journal.mirror import read_records
from fsnap.stores.file import FileStore
from tests.e2e.harness import FSNAP, LIMIT_S, Attempt, Scenario, assert_same_bytes

TICKER = Path(__file__).with_name("ticker.py")
CRASHING = Path(__file__).with_name("crashing.py")
PACE_S = 0.02

CHECKPOINTED = 177
UNSAVED = 175
NOT_OURS = 178
STORE = 174


class Task(Scenario):
    """A :class:`Scenario` whose task is ``ticker.py``; every copy's signs of life are kept apart."""

    def __init__(self, root: Path, control: Path, steps: int, pauses: Sequence[int]) -> None:
        """*control* must lie outside *root* and ``/tmp``, so that all nodes and the test share it."""
        ticker = [sys.executable, "-I", "-S", TICKER, str(steps), *map(str, pauses)]
        super().__init__(root, ticker)
        self.control = control
        self.steps = steps
        self.env |= {"CONTROL": str(control), "PACE": str(PACE_S)}

    def go(self, pause: int) -> None:
        """Let the task, and every later copy, go past *pause*."""
        (self.control / str(pause)).touch()

    @contextmanager
    def on_node(self, name: str) -> Iterator[None]:
        """Attempts started within are on a machine of their own: PIDs, mounts, state dir, home."""
        own = self._folder(f"D-{name}")
        home = self._folder(f"home-{name}")
        before, before_env = self.node, dict(self.env)
        script = 'mount --bind "$1" "$2" && cd "$2" && shift 2 && exec "$@"'
        self.node = (
            *("unshare", "--pid", "--mount", "--fork", "--mount-proc", "--kill-child"),
            *("sh", "-c", script, "sh", str(own), str(self.state)),
        )
        self.env["FSNAP_HOME"] = str(home)
        try:
            yield
        finally:
            self.node, self.env = before, before_env

    @contextmanager
    def crashing(self, point: str) -> Iterator[None]:
        """Attempts started within end themselves with SIGKILL at *point* (see ``crashing.py``)."""
        before, self.node = self.node, (sys.executable, str(CRASHING), point)
        try:
            yield
        finally:
            self.node = before

    # -- what must hold

    def expected_stdout(self) -> bytes:
        return b"".join(b"line %d\n" % step for step in range(1, self.steps + 1))

    def expected_file(self) -> str:
        return "".join(f"{step}\n" for step in range(1, self.steps + 1))

    def assert_whole(self, *attempts: Attempt) -> None:
        """The outputs joined are the whole, the file too, and no two copies ever ran at once."""
        among = attempts or self.attempts
        joined = b"".join(bytes(attempt.stdout.data) for attempt in among)
        try:
            assert_same_bytes(joined, self.expected_stdout(), "stdout")
        except AssertionError as error:
            for attempt in among:
                error.add_note(attempt.told())
            raise
        assert (self.state / "out").read_text() == self.expected_file()
        self.assert_never_two()

    def lives(self) -> dict[str, list[int]]:
        """Per copy, the moments (ns since the epoch, by the one clock of this machine) at which it ran."""
        found = {}
        for path in self.control.glob("beats.*"):
            found[path.name] = [int(line.split()[0]) for line in path.read_text().splitlines()]
        return found

    def assert_never_two(self) -> None:
        """No copy ran before the one that ran before it had stopped for good."""
        spans = sorted((min(beats), max(beats), copy) for copy, beats in self.lives().items())
        for (_, end, older), (start, _, newer) in itertools.pairwise(spans):
            assert end < start, f"{older} still ran {(end - start) / 1e6:.1f} ms after {newer} had begun"

    def still(self, during_s: float) -> bool:
        """No copy runs for *during_s*."""
        before = self.lives()
        time.sleep(during_s)
        return before == self.lives()

    def wait_alive(self, attempt: Attempt) -> None:
        """Until some copy gives a sign of life that it had not given before this call."""
        before = self.lives()
        attempt.wait("sign of life", lambda: self.lives() != before)

    # -- looking inside

    def records(self) -> list[Record]:
        """The journal in the store; none while there is no store."""
        if not self.store.is_dir():
            return []
        return read_records(FileStore(str(self.store), create=False), "T")

    def triggers(self) -> list[str]:
        return [record.trigger for record in self.records()]

    def local_triggers(self) -> list[str]:
        """Those of the node that is used now, in its own journal."""
        with closing(sqlite3.connect(Path(self.env["FSNAP_HOME"]) / "journal.db")) as journal:
            return [text for (text,) in journal.execute("select trigger from records order by seq")]

    def wait_record(self, attempt: Attempt, trigger: str, count: int = 1) -> None:
        """Until the store has *count* records of this trigger."""
        attempt.wait(f"record {trigger!r}", lambda: self.triggers().count(trigger) >= count)

    def init_pid(self) -> int:
        """The capsule's init, as this machine numbers it."""
        return one_pid(b"capsule/launch.py", str(self.root).encode())

    def criu_pid(self) -> int:
        """The CRIU that is at work on the task."""
        return one_pid(b"--action-script", str(self.root).encode())

    # -- the store goes and comes

    def break_store(self) -> None:
        """From now on the store does not answer."""
        self.store.rename(self.root / "S.away")
        self.store.touch()

    def mend_store(self) -> None:
        """It answers again."""
        self.store.unlink()
        (self.root / "S.away").rename(self.store)

    def objects(self, kind: str) -> list[Path]:
        """The task's objects at or below *kind* (``packs``, ``snapshots``, a glob), oldest first."""
        paths = [*self.store.glob(f"tasks/*/{kind}"), *self.store.glob(f"tasks/*/{kind}/**/*")]
        found = [path for path in paths if path.is_file()]
        return sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name))


def one_pid(*words: bytes) -> int:
    """The one process whose command line has all *words*."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            line = Path("/proc", name, "cmdline").read_bytes()
        except OSError:
            continue
        if all(word in line for word in words):
            found.append(int(name))
    assert len(found) == 1, f"{len(found)} processes have {words} in their command line"
    return found[0]


def kill_agent(attempt: Attempt) -> None:
    """SIGKILL to the agent alone; the capsule is left."""
    attempt.process.send_signal(signal.SIGKILL)
    attempt.finish(-signal.SIGKILL)


class Process:
    """A process that is not our child."""

    def __init__(self, pid: int) -> None:
        self._pidfd = os.pidfd_open(pid)

    def send_signal(self, number: int) -> None:
        signal.pidfd_send_signal(self._pidfd, number)


def agent_of(attempt: Attempt) -> Process:
    """The fsnap of an attempt on a node of its own: the child of ``unshare``."""
    pid = attempt.process.pid
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return Process(int(child))


def stop_agent(attempt: Attempt) -> Process:
    """SIGSTOP to the agent of an attempt on a node of its own; its capsule goes on."""
    agent = agent_of(attempt)
    agent.send_signal(signal.SIGSTOP)
    return agent


def wait_until(what: str, ready: Callable[[], bool]) -> None:
    """As :meth:`Attempt.wait`, where no attempt runs."""
    end = time.monotonic() + LIMIT_S
    while not ready():
        assert time.monotonic() < end, f"no {what} after {LIMIT_S} s"
        time.sleep(0.01)


def fsnap(
    *words: str | Path, cwd: Path, env: dict[str, str] | None = None, prefix: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """``fsnap WORDS`` to its end."""
    return subprocess.run(
        [*prefix, str(FSNAP), *map(str, words)],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
