"""Lives of a task under faults: nothing breaks, a seed always lives the same life, and most things happen."""

from __future__ import annotations

import pytest
from _simulate.main import Coverage, main, simulate

from tests.sim.given import fault, plan, violations

SEEDS = range(1, 201)

RARE = {"adopt", "renew", "claim_bare", "note", "restart"}
"""Triggers some of whose arrows take more lives than these."""

COLLECTED = {"abandon", "collect"}
"""Triggers of ``fsnap gc``, which comes into no life."""


def test_nothing_breaks() -> None:
    table = Coverage()
    for seed in SEEDS:
        result = simulate(seed)
        assert not result.violation, f"seed {seed}: {result.violation}"
        table.add(result)
    assert {"notice", "agent killed", "node dies", "lost answer, late", "lease ran out"} <= set(table.met)
    taken = {trigger for trigger, _, _ in table.arrows}
    assert {"begin", "predump", "checkpointed", "dump", "commit", "rollback", "claim", "restored"} <= taken
    assert {"give_up", "finish", "complete", "fail", "claim_bare", "renew", "note"} <= taken


@pytest.mark.slow
def test_nothing_breaks_for_long() -> None:
    table = Coverage()
    for seed in range(1_000, 7_000):
        result = simulate(seed)
        assert not result.violation, f"seed {seed}: {result.violation}"
        table.add(result)
    assert not {arrow for arrow in table.never() if arrow[0] not in RARE | COLLECTED}


@pytest.mark.parametrize("seed", [3, 17, 40, 111])
def test_a_seed_lives_the_same_life(seed: int) -> None:
    first = simulate(seed)
    assert len(first.trace) > 5
    assert simulate(seed) == first


@pytest.mark.parametrize("seed", [5, 24, 99])
def test_the_real_journal_lives_the_same_life(seed: int) -> None:
    assert simulate(seed, journal="sqlite") == simulate(seed)


def test_a_broken_seed_is_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from _simulate.checks import Checks

    monkeypatch.setattr(Checks, "steps", lambda self, tree: self.wrong("made up", f"{tree} works"))
    assert main(["--seed", "7", "--count", "3", "--jobs", "1"]) == 1
    shown = capsys.readouterr().out
    assert (
        "seed 7 FAILED" in shown
        and "made up: copy 1" in shown
        and "tools/simulate --seed 7 --verbose" in shown
    )


def test_the_table_counts_lives(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "1", "--count", "3", "--jobs", "1"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("3 lives") and "begin: new -> running" in shown and "NEVER" in shown


def test_a_holder_that_renews_between_the_look_and_the_claim() -> None:
    life = plan(
        fault("partition", 5.0, 9.5),
        fault("early attempt", 5.5, 1.0),
        policy="plain",
        rates={"capsule made slowly": 1.0},
    )
    assert not list(violations(life, range(30)))
