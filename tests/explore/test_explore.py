"""Today's rules break no invariant up to a small bound, and each rule that is broken on purpose is found."""

from __future__ import annotations

from pathlib import Path

import pytest
from _explore.main import main
from _explore.mutations import MUTATIONS
from _explore.scenarios import SCENARIOS, Run
from _explore.shell import Shell


def test_the_rules_hold_up_to_a_small_bound(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--starts", "2", "--faults", "1", "--notices", "1", "--depth", "10", "--sample", "30"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("all up to depth 10") == len(SCENARIOS)
    assert "no violation: " in printed


def test_two_nodes_are_walked_to_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--scenario", "lease", "--starts", "2", "--sample", "50"]) == 0
    assert "all there are, the farthest at depth" in capsys.readouterr().out


@pytest.mark.slow
def test_the_rules_hold_up_to_the_default_bound(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_broken_rule_is_found(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--mutate", name]) == 1
    printed = capsys.readouterr().out
    assert "\nviolation: " in printed
    assert "   1  node A  attempt 1 is started" in printed, "the path begins at the beginning"


def test_a_path_is_the_shortest() -> None:
    """One step less and nothing is found."""
    with MUTATIONS["lease-ignored"].applied():
        found = Run(scenario="lease", starts=2).search(Shell()).run(depth=100, max_states=10**6)
        assert found.wrong and found.depth == len(found.path)
        shorter = Run(scenario="lease", starts=2).search(Shell()).run(depth=found.depth - 1, max_states=10**6)
    assert not shorter.wrong


def test_a_mutation_leaves_nothing_behind() -> None:
    for mutation in MUTATIONS.values():
        with mutation.applied():
            pass
    assert not Run(scenario="lease", starts=2).search(Shell()).run(depth=12, max_states=10**6).wrong


def test_a_file_from_outside_may_break_a_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mutation = tmp_path / "equal.py"
    mutation.write_text(
        "from unittest.mock import patch\n"
        "from fsnap.core import claim\n"
        "stack.enter_context(patch.object(claim, '_later', lambda recorded, mine: True))\n"
    )
    assert main(["--mutate", str(mutation), "--quick"]) == 1
    assert "8: a holder is superseded" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [["--mutate", "nonsense"], ["--mutate", "/no/such.py"], ["--depth", "x"]]
)
def test_bad_usage_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "explore: error: " in capsys.readouterr().err


def test_the_lists(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list-mutations"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in listed] == list(MUTATIONS)
    assert main(["--list-scenarios"]) == 0
    assert capsys.readouterr().out.startswith("lease: ")
