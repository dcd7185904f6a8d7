"""The agent keeps every duty that the model supposes, and each probe notices when the real code does not."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from _explore.main import main
from _explore.mutations import MUTATIONS
from _explore.probes import PROBES, observed
from _explore.shell import Shell

from fsnap.agent import claiming, loop, recovery, service
from fsnap.agent.effects import Executor
from fsnap.agent.lease import Lease
from fsnap.agent.ledger import Ledger
from fsnap.agent.loop import TaskLoop
from fsnap.capsule.init import Init
from fsnap.core.claim import Sight, Verdict, judge
from fsnap.core.model import TaskState
from fsnap.journal.mirror import Mirror
from fsnap.snapshots.capture import Capture

DUTIES = [duty.name for duty in fields(Shell)]


def test_every_duty_has_a_probe_and_a_mutation() -> None:
    assert set(PROBES) == set(DUTIES)
    assert {mutation.duty for mutation in MUTATIONS.values() if mutation.duty} == set(DUTIES)


def test_the_agent_keeps_every_duty() -> None:
    assert observed() == Shell()


def _nothing(*_: Any, **__: Any) -> None:
    return None


def _judge_at_once(state: TaskState, sight: Sight) -> Verdict:
    return judge(state, replace(sight, heartbeat_still_ms=state.config.lease_ms))


def _counts_from_the_answer(self: Any, *_: Any) -> None:
    self._check()
    self._good_until_s = self._clock.boot_s() + self._lease_ms / 1000


def _renews_without_a_look(self: Any, *_: Any) -> None:
    self._good_until_s = self._clock.boot_s() + self._lease_ms / 1000


def _tells_how_long(self: Any, control: Any) -> None:
    left_s = self._good_until_s - self._clock.boot_s()
    control.request("lease", until=control.clock.now_s + control.slow_s + left_s)


def _overwrites(self: Any, batch: Any) -> None:
    from fsnap.journal.local import Head

    self._journal.accept(self._task, [batch], reason="")
    self._at = Head(batch.last_seq, batch.digest)


def _thaws_whatever(self: Any, request: Any) -> None:
    self.lease.set(request["until"])
    self.expired, self.stopped = False, None


BROKEN = [
    ("conditional_create", Mirror, "_put", _overwrites),
    ("effects_wait_for_their_record", TaskLoop, "_make_durable", _nothing),
    ("stopped_before_giving_up", loop, "_gives_back", _nothing),
    ("stopped_before_giving_up", Executor, "stand_still", _nothing),
    ("packs_before_manifest", Capture, "_check_listing", _nothing),
    ("own_clock", claiming, "judge", _judge_at_once),
    ("wait_sees_the_end", claiming, "TERMINAL", frozenset()),
    ("writes_only_as_holder", Ledger, "is_first", lambda self, notice: False),
    ("tail_is_mirrored_before_a_stray_ends", recovery, "_mirror_standing", _nothing),
    ("recovery_outlasts_the_store", recovery, "persist", lambda ship, patience_s, clock: ship()),
    ("end_is_mirrored_before_its_code", Ledger, "mirror", _nothing),
    ("strays_end_with_the_task", service, "end_stray", _nothing),
    ("first_beat_may_fail", Lease, "start", Lease.renew),
    ("lease_counts_from_its_beginning", Lease, "renew", _counts_from_the_answer),
    ("renewal_looks_for_the_fence", Lease, "renew", _renews_without_a_look),
    ("lease_end_is_absolute", Lease, "_arm", _tells_how_long),
    ("init_stops_without_lease", Init, "_check_lease", _nothing),
    ("nothing_runs_without_lease", Init, "_check_lease", _nothing),
    ("gate_loss_outlasts_renewals", Init, "op_lease", _thaws_whatever),
]


@pytest.mark.parametrize(
    ("duty", "owner", "name", "broken"), BROKEN, ids=[f"{duty}-{name}" for duty, _, name, _ in BROKEN]
)
def test_a_probe_notices(
    duty: str, owner: Any, name: str, broken: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert PROBES[duty](tmp_path)
    monkeypatch.setattr(owner, name, broken)
    if duty == "end_is_mirrored_before_its_code":
        # The stage itself needs the mirror to begin with.
        with pytest.raises(Exception):  # noqa: B017
            assert PROBES[duty](tmp_path)
    else:
        assert not PROBES[duty](tmp_path)


def test_an_agent_that_breaks_a_duty_is_explored_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(TaskLoop, "_make_durable", _nothing)
    assert main(["--quick"]) == 1
    printed = capsys.readouterr().out
    assert "the agent does not keep this duty: effects wait for their record" in printed
    assert "violation: 5: " in printed
