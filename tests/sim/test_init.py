"""The capsule's init of the simulation does what the real one does, request by request."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from _simulate import capsule as double
from _simulate.fibers import Timer

from fsnap.capsule import init as module
from fsnap.capsule import leasetimer

ROOT_PID = 1001
TAG = "criu"


class Now:
    """One boot clock for both."""

    def __init__(self) -> None:
        self.s = 100.0

    def boot_s(self) -> float:
        return self.s


class Os:
    """The module ``os`` of an init that has no processes."""

    def __init__(self) -> None:
        self._pids = iter(range(ROOT_PID, 10_000))

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def fork(self) -> int:
        return next(self._pids)

    def kill(self, pid: int, number: int) -> None:
        pass

    killpg = kill


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Now:
    made = Now()
    for where in (module, leasetimer):
        monkeypatch.setattr(where, "now_s", made.boot_s)
    return made


@pytest.fixture
def real(now: Now, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[module.Init]:
    handlers = SimpleNamespace(set_wakeup_fd=lambda fd: None, signal=lambda number, handler: None)
    numbers = {name: getattr(module.signal, name) for name in dir(module.signal) if name.startswith("SIG")}
    monkeypatch.setattr(module, "signal", SimpleNamespace(**{**numbers, **vars(handlers)}))
    monkeypatch.setattr(module, "os", Os())
    monkeypatch.setattr(module, "others", list)
    monkeypatch.setattr(module, "run_resumer", lambda criu, log: None)
    monkeypatch.setattr(module, "open", lambda *_, **__: (tmp_path / "last_pid").open("w"), raising=False)
    (tmp_path / "run").mkdir()
    made = module.Init(str(tmp_path / "run"), socket.socket(socket.AF_UNIX).detach(), -1)
    yield made
    made.listener.close()
    for fd in (made.gate_req, made.gate_ans, made.wake_read, made.wake_write, made.lease.fd):
        os.close(fd)


@pytest.fixture
def sim(now: Now, monkeypatch: pytest.MonkeyPatch) -> double.SimInit:
    world: Any = SimpleNamespace(
        trace=lambda line: None,
        count=lambda fault: None,
        odds=lambda fault: False,
        rng=Random(0),
        scheduler=SimpleNamespace(after=lambda *_: Timer(0.0, None, None)),
        after_some=lambda *_: None,
    )
    node: Any = SimpleNamespace(
        name="n1",
        new_pid=lambda: (1, 2),
        clock=SimpleNamespace(boot_s=now.boot_s, rate=1.0),
        new_tree=lambda *_, **__: Stub(),
    )
    monkeypatch.setattr(double, "SimCriu", lambda *_: Stub())
    return double.SimInit(world, node)


class Stub:
    """A tree, or CRIU, whose part the test plays."""

    done = 0

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


class Both:
    """The real init and its double, to which the same happens."""

    def __init__(self, real: module.Init, sim: double.SimInit, now: Now) -> None:
        self.real, self.sim, self.now = real, sim, now
        self.told: tuple[list[str], list[str]] = ([], [])
        real._tell = lambda **event: self.told[0].append(event["event"])  # type: ignore[method-assign]
        sim.tell = lambda **event: self.told[1].append(event["event"])  # type: ignore[method-assign]

    def ask(self, op: str, **request: Any) -> None:
        """Both answer, or refuse."""
        answers = []
        for ask in (
            lambda: getattr(self.real, "op_" + op)(request),
            lambda: getattr(self.sim, "op_" + op)(**request),
        ):
            try:
                answers.append((ask() or {}).get("lease_over", False))
            except ValueError as refusal:
                answers.append(str(refusal))
        assert answers[0] == answers[1], op
        self.real._check_lease()  # as its loop does after each request

    def start(self) -> None:
        self.ask("start", argv=["x"], env=[], cwd="/")

    def spawn(self, kind: str) -> None:
        pipes = {"pipes": True, "root_pid": ROOT_PID} if kind == "restore" else {}
        if self.real.stopped is None and kind == "restore":
            self.sim.tree = Stub()  # type: ignore[assignment]
        self.ask("spawn", tag=TAG, argv=[kind], log="/dev/null", **pipes)

    def to_the_gate(self) -> None:
        action = "post-restore" if self.real.restoring else "post-dump"
        os.write(self.real.gate_req, action.encode() + b"\n")
        self.real._read_gate()
        self.sim.at_gate(action)

    def helper_ends(self, code: int) -> None:
        (pid,) = self.real.helpers
        self.real._helper_ended(pid, self.real.helpers.pop(pid), code)
        self.real._check_lease()
        self.sim.helper_ended(TAG, code)

    def root_ends(self, code: int) -> None:
        self.real._root_ended(code)
        self.sim.root_ended(code)

    def passes(self, seconds: float) -> None:
        self.now.s += seconds
        self.real._check_lease()
        self.sim._check_lease()

    def compare(self) -> None:
        """What an agent that connects now is told, and what was told so far."""
        mine, double_s = self.real.op_hello({}), self.sim.op_hello()
        for answer in (mine, double_s):
            answer["root_pid"] = bool(answer["root_pid"])
            answer["helpers"] = sorted(answer["helpers"])
        for name in ("root_pid", "exit_code", "gate", "frozen", "helpers", "boot_s"):
            assert mine[name] == double_s[name], name
        assert self.told[0] == self.told[1]
        assert (self.real.expired, self.real.restoring) == (self.sim.expired, self.sim.restoring)


def step(both: Both, rng: Random) -> None:
    """Something that may happen now."""
    real = both.real
    may = ["freeze", "thaw", "lease", "lease", "passes", "passes", "gate"]
    if not real.helpers and (real.exit_code is None or not real.root_pid):
        may += ["spawn", "spawn"]
    if real.helpers and real.gate is None:
        may += ["to the gate", "to the gate"]
    if real.helpers:
        may.append("helper ends")
    if real.root_pid and real.exit_code is None and real.root_code is None and not real.restoring:
        may.append("root ends")
    match rng.choice(may):
        case "freeze" | "thaw" as op:
            both.ask(op)
        case "lease":
            both.ask("lease", until=rng.choice((None, both.now.s - 1.0, both.now.s, both.now.s + 2.0)))
            both.passes(0.0)
        case "passes":
            both.passes(rng.choice((0.5, 1.5, 3.0)))
        case "gate":
            both.ask("gate", verdict=rng.choice(("go", "no")))
        case "spawn":
            both.spawn("dump" if real.root_pid else "restore")
        case "to the gate":
            both.to_the_gate()
        case "helper ends":
            both.helper_ends(rng.choice((0, 1)))
        case "root ends":
            both.root_ends(rng.choice((0, 3)))


@pytest.mark.parametrize("seed", range(100))
def test_the_double_is_as_the_real_one(seed: int, real: module.Init, sim: double.SimInit, now: Now) -> None:
    rng, both = Random(seed), Both(real, sim, now)
    if rng.random() < 0.7:
        both.start()
    for _ in range(40):
        step(both, rng)
        both.compare()


def test_a_tree_that_was_dumped_is_stopped_before_criu_lets_go_past_the_lease(
    real: module.Init, sim: double.SimInit, now: Now
) -> None:
    both = Both(real, sim, now)
    both.start()
    both.ask("lease", until=now.s + 2.0)
    both.spawn("dump")
    both.to_the_gate()
    both.passes(3.0)
    assert real.stopped is None, "while CRIU works it is left alone"
    both.ask("gate", verdict="no")
    assert real.stopped is not None
    both.helper_ends(1)
    both.ask("thaw")
    assert real.stopped is not None, "only a renewal lets it go on"
    both.ask("lease", until=now.s + 2.0)
    assert real.stopped is None
    both.compare()


def test_nothing_is_started_past_the_lease(real: module.Init, sim: double.SimInit, now: Now) -> None:
    """An agent that was stopped between its claim and the start, and goes on when another has the task."""
    both = Both(real, sim, now)
    both.ask("lease", until=now.s + 2.0)
    both.passes(3.0)
    both.start()
    assert not real.root_pid
    both.compare()
    both.ask("lease", until=now.s + 2.0)
    both.start()
    assert real.root_pid
    both.compare()


def test_the_gate_of_a_restored_tree_stays_closed_past_the_lease(
    real: module.Init, sim: double.SimInit, now: Now
) -> None:
    both = Both(real, sim, now)
    both.ask("lease", until=now.s + 2.0)
    both.spawn("restore")
    both.to_the_gate()
    both.passes(3.0)
    both.ask("gate", verdict="go")
    assert real.gate == "post-restore"
    both.ask("lease", until=now.s + 2.0)
    both.ask("gate", verdict="go")
    assert real.gate is None
    both.helper_ends(0)
    both.compare()
