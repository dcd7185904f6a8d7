"""What the look at the tree counts as a finding."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from fsnap.agent import runtime
from fsnap.agent.capsules import Capsules
from fsnap.agent.runtime import Watch
from fsnap.criu.preflight import Problem, TreeSight

TRACED = Problem(pid=1001, command="sort", what="is traced by process 7")


class Asked:
    """Capsules whose helpers are, at each question, the next of *answers*."""

    def __init__(self, *answers: frozenset[int]) -> None:
        self.answers = list(answers)

    def helpers(self) -> frozenset[int]:
        return self.answers.pop(0)

    def proc(self) -> Path:
        return Path("/proc")

    def root_pid(self) -> int:
        return 1001


NONE, CRIU = frozenset[int](), frozenset({7})


@pytest.mark.parametrize(
    ("answers", "found"),
    [((CRIU,), ""), ((NONE, CRIU), ""), ((NONE, NONE), str(TRACED))],
    ids=["CRIU is there", "CRIU comes during the look", "no CRIU"],
)
def test_what_criu_does_is_no_finding(
    answers: tuple[frozenset[int], ...], found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(*_: Any) -> TreeSight:
        return TreeSight(problems=(TRACED,), pids=(1001,), rss_bytes=5, connected=False)

    monkeypatch.setattr(runtime, "look", look)
    watch = Watch(cast(Capsules, Asked(*answers)))
    watch._look()
    assert watch.unsupported == found
