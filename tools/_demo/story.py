"""What the task's journal in the store says, told as it grows.

Everything that is claimed here was read from mirrored records: they are there before fsnap
acts on them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from _demo.screen import BOLD, GREEN, YELLOW, Screen, size
from fsnap.clock import parse_rfc3339
from fsnap.core.effects import Restore
from fsnap.core.events import DumpFailed, Notice, RestoreFailed, SnapshotSaved
from fsnap.core.fold import fold_all
from fsnap.core.model import TaskState
from fsnap.core.records import Record
from fsnap.journal.mirror import read_records
from fsnap.stores.base import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the timeline."""

    at_s: float
    text: str
    colour: str = ""


class Story:
    """One task's journal, told once from its first record to its last."""

    def __init__(self, store: Store, task: str, screen: Screen) -> None:
        self._store = store
        self._task = task
        self._screen = screen
        self._records: list[Record] = []
        self._noticed_s: list[float] = []
        self._restored_s: list[float] = []

    def tell(self, node: str) -> None:
        """Print what is new."""
        for record in read_records(self._store, self._task)[len(self._records) :]:
            for line in self._lines(record):
                self._screen.event(node, line.text, line.colour, line.at_s)
            self._records.append(record)

    @property
    def state(self) -> TaskState:
        """The fold of what has been told."""
        return fold_all(TaskState(task=self._task), self._records)

    @property
    def pauses_s(self) -> list[float]:
        """For each reclaim, from the decision to dump to the record that allows the restored tree to run."""
        return [up - down for down, up in zip(self._noticed_s, self._restored_s, strict=False)]

    def _lines(self, record: Record) -> Iterator[Line]:
        at_s, event = wall_s(record.at), record.event
        if isinstance(event, Notice):
            window = f"in {event.window_ms / 1000:.0f} s"
            yield Line(at_s=at_s, text=f"NOTICE: this machine goes {window} ({event.action})", colour=YELLOW)
            if record.trigger == "dump":
                self._noticed_s.append(at_s)
            else:
                yield Line(at_s=at_s, text=record.note)
        elif isinstance(event, SnapshotSaved) and record.trigger == "commit":
            yield from self._committed(record, event)
        elif record.trigger == "claim":
            chosen = next(effect for effect in record.effects if isinstance(effect, Restore))
            yield Line(at_s=at_s, text=f"claims the task, fetches snapshot {chosen.snapshot_id}")
        elif record.trigger == "restored":
            self._restored_s.append(at_s)
            yield Line(at_s=at_s, text="restored: files, memory and processes are back", colour=GREEN)
        elif isinstance(event, DumpFailed | RestoreFailed) or record.trigger == "give_up":
            yield Line(at_s=at_s, text=record.note, colour=YELLOW)
        elif record.trigger == "complete":
            yield Line(at_s=at_s, text="completed, its files are stored", colour=GREEN)

    def _committed(self, record: Record, event: SnapshotSaved) -> Iterator[Line]:
        """The freeze is told with the commit: only then does the journal know when it was."""
        ref, dump = event.ref, self._records[-1]
        frozen = parse_rfc3339(dump.at) + timedelta(milliseconds=ref.run_ms - dump.facts.run_ms)
        yield Line(at_s=frozen.timestamp(), text=f"frozen after {ref.run_ms / 1000:.1f} s of work")
        stored = f"committed: {size(ref.bytes)}, {size(ref.stored_bytes)} to the store"
        left_s = (record.facts.left_ms or 0) / 1000
        yield Line(
            at_s=wall_s(record.at),
            text=f"{stored}, {self._screen.paint(f'{left_s:.1f} s to spare', BOLD)}",
            colour=GREEN,
        )


def wall_s(text: str) -> float:
    """Seconds since 1970 of a record's time."""
    return parse_rfc3339(text).timestamp()
