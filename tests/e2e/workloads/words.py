"""Known words everywhere: in memory and files, between random bytes, in file names and in output.

The words are made of an argument, so that this text holds none of them.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from pace import pause

STEM = sys.argv[1]
STEPS = 12


def hidden(kind: str) -> bytes:
    """A word that does not compress away: random bytes before and after it."""
    noise = random.Random(kind)
    return noise.randbytes(40_000) + f"{STEM}-{kind}".encode() + noise.randbytes(40_000)


kept = [hidden("memory") for _ in range(4)]
folder = Path(f"{STEM}-directory")
folder.mkdir()
(folder / f"{STEM}-name").write_bytes(hidden("file"))
(Path("/tmp") / f"{STEM}-scratch").write_bytes(hidden("tmp"))
for step in range(1, STEPS + 1):
    print(f"step {step} of {STEM}-stdout", flush=True)
    (folder / "steps").open("a").write(f"{STEM}-steps {step}\n")
    pause()
assert kept[0] == hidden("memory")
assert (Path("/tmp") / f"{STEM}-scratch").read_bytes() == hidden("tmp")
(Path("/tmp") / f"{STEM}-scratch").unlink()
