"""Every record must follow from its event, its facts and the state before it; what can't be told is said."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fsnap.charts import task_chart
from fsnap.core.effects import Exit
from fsnap.core.events import Tick
from fsnap.core.model import Basis, Facts, State
from fsnap.core.records import Record, seal
from fsnap.core.replay import Damage, Found, Replay, Verdict, assemble, replay
from tests.unit.replay.story import Story, two_reclaims


def rechained(records: list[Record], place: int, **changes: Any) -> list[Record]:
    """With one record changed, and digests that fit again."""
    done: list[Record] = []
    for number, record in enumerate(records):
        prev = done[-1].digest if done else ""
        folded = record.folded and replace(record.folded, digest=prev)
        changed = replace(record, prev=prev, folded=folded)
        done.append(seal(replace(changed, **changes) if number == place else changed))
    return done


def again(records: list[Record]) -> Replay:
    return replay(task_chart(), "T", *assemble(Found(seq=one.seq, record=one) for one in records))


def place_of(records: list[Record], trigger: str) -> int:
    return next(place for place, record in enumerate(records) if record.trigger == trigger)


def test_a_whole_story_comes_out_the_same() -> None:
    replayed = two_reclaims().replayed()
    assert replayed.count(Verdict.SAME) == len(replayed.steps) == 14
    assert not replayed.divergences
    assert not replayed.damage
    assert not replayed.foreign_charts


@pytest.mark.parametrize(
    ("trigger", "changes", "name", "expected", "got"),
    [
        ("begin", {"trigger": "claim_bare"}, "trigger", "claim_bare", "begin"),
        ("dump", {"effects": ()}, "effects", [], [{"kind": "Dump", "snapshot_id": "000001-0000000002"}]),
        ("commit", {"dest": State.RESUMED}, "dest", "resumed", "uploaded"),
        ("claim", {"epoch": 7}, "epoch", 7, 2),
        ("restored", {"source": State.RUNNING}, "source", "running", "restoring"),
        ("restored", {"facts": Facts(), "event": Tick()}, "trigger", "restored", None),
    ],
)
def test_what_differs_is_told(
    trigger: str, changes: dict[str, Any], name: str, expected: Any, got: Any
) -> None:
    records = two_reclaims().records
    place = place_of(records, trigger)
    first = again(rechained(records, place, **changes)).divergences[0]
    assert first.seq == place + 1
    assert (first.expected[name], first.got[name]) == (expected, got)


def test_a_folded_state_that_differs_is_a_divergence() -> None:
    records = two_reclaims().records
    place = place_of(records, "claim")
    folded = records[place].folded
    assert folded is not None
    forged = replace(folded, exit_code=5, digest=records[place].prev)
    (divergence,) = again(rechained(records, place, folded=forged)).divergences
    assert divergence.expected["folded"] == {"exit_code": 5}
    assert divergence.got["folded"] == {"exit_code": None}


def test_what_the_chart_refuses_is_a_divergence() -> None:
    records = two_reclaims().records
    place = place_of(records, "commit")
    event = records[place].event
    unverified = replace(event, ref=replace(event.ref, manifest=""))  # type: ignore[attr-defined,call-arg]
    first = again(rechained(records, place, event=unverified)).divergences[0]
    assert "a guard refuses commit" in first.got["refused"]


def test_a_note_may_be_worded_otherwise() -> None:
    records = two_reclaims().records
    changed = rechained(records, place_of(records, "dump"), note="in other words")
    # The folded state holds the last note, so the claim after it agrees only if nothing else came between.
    assert not again(changed[: place_of(records, "claim")]).divergences


def test_after_a_divergence_the_rest_is_still_compared() -> None:
    records = two_reclaims().records
    wrong = (Exit(exit_code=5, outcome="exited"),)
    replayed = again(rechained(records, place_of(records, "complete"), effects=wrong))
    assert [one.seq for one in replayed.divergences] == [len(records)]
    assert replayed.count(Verdict.SAME) == len(records) - 1


def test_another_planner_is_not_compared_and_another_chart_is() -> None:
    records = two_reclaims().records
    place = place_of(records, "commit")
    replayed = again(rechained(records, place, planner=99, effects=(), chart="0123456789abcdef"))
    assert replayed.count(Verdict.OTHER_PLANNER) == 1
    assert replayed.count(Verdict.SAME) == len(records) - 1
    assert replayed.foreign_charts == ("0123456789abcdef",)
    replayed = again(rechained(records, place, effects=(), chart="0123456789abcdef"))
    assert [one.seq for one in replayed.divergences] == [place + 1]


def test_without_a_record_the_state_is_unknown_until_the_next_claim() -> None:
    records = two_reclaims().records
    claims = [place for place, record in enumerate(records) if record.trigger == "claim"]
    hole = claims[0] + 1
    replayed = again(records[:hole] + records[hole + 1 :])
    assert replayed.damage == (Damage(first_seq=hole + 1, last_seq=hole + 1, problem="missing"),)
    assert replayed.count(Verdict.STATE_UNKNOWN) == claims[1] - hole - 1
    assert replayed.count(Verdict.SAME) == len(records) - (claims[1] - hole)
    assert replayed.steps[-1].after is not None


def test_a_record_that_follows_another_one_is_damage() -> None:
    records = two_reclaims().records
    other = Story().claims("node-z").after(5).notice().records
    replayed = again([other[0], *records[1:]])
    assert replayed.damage == (
        Damage(first_seq=2, last_seq=2, problem="does not follow the record before it"),
    )
    assert replayed.steps[1].verdict is Verdict.STATE_UNKNOWN


def test_of_two_records_of_one_number_the_one_that_follows_counts() -> None:
    records = two_reclaims().records
    stray = seal(replace(records[2], prev="ff" * 32))
    found = [Found(seq=one.seq, record=one) for one in [*records, stray]]
    kept, damage = assemble(found)
    assert kept == records
    assert [(one.first_seq, one.last_seq) for one in damage] == [(3, 3)]


def test_two_records_of_one_number_that_both_follow_are_none() -> None:
    records = two_reclaims().records
    stray = seal(replace(records[2], mono_ms=5))
    kept, damage = assemble([Found(seq=one.seq, record=one) for one in [*records, stray]])
    assert [one.seq for one in kept] == [one.seq for one in records if one.seq != 3]
    assert damage[0].problem == "there are several records of this number"


def test_the_same_record_twice_is_no_damage() -> None:
    records = two_reclaims().records
    kept, damage = assemble([Found(seq=one.seq, record=one) for one in [*records, *records]])
    assert (kept, damage) == (records, [])


def test_records_that_must_have_been_there() -> None:
    records = Story().claims().records
    _, damage = assemble([Found(seq=1, record=records[0])], known_last_seq=4, known_by="a head tells")
    assert damage == [Damage(first_seq=2, last_seq=4, problem="missing: a head tells")]


def test_a_claim_of_a_story_that_began_earlier() -> None:
    story = two_reclaims()
    start = place_of(story.records, "claim")
    replayed = again(story.records[start:])
    assert replayed.count(Verdict.SAME) == len(story.records) - start
    assert replayed.steps[0].before == story.records[start].folded
    assert replayed.damage[0] == Damage(first_seq=1, last_seq=start, problem="missing")


def test_a_forged_restore_of_nothing_does_not_stop_the_replay() -> None:
    story = Story().claims().after(10)
    story.claims("node-b", Basis.LEASE_EXPIRED)
    forged = rechained(story.records, 1, trigger="claim", dest=State.RESTORING)
    replayed = again(forged)
    assert replayed.divergences[0].seq == 2
    assert replayed.steps[1].after is None
