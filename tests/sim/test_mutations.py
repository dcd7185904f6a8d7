"""Each rule of the protocol, left out, breaks an invariant within a few hundred seeds."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from _simulate import snapshots
from _simulate.plan import Plan
from _simulate.store import NodeStore

from fsnap.agent import effects, lease, loop, service
from fsnap.core import fold
from fsnap.core.effects import Durability
from fsnap.core.events import RenewAsked
from fsnap.core.model import TaskState
from fsnap.core.records import Record
from fsnap.crashpoints import CrashPoint
from fsnap.journal.mirror import Mirror
from tests.sim.given import at_point, fault, found, plan, violations


def test_effects_before_their_mirrored_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "durability", lambda chosen: Durability.LOCAL)
    assert found("exit after its record", "release after its record", "kill after its record")


def test_a_release_before_its_mirrored_record(monkeypatch: pytest.MonkeyPatch) -> None:
    real = loop.durability

    def only_release(chosen: Any) -> Durability:
        released = any(isinstance(effect, effects.Release) for effect in chosen)
        return Durability.LOCAL if released else real(chosen)

    monkeypatch.setattr(loop, "durability", only_release)
    assert found("release after its record")


def test_a_lease_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease.Lease, "_arm", lambda self, control: control.request("lease", until=None))
    assert found("one live copy")


def test_a_claimant_that_does_not_wait_for_the_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(effects.Executor, "_not_before_s", lambda self, effect: 0.0)
    assert found("one live copy")


def test_a_renewal_that_looks_for_no_newer_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Mirror, "check", lambda self: None)
    assert found("one live copy")


def test_a_store_that_ignores_the_condition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NodeStore, "create", NodeStore.put)
    assert found("")


def test_a_manifest_without_its_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    def name_only(self: Any, tree: str, units: list[int]) -> str:
        return snapshots.digest(json.dumps([tree, units]).encode())

    monkeypatch.setattr(snapshots.SimCapture, "_add", name_only)
    monkeypatch.setattr(snapshots.SimCapture, "_missing", lambda self: set())
    assert found("recorded when stored")


def test_a_lease_without_a_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clocks drift, and init is late."""
    monkeypatch.setattr(lease, "run_ms", lambda lease_ms: lease_ms)
    assert any(found("one live copy", given=cut_off(seed), seeds=[seed]) for seed in range(200))


def test_a_lease_has_a_margin() -> None:
    assert not any(found("", given=cut_off(seed), seeds=[seed]) for seed in range(200))


def cut_off(seed: int) -> Plan:
    """The holder is cut off while another attempt claims; in some lives right after a renewal."""
    at_s = 5.0 + seed / 100
    return plan(fault("early attempt", at_s), fault("partition", at_s + 0.2, 60.0), units=30)


def test_a_copy_that_runs_on_while_it_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The record is out, and its agent is stopped before it has killed the tree."""
    monkeypatch.setattr(loop, "_gives_back", lambda decision: False)
    assert found("one live copy", given=given_up(), seeds=range(30))


def test_a_copy_that_is_given_up_is_stopped_first() -> None:
    assert not list(violations(given_up(), range(30)))


def given_up() -> Plan:
    """A notice that no dump can meet; its agent is stopped with the record in the store."""
    return plan(
        fault("false notice", 5.0, -1.5),
        at_point("agent stopped", CrashPoint.DURABLE, 3, 8.0),
        fault("early attempt", 9.0),
    )


def test_an_agent_that_gives_up_on_its_capsule_in_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "lives_on", lambda *_: False)
    assert found("an outage ends no agent of a live copy", given=without_agent(), seeds=range(30))


def test_a_capsule_without_an_agent_is_taken_over_in_an_outage() -> None:
    assert not list(violations(without_agent(), range(30)))


def without_agent() -> Plan:
    """The store goes away, then the agent."""
    return plan(fault("outage", 4.0, 40.0), fault("agent killed", 5.0))


def test_a_new_life_that_does_not_wait_for_the_copy_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fold._HANDLERS, RenewAsked, forgetful(fold._renew))
    assert found("one live copy", given=anew(), seeds=range(30))


def test_a_new_life_waits_for_the_copy_before() -> None:
    assert not list(violations(anew(), range(30)))


def forgetful(renew: Callable[[TaskState, Record], TaskState]) -> Callable[[TaskState, Record], TaskState]:
    """The rule, without the wait."""
    return lambda state, record: replace(renew(state, record), hold_ms=0)


def anew() -> Plan:
    """A copy lives on while the attempt after it is cancelled, and another one begins."""
    return plan(
        fault("checkpoint asked", 3.0),
        fault("agent killed", 6.0),
        fault("early attempt", 6.1),
        fault("cancelled", 8.5),
        fault("early attempt", 9.0),
    )
