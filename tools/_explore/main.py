"""The command line of ``tools/explore``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from pathlib import Path

from _explore.liveness import Completion
from _explore.mutations import MUTATIONS, NONE, Mutation, from_file
from _explore.probes import observed
from _explore.scenarios import DEFAULT, QUICK, SCENARIOS, Run
from _explore.search import Found, Search
from _explore.shell import Shell

SAMPLE = 300
"""Worlds of a search from which a continuation is looked for."""

BUDGETS = ("starts", "faults", "notices", "checkpoints", "drift")


def main(argv: Sequence[str]) -> int:
    """0: no violation; 1: one was found and its shortest path printed; 2: bad usage."""
    parser = _parser()
    options = parser.parse_args(argv)
    if options.list_scenarios or options.list_mutations:
        _list(options)
        return 0
    try:
        mutation = _mutation(options.mutate)
    except (OSError, ValueError) as problem:
        parser.error(f"--mutate {options.mutate}: {problem}")
    with mutation.applied():
        shell = observed()
        for duty in fields(shell):
            if not getattr(shell, duty.name):
                print(f"the agent does not keep this duty: {duty.name.replace('_', ' ')}")
        return explore(_runs(options, mutation), mutation.left(shell), options.max_states, options.sample)


def explore(runs: Iterable[Run], shell: Shell, max_states: int, sample: int) -> int:
    """Every run, up to the first violation; 0 or 1 as :func:`main`."""
    states = steps = 0
    seconds = 0.0
    for run in runs:
        search = run.search(shell)
        found = search.run(depth=run.depth, max_states=max_states)
        _report(run, found)
        if found.wrong:
            _print_path(search, found.wrong, found.path)
            return 1
        if not _continues(search, sample):
            return 1
        states, steps, seconds = states + found.states, steps + found.steps, seconds + found.seconds
    print(f"no violation: {states} states, {steps} steps, {seconds:.1f} s, {_rate(states, seconds)}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="explore",
        description="Walks every interleaving of nodes, notices, crashes, lease expiries and store faults"
        " that the protocol's rules allow, up to a bound, checks the invariants in every state, and prints"
        " the shortest path to a violation. Exit codes: 0 no violation, 1 a violation, 2 usage.",
        epilog="Without options: a few searches, together under a minute. --depth and --nodes change all of"
        " them. A budget (--starts, --faults, --notices, --checkpoints, --drift) asks for one search of each"
        " scenario with these budgets instead, to its end if no --depth is given.",
    )
    add = parser.add_argument
    add("--depth", type=_count, metavar="N", help="steps from the beginning, at most")
    add("--nodes", type=_count, metavar="N", help="machines at a time")
    add("--quick", action="store_true", help="smaller bounds, some ten seconds in all")
    add("--scenario", action="append", choices=SCENARIOS, help="only this one; may be given several times")
    add("--starts", type=_count, metavar="N", help="starts by the scheduler (2)")
    add("--faults", type=_count, metavar="N", help="deaths, losses and failures, of any kind (0)")
    add("--notices", type=_count, metavar="N", help="reclaim notices (0)")
    add("--checkpoints", type=_count, metavar="N", help="periodic checkpoints (0)")
    add("--drift", type=_count, metavar="N", help="ticks that some machine's clocks miss (0)")
    add("--max-states", type=_count, metavar="N", default=5_000_000, help="a search ends there (5000000)")
    add(
        "--sample",
        type=_count,
        metavar="N",
        default=SAMPLE,
        help=f"states of a search from which a way to the task's end is looked for ({SAMPLE})",
    )
    add(
        "--mutate",
        metavar="NAME|FILE.py",
        help="break a rule on purpose: one of --list-mutations, or whatever this Python file does to fsnap's"
        " modules when it is run",
    )
    add("--list-mutations", action="store_true", help="say what can be broken by name")
    add("--list-scenarios", action="store_true", help="say what scenarios there are")
    return parser


def _count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no number")
    return int(text)


def _list(options: argparse.Namespace) -> None:
    if options.list_scenarios:
        for name, scenario in SCENARIOS.items():
            print(f"{name}: {scenario.about}")
    if options.list_mutations:
        for name, mutation in MUTATIONS.items():
            print(f"{name}: {mutation.about}")


def _mutation(wanted: str | None) -> Mutation:
    if wanted is None:
        return NONE
    if wanted in MUTATIONS:
        return MUTATIONS[wanted]
    if wanted.endswith(".py"):
        return from_file(Path(wanted))
    raise ValueError("no such mutation; see --list-mutations")


def _runs(options: argparse.Namespace, mutation: Mutation) -> Iterable[Run]:
    budgets = {name: value for name in BUDGETS if (value := getattr(options, name)) is not None}
    wanted = options.scenario or list(SCENARIOS)
    if budgets:
        runs = [Run(scenario=name, **{"starts": 2, **budgets}) for name in wanted]
    elif mutation.found_by is not None:
        runs = [mutation.found_by]
    else:
        runs = [run for run in (QUICK if options.quick else DEFAULT) if run.scenario in wanted]
    bounds = {name: value for name in ("nodes", "depth") if (value := getattr(options, name)) is not None}
    return [replace(run, **bounds) for run in runs]


def _rate(states: int, seconds: float) -> str:
    return f"{states / max(seconds, 0.001):.0f} states/s"


def _report(run: Run, found: Found) -> None:
    if found.wrong:
        bound = f"a violation at depth {found.depth}"
    elif found.cut:
        bound = f"cut off by --max-states beyond depth {found.depth}"
    elif found.exhausted:
        bound = f"all there are, the farthest at depth {found.depth}"
    else:
        bound = f"all up to depth {found.depth}"
    print(f"{run}")
    print(
        f"    {found.states} states ({bound}), {found.steps} steps, {found.seconds:.1f} s,"
        f" {_rate(found.states, found.seconds)}",
        flush=True,
    )


def _continues(search: Search, sample: int) -> bool:
    """Looks for a continuation from states spread over the search; false, and said, if one has none."""
    if not sample:
        return True
    worlds = list(search.parents)
    picked = worlds[:: max(1, len(worlds) // sample)]
    completion = Completion(search)
    for world in picked:
        if not completion.completes(world):
            _print_path(search, "no continuation without faults completes the task", search.path_to(world))
            return False
    print(f"    the task can be completed from each of {len(picked)} of them", flush=True)
    return True


def _print_path(search: Search, wrong: str, path: list[tuple[int, str, tuple[int, ...]]]) -> None:
    print(f"violation: {wrong}")
    for number, (place, label, world) in enumerate(path, 1):
        who = "clocks" if place < 0 else f"node {chr(ord('A') + place)}"
        print(f"{number:4}  {who:6}  {label}  [{search.state_name(world)}]")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
