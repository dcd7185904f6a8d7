"""``tools/bench``: fsnap's figures on this machine, side by side with the naive way."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(CHECKOUT), str(CHECKOUT / "tools")]

from _bench.bench import Bench  # noqa: E402
from _bench.failure import BenchFailure  # noqa: E402
from _bench.figures import FIGURES, NEED_NO_CRIU  # noqa: E402
from _bench.output import Figure, Progress, document  # noqa: E402
from fsnap.criu.install import criu_version, find_criu  # noqa: E402
from fsnap.errors import EXIT_USAGE, FsnapError  # noqa: E402

SIZE_MIB = 256
LEAST_MIB = 8
FOREIGN = ("AWS_", "AZURE_", "BATCH_", "FSNAP_", "GOOGLE_", "SLURM_")
"""Variables that would lead the bench to somebody's cloud, scheduler or settings."""


def main() -> int:
    """0 when all was measured, whatever the figures are; 1 when it failed; 2: usage, or an unfit machine."""
    options = _options()
    names = list(dict.fromkeys(options.names)) or list(FIGURES)
    if unknown := [name for name in names if name not in FIGURES]:
        return _refuse(f"there is no figure {unknown[0]!r}; there are {', '.join(FIGURES)}")
    if options.size_mib < LEAST_MIB:
        return _refuse(f"--size-mib {options.size_mib}: at least {LEAST_MIB}")
    if set(names) - NEED_NO_CRIU and (problem := _unfit()):
        return _refuse(problem)
    _clean_environment()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with ExitStack() as stack:
            figures = _measure(options, names, stack)
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130
    except (BenchFailure, FsnapError, OSError) as problem:
        print(f"bench: {problem}", file=sys.stderr)
        return 1
    if options.json:
        print(document(figures))
    else:
        print("\n".join(figure.line() for figure in figures))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tools/bench", description=f"Figures: {', '.join(FIGURES)}.")
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="a figure (default: all)")
    add("--json", action="store_true", help="one JSON document on stdout")
    add(
        "--size-mib",
        type=int,
        default=SIZE_MIB,
        metavar="N",
        help=f"the process's memory (default: {SIZE_MIB})",
    )
    add(
        "--store",
        choices=("file", "s3"),
        help="measure with this store alone (default: what each goal names)",
    )
    add(
        "--runs",
        type=int,
        metavar="N",
        help="interleaved runs of each figure (default: 7; 3 of large processes)",
    )
    add("--dir", type=Path, metavar="DIR", help="work below DIR (default: the directory for temporary files)")
    return parser.parse_args()


def _measure(options: argparse.Namespace, names: list[str], stack: ExitStack) -> list[Figure]:
    work = Path(tempfile.mkdtemp(prefix="fsnap-bench.", dir=options.dir))
    stack.callback(shutil.rmtree, work, ignore_errors=True)
    os.environ.pop("TMPDIR", None)  # the process's temporary files belong in /tmp, which travels
    bench = Bench(
        names=names,
        size_mib=options.size_mib,
        runs_wanted=options.runs,
        store=options.store,
        work=work,
        progress=Progress(),
        stack=stack,
    )
    figures = []
    for name in names:
        bench.progress.say(name)
        for figure in FIGURES[name](bench):
            bench.progress.say(figure.line())
            figures.append(figure)
    return figures


def _unfit() -> str:
    """Why nothing can be measured here, or an empty string."""
    if os.geteuid() != 0:
        return "it needs root and CRIU: sudo tools/bench (the figure 'cut' does not)"
    try:
        criu_version(find_criu())
    except FsnapError as problem:
        return f"it needs root and CRIU: {problem}"
    return ""


def _clean_environment() -> None:
    for name in list(os.environ):
        if name.startswith(FOREIGN) and name != "FSNAP_CRIU":
            del os.environ[name]


def _refuse(text: str) -> int:
    print(f"bench: {text}", file=sys.stderr)
    return EXIT_USAGE


if __name__ == "__main__":
    sys.exit(main())
