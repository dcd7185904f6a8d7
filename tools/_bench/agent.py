"""fsnap itself, as a user runs it, and what can be seen of it from outside.

Times come from its journal, whose records carry the machine's monotonic clock.  That a
record is in the store is seen in the journal, too, which is looked at every 5 ms: a
commit is measured late by that much, never early.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from _bench.failure import BenchFailure
from _bench.memory import MemoryPeak
from _bench.task import PATIENCE_S, Gap, Voice
from fsnap.core.events import SnapshotSaved
from fsnap.core.model import SnapshotRef, State
from fsnap.core.records import Record
from fsnap.errors import EXIT_CHECKPOINTED
from fsnap.journal.local import Journal

FSNAP = Path(sys.executable).with_name("fsnap")
TASK = "bench"
LOOK_S = 0.005
WINDOW_S = 900
SETTLE_S = 0.8
"""After its start the agent takes its first look at the process's size."""


class AgentRun:
    """One ``fsnap run``."""

    def __init__(
        self, folder: Path, command: Sequence[str], store_url: str, env: Mapping[str, str], *flags: str
    ) -> None:
        self._folder = folder
        self._home = folder / "home"
        self._notice = folder / "notice"
        self._notice.unlink(missing_ok=True)
        (folder / "state").mkdir(parents=True, exist_ok=True)
        self._log = folder / "fsnap.log"
        self.voice = Voice(folder / "said")
        words = ["--task", TASK, "--store", store_url, "--provider", f"file:{self._notice}"]
        words += ["--after-commit", "exit", *flags]
        with (folder / "said").open("wb") as said, self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(FSNAP), "run", *words, "--", *command],
                cwd=folder / "state",
                env={**os.environ, **env, "FSNAP_HOME": str(self._home), "FSNAP_CONFIG": os.devnull},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=log,
            )
        self._mirrored: list[tuple[int, float]] = []
        self._stop = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        self.memory = MemoryPeak(self._process.pid, self._home)

    # -- what happens

    def check(self) -> None:
        """Raise if it has ended."""
        if self._process.poll() is not None:
            raise BenchFailure(f"fsnap run ended with {self._process.returncode}: {self._said()}")

    def wait_ready(self) -> list[str]:
        """Wait until the process is ready and the agent has settled."""
        lines = self.voice.wait("ready", self.check)
        time.sleep(SETTLE_S)
        return lines

    def wait_log(self, text: str) -> None:
        """Wait for *text* in its log."""
        end_s = time.monotonic() + PATIENCE_S
        while text not in self._log.read_text(errors="replace"):
            self.check()
            if time.monotonic() > end_s:
                raise BenchFailure(f"the log has no {text!r}: {self._said()}")
            time.sleep(LOOK_S)

    def wait_snapshot(self, count: int) -> SnapshotRef:
        """Wait until *count* snapshots are committed; the last of them."""
        end_s = time.monotonic() + PATIENCE_S
        while len(saved := self.saved()) < count or self.durable_s(saved[count - 1]) is None:
            self.check()
            if time.monotonic() > end_s:
                raise BenchFailure(f"there was no snapshot: {self._said()}")
            time.sleep(LOOK_S)
        return _ref(saved[count - 1])

    def wait_resumed(self, since_s: float) -> Gap:
        """Wait until the restored process says that it runs; *since_s*: seconds since 1970."""
        return self.voice.wait_gap(since_s, self.check)

    def reclaim(self) -> None:
        """Give the notice, and wait for the end that follows the commit."""
        fresh = self._notice.with_suffix(".new")
        fresh.write_text(json.dumps({"window_s": WINDOW_S}))
        fresh.rename(self._notice)
        self._end(EXIT_CHECKPOINTED)

    def cancel(self) -> None:
        """End the task."""
        self._process.send_signal(signal.SIGINT)
        self._end(None)

    def _end(self, wanted: int | None) -> None:
        try:
            code = self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise BenchFailure(f"fsnap run does not end: {self._said()}") from None
        self._finish()
        if wanted is not None and code != wanted:
            raise BenchFailure(f"fsnap run ended with {code}, not {wanted}: {self._said()}")

    def kill(self) -> None:
        """Whatever it does, end it; nothing happens if it has ended."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            if self._process.poll() is None:
                self._process.send_signal(number)
                try:
                    self._process.wait(20.0)
                except subprocess.TimeoutExpired:
                    continue
        self._finish()

    def _finish(self) -> None:
        self._stop.set()
        self._watcher.join()
        self.memory.stop()

    def _said(self) -> str:
        return " | ".join(self._log.read_text(errors="replace").splitlines()[-5:])

    # -- what is seen

    @property
    def pid(self) -> int:
        """Of the measured process, on this side of its namespace."""
        holder = json.loads(next((self._home / "run").glob("*/holder.json")).read_text())
        init = int(holder["init_pid"])
        children = Path(f"/proc/{init}/task/{init}/children").read_text().split()
        return int(children[0])

    def records(self) -> list[Record]:
        """The task's records."""
        path = self._home / "journal.db"
        if not path.exists():
            return []
        journal = Journal.open_readonly(path)
        try:
            return journal.records(TASK)
        finally:
            journal.close()

    def saved(self) -> list[Record]:
        """The records of committed snapshots."""
        return [record for record in self.records() if isinstance(record.event, SnapshotSaved)]

    def last(self, state: State) -> Record:
        """The last record that led into *state*."""
        found = [record for record in self.records() if record.dest is state and record.source is not state]
        if not found:
            raise BenchFailure(f"the task was never {state.value}: {self._said()}")
        return found[-1]

    def durable_s(self, record: Record) -> float | None:
        """When *record* was seen to be in the store, on the monotonic clock."""
        return next((at for seq, at in self._mirrored if seq >= record.seq), None)

    def _watch(self) -> None:
        """Note when each record is known to be mirrored."""
        path = self._home / "journal.db"
        connection = None
        seen = 0
        last_look = False
        while not last_look:
            last_look = self._stop.wait(LOOK_S)
            try:
                if connection is None:
                    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
                found = connection.execute("SELECT max(last_seq) FROM mirrored WHERE task = ?", (TASK,))
                now = int(found.fetchone()[0] or 0)
            except sqlite3.Error:
                continue
            if now > seen:
                seen = now
                self._mirrored.append((seen, time.monotonic()))
        if connection is not None:
            connection.close()


def _ref(record: Record) -> SnapshotRef:
    assert isinstance(record.event, SnapshotSaved)
    return record.event.ref


def freeze_to_commit_s(run: AgentRun) -> float:
    """From the record of the decision to dump, which comes before CRIU is started, to the commit."""
    committed_s = run.durable_s(run.last(State.UPLOADED))
    assert committed_s is not None
    return committed_s - run.last(State.DUMPING).mono_ms / 1000


def last_snapshot(run: AgentRun) -> SnapshotRef:
    """The newest committed one."""
    return _ref(run.saved()[-1])


def restore_s(run: AgentRun, resumed: Gap) -> float:
    """From the claim's record in the store, when the fetch begins, to the first step of the process."""
    began_s = run.durable_s(run.last(State.RESTORING))
    assert began_s is not None
    return resumed.end_s - (began_s + time.time() - time.monotonic())
