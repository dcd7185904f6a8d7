"""A tree that CRIU has restored is released only if everything that it was given was sound."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fsnap.agent import restoring
from fsnap.agent.restoring import Restorer
from fsnap.errors import CorruptData


class AtTheGate:
    """A run of CRIU that has restored its tree."""

    def __init__(self, *_: object) -> None:
        self.verdicts: list[str] = []
        made.append(self)

    def spawn(self, *_: object, **__: object) -> None:
        pass

    def wait_gate(self) -> dict[str, Any]:
        return {"event": "gate"}

    def open_gate(self, verdict: str) -> int:
        self.verdicts.append(verdict)
        return 0


made: list[AtTheGate] = []


@pytest.mark.parametrize("failure", [None, CorruptData("a pack is damaged")])
def test_a_failure_is_told_even_if_criu_came_to_its_gate(
    failure: CorruptData | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken_back: list[object] = []
    monkeypatch.setattr(restoring, "CriuRun", AtTheGate)
    monkeypatch.setattr(restoring, "find_criu", lambda: Path("criu"))
    monkeypatch.setattr(restoring, "network_lock", lambda criu: "skip")
    monkeypatch.setattr(restoring, "restore_argv", lambda **_: [])
    monkeypatch.setattr(Restorer, "_take_back", lambda self, snapshot: taken_back.append(snapshot))
    restorer: Any = Restorer.__new__(Restorer)
    restorer._run_dir = SimpleNamespace(images=tmp_path)
    restorer._capsules = SimpleNamespace(finish=lambda: None, gate=tmp_path / "gate")
    snapshot: Any = SimpleNamespace(about=SimpleNamespace(pipes={}, root_pid=1001))
    served: Any = SimpleNamespace(names=[], failure=failure)
    if failure is None:
        run, _ = restorer._run_criu(None, snapshot, served, "close")
        assert run is made[-1]
        assert not made[-1].verdicts
        return
    with pytest.raises(CorruptData, match="a pack is damaged"):
        restorer._run_criu(None, snapshot, served, "close")
    assert made[-1].verdicts == ["no"]
    assert taken_back == [snapshot]
