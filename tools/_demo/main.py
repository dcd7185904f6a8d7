"""``tools/demo``: a pipeline that loses its machine twice, compared with one that does not."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(CHECKOUT), str(CHECKOUT / "tools")]

from _demo.play import ENDS, FSNAP, OUTPUT, Play, Wish  # noqa: E402
from _demo.runs import Result  # noqa: E402
from _demo.screen import BOLD, GREEN, RED, Screen, size  # noqa: E402
from _demo.stage import Stage, set_stage  # noqa: E402
from fsnap.errors import FsnapError  # noqa: E402


def main() -> int:
    """0 if the outputs are the same, 1 if not or if it went wrong, 128+n for a signal."""
    parser = argparse.ArgumentParser(prog="tools/demo")
    parser.add_argument("--s3", action="store_true")
    parser.add_argument("--simple", action="store_true")
    options = parser.parse_args()
    screen, wish = Screen(), Wish()
    try:
        with set_stage(s3=options.s3, simple=options.simple) as stage:
            try:
                return perform(stage, screen, wish)
            finally:
                for number in ENDS:
                    signal.signal(number, signal.SIG_IGN)  # what was made is taken down first
    except BrokenPipeError:  # whoever read this has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except (RuntimeError, FsnapError, OSError) as problem:
        screen.line()
        if wish.number:  # it went to child processes too, and one of them may have been missed first
            print("demo: interrupted; everything that it made is gone", file=sys.stderr)
            return 128 + wish.number
        print(f"demo: {problem}", file=sys.stderr)
        return 1


def perform(stage: Stage, screen: Screen, wish: Wish) -> int:
    """Both executions and the verdict."""
    introduce(stage, screen)
    play = Play(stage, screen, wish)
    screen.title("1. The pipeline alone, on a machine that stays")
    alone = play.uninterrupted()
    screen.title("2. The same under fsnap, on machines that are reclaimed")
    moved = play.reclaimed()
    screen.title(f"3. fsnap status --store {stage.url}")
    show_status(stage, screen)
    screen.title("4. The outputs")
    return verdict(screen, alone, moved, play)


def introduce(stage: Stage, screen: Screen) -> None:
    nodes = "parts of this machine with own root, /tmp, /dev/shm, network, name and clock"
    notices = "a simulated EC2 metadata service (IMDSv2): 30 s to go"
    if stage.simple:
        nodes = "an empty FSNAP_HOME and an empty directory each"
        notices = "a file: 30 s to go"
    screen.title("fsnap demo: a pipeline of some 20 s that loses its machine twice")
    screen.line()
    screen.line("  pipeline  simulates DNA reads, counts their 11-mers by two processes in shared memory,")
    screen.line("            sorts and ranks them: tools/_demo/pipeline.sh")
    screen.line(f"  nodes     {nodes}")
    if stage.simple and stage.simple != "asked for":
        screen.line(f"            (no better ones can be made here: {stage.simple})")
    screen.line(f"  notices   {notices}")
    screen.line(f"  store     {stage.url}{f' ({stage.server})' if stage.server else ''}")


def show_status(stage: Stage, screen: Screen) -> None:
    words = ["status", "--store", stage.url]
    run = subprocess.run([str(FSNAP), *words], capture_output=True, text=True, check=False)
    for line in (run.stdout + run.stderr).rstrip().splitlines():
        screen.line(f"  {line}".rstrip())


def verdict(screen: Screen, alone: Result, moved: Result, play: Play) -> int:
    """Compare, and say what fsnap was good for."""
    rows = [
        ("stdout", len(alone.stdout), alone.stdout_sha256, moved.stdout_sha256),
        (OUTPUT, alone.file_bytes, alone.file_sha256, moved.file_sha256),
    ]
    screen.line(f"  {'SHA-256 of':<14}{'alone':<20}reclaimed twice")
    for name, length, one, other in rows:
        same = screen.paint("same", GREEN) if one == other else screen.paint("DIFFERENT", RED)
        screen.line(f"  {name:<14}{one[:16]:<20}{other[:16]:<20}{same}, {size(length)}")
    screen.line()
    if any(one != other for _, _, one, other in rows):
        screen.line(screen.paint("The outputs differ: this is a defect of fsnap, please report it.", RED))
        return 1
    kept_s = play.story.state.work_saved_ms / 1000
    pauses = " and ".join(f"{pause_s:.1f} s" for pause_s in play.story.pauses_s)
    screen.line(screen.paint("Two machines are gone, and the output is the same to the byte.", BOLD))
    screen.line(f"The last machine started with {kept_s:.1f} s of work done by the others.")
    screen.line(f"From each notice until the pipeline could go on elsewhere: {pauses}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
