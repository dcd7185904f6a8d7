"""What every figure is given: sizes, stores, a directory of their own, and the lives that several share."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from _bench.lives import Life, Parts, live
from _bench.output import Progress
from _bench.sides import FileSide, S3Side, Side, s3_side
from _bench.task import build

T = TypeVar("T")

SMALL_MIB = 512
"""Up to this size there are more runs."""


@dataclass(slots=True)
class Bench:
    """One execution of ``tools/bench``."""

    names: Sequence[str]
    """The figures that were asked for."""
    size_mib: int
    runs_wanted: int | None
    store: str | None
    """``file`` or ``s3``: figures that take either are measured there alone."""
    work: Path
    progress: Progress
    stack: ExitStack
    _program: Path | None = None
    _s3: S3Side | None = None
    _lives: dict[str, list[Life]] = field(default_factory=dict)

    @property
    def runs(self) -> int:
        """Interleaved runs of each figure."""
        return self.runs_wanted or (7 if self.size_mib <= SMALL_MIB else 3)

    @property
    def program(self) -> Path:
        """The workload, built when it is first asked for."""
        if self._program is None:
            self._program = build(self.work)
        return self._program

    def command(self, kind: str = "hold") -> list[str]:
        """The process to measure."""
        return [str(self.program), kind, str(self.size_mib)]

    def side(self, name: str) -> Side:
        """The store *name*; the server is started when it is first asked for."""
        return FileSide(self.work / "store") if name == "file" else self.s3()

    def s3(self) -> S3Side:
        """The S3 server."""
        if self._s3 is None:
            self.progress.say("starts an S3 server")
            self._s3 = self.stack.enter_context(s3_side(self.work / "s3"))
        return self._s3

    def stores(self, *default: str) -> tuple[str, ...]:
        """Those to measure a figure with that is meant for *default*."""
        return default if self.store is None else (self.store,)

    def folder(self, name: str) -> Path:
        """An empty directory."""
        path = self.work / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path

    def lives(self, store: str) -> list[Life]:
        """Interleaved lives in *store*, with all that the asked figures need of them; made once."""
        if store not in self._lives:
            wanted = set(self.names)
            parts = Parts(
                naive=bool(wanted & {"freeze-to-commit-cold", "restore"}),
                restore=bool(wanted & {"restore", "agent-memory"}),
                changed="delta" in wanted and store in self.stores("file"),
                put_rate=store == "s3" and "freeze-to-commit-cold" in wanted,
            )
            self._lives[store] = self.repeat(
                f"lives, {store}", lambda number: live(self, self.side(store), number, parts)
            )
        return self._lives[store]

    def repeat(self, what: str, act: Callable[[int], T]) -> list[T]:
        """*act* as often as there are runs."""
        found = []
        for number in range(self.runs):
            self.progress.say(f"{what}: run {number + 1} of {self.runs}")
            found.append(act(number))
        return found
