"""The record of a decision: the one place that says what goes into it."""

from __future__ import annotations

from fsnap.core.chart import Chart
from fsnap.core.events import ClaimAsked, Event
from fsnap.core.model import Facts, TaskState
from fsnap.core.planner import Decision
from fsnap.core.records import Record
from fsnap.core.values import to_plain


def draft(
    chart: Chart,
    state: TaskState,
    event: Event,
    facts: Facts,
    decision: Decision,
    *,
    node: str,
    at: str,
    mono_ms: int,
) -> Record:
    """The next record of *state*, not sealed yet; *decision* has a trigger.

    A claim begins an epoch, and carries its flags and the state before it.
    """
    assert decision.trigger is not None
    claim = isinstance(event, ClaimAsked)
    return Record(
        task=state.task,
        seq=state.seq + 1,
        epoch=state.epoch + 1 if claim else state.epoch,
        node=node,
        at=at,
        mono_ms=mono_ms,
        trigger=decision.trigger,
        source=state.state,
        dest=decision.next_state,
        event=event,
        facts=facts,
        effects=decision.effects,
        config=to_plain(event.config) if isinstance(event, ClaimAsked) else {},
        note=decision.note,
        chart=chart.version,
        folded=state if claim else None,
        prev=state.digest,
    )
