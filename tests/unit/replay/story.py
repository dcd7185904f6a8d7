"""Journals told event by event, each at its moment: decided, recorded and folded as the agent does."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fsnap.charts import task_chart
from fsnap.cli.main import main
from fsnap.clock import rfc3339
from fsnap.core.drafting import draft
from fsnap.core.events import (
    CheckpointAsked,
    ClaimAsked,
    DumpFailed,
    Event,
    Notice,
    NoticeCancelled,
    RestoreFailed,
    RestoreReady,
    SnapshotSaved,
    TaskExited,
    Tick,
)
from fsnap.core.fold import fold
from fsnap.core.model import Attempt, Basis, Config, Facts, Holder, SnapshotRef, TaskState
from fsnap.core.planner import decide
from fsnap.core.records import Record, canonical, record_to_plain, seal
from fsnap.core.replay import Replay, replay
from fsnap.core.timeline import Reclaim, reclaims

START = datetime(2026, 11, 21, 22, 0, 0, tzinfo=UTC)
MIB = 1024 * 1024
GOOD = Path(__file__).resolve().parents[2] / "journals" / "good"
JOURNALS = GOOD.parent


class Story:
    """One task's journal; ``ms`` is the time since the story began, by every clock unless told otherwise."""

    def __init__(self, task: str = "T") -> None:
        self.state = TaskState(task=task)
        self.records: list[Record] = []
        self.ms = 0
        self.wall_skew_ms = 0
        self._running_since_ms = 0
        self.facts = Facts(started=False)
        self._move("node-a")

    def _move(self, node: str) -> None:
        self.node = node
        self.holder = Holder(
            node=node, instance="", boot_id=f"boot of {node}", pid_ns="pid:[1]", init_pid=9, init_start=7
        )
        self.mono_zero_ms = 1_000_000 * len(node) + 1_000 * ord(node[-1])

    def _run_ms(self) -> int:
        return self.state.run_base_ms + self.ms - self._running_since_ms

    def happens(self, event: Event, **facts: Any) -> Record:
        """*event* comes now; it must be worth a record."""
        now = Facts(**{name: getattr(self.facts, name) for name in Facts.__slots__})
        pending = self.state.pending
        left_ms = pending.deadline_mono_ms - self.mono_zero_ms - self.ms if pending else None
        run_ms = self._run_ms() if now.started else 0
        now = replace(now, mono_ms=self.mono_zero_ms + self.ms, left_ms=left_ms, run_ms=run_ms)
        now = replace(now, **facts)
        decision = decide(task_chart(), self.state, event, now)
        assert decision.trigger is not None, f"nothing follows from {event}"
        at = rfc3339(START + timedelta(milliseconds=self.ms + self.wall_skew_ms))
        mono_ms = self.mono_zero_ms + self.ms
        chart = task_chart()
        record = seal(draft(chart, self.state, event, now, decision, node=self.node, at=at, mono_ms=mono_ms))
        self.records.append(record)
        self.state = fold(self.state, record)
        return record

    def claims(
        self,
        node: str = "node-a",
        basis: Basis = Basis.NEW,
        *,
        config: Config | None = None,
        attempt: Attempt | None = None,
    ) -> Story:
        """A node takes the task."""
        self._move(node)
        self.facts = replace(self.facts, started=False)
        event = ClaimAsked(
            basis=basis,
            holder=self.holder,
            attempt=attempt,
            config=config or Config(),
            command=("align", "reads.fq"),
            command_digest="cd",
            cwd="/data",
        )
        self.happens(event)
        self.facts = replace(self.facts, started=not self.state.restoring_from)
        self._running_since_ms = self.ms
        return self

    def after(self, ms: int) -> Story:
        """Time passes."""
        self.ms += ms
        return self

    def notice(
        self, window_ms: int = 120_000, *, name: str = "n1", age_ms: int = 0, provider: str = "aws"
    ) -> Story:
        """The node is to go."""
        self.happens(Notice(notice_id=name, provider=provider, window_ms=window_ms), notice_age_ms=age_ms)
        return self

    def taken_back(self, name: str = "n1") -> Story:
        """It is not."""
        self.happens(NoticeCancelled(notice_id=name))
        return self

    def saved(self, kind: str = "final") -> Story:
        """The capture that was ordered last is stored."""
        self.happens(SnapshotSaved(ref=self.ref(kind)))
        return self

    def ref(self, kind: str) -> SnapshotRef:
        """The snapshot that was ordered last."""
        ordered = next(
            effect.snapshot_id
            for record in reversed(self.records)
            for effect in record.effects
            if hasattr(effect, "snapshot_id")
        )
        return SnapshotRef(
            id=ordered,
            manifest="ab" * 32,
            epoch=self.state.epoch,
            kind=kind,
            bytes=300 * MIB,
            new_bytes=40 * MIB,
            stored_bytes=12 * MIB,
            committed_at=rfc3339(START + timedelta(milliseconds=self.ms)),
            run_ms=self._run_ms(),
            stdout_bytes=0,
            stderr_bytes=0,
        )

    def checkpoint(self) -> Story:
        """A periodic one, ordered and stored within 400 ms."""
        self.happens(CheckpointAsked(reason="asked for"))
        return self.after(400).saved("periodic")

    def dump_fails(self) -> Story:
        """CRIU, or the store, could not."""
        self.happens(DumpFailed(code="criu", message="no"))
        return self

    def restored(self) -> Story:
        """The tree stands on this node."""
        assert self.state.restoring_from is not None
        self.happens(RestoreReady(snapshot_id=self.state.restoring_from, holder=self.holder))
        self.facts = replace(self.facts, started=True)
        self._running_since_ms = self.ms
        return self

    def restore_fails(self, *, corrupt: bool = False) -> Story:
        """It does not."""
        assert self.state.restoring_from is not None
        failure = RestoreFailed(
            snapshot_id=self.state.restoring_from,
            code="criu",
            message="a byte is wrong",
            corrupt=corrupt,
            holder=self.holder,
        )
        self.happens(failure)
        return self

    def deadline_passes(self) -> Story:
        """A tick at the deadline."""
        self.happens(Tick())
        return self

    def exits(self, code: int = 0) -> Story:
        """The root process ends."""
        self.happens(TaskExited(exit_code=code))
        return self.after(20).saved("files") if self.state.finishing else self

    def replayed(self) -> Replay:
        return replay(task_chart(), self.state.task, self.records)

    def reclaims(self) -> list[Reclaim]:
        return reclaims(self.replayed().steps)

    def export(self, path: Path) -> Path:
        """As JSON lines."""
        path.write_bytes(b"".join(canonical(record_to_plain(record)) + b"\n" for record in self.records))
        return path


def two_reclaims() -> Story:
    """Three nodes, the second of which is lost with nothing but a periodic checkpoint."""
    story = Story().claims("node-a").after(60_000).notice(age_ms=40).after(9_000).saved()
    story.after(30_000).claims("node-b", Basis.UPLOADED).after(4_000).restored().after(90_000)
    story.checkpoint().after(50_000).notice(30_000, name="n2").after(12_000).dump_fails()
    story.after(18_000).deadline_passes()
    story.after(40_000).claims("node-c", Basis.GAVE_UP).after(3_000).restored().after(70_000).exits()
    return story


def fsnap_replay(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    """Exit code and stdout of ``fsnap replay``; nothing may be on stderr."""
    code = main(["replay", *map(str, words)])
    captured = capsys.readouterr()
    assert captured.err == ""
    return code, captured.out


def replayed_json(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, Any]:
    code, text = fsnap_replay(capsys, *words, "--json")
    return code, json.loads(text)
