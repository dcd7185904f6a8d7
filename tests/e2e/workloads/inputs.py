"""Reads inputs bit by bit, one of them through a descriptor that stays open; changes one, removes another."""

import hashlib
import os
from pathlib import Path

from pace import pause

digest = hashlib.sha256()
with open("in/data.bin", "rb") as data:
    Path("in/changed.txt").write_text("changed by the task\n")
    os.unlink("in/removed.txt")
    for step in range(20):
        digest.update(data.read(5000))
        digest.update(Path("in/late.bin").read_bytes())
        print("step", step, digest.hexdigest(), flush=True)
        pause()
Path("sum.txt").write_text(digest.hexdigest())
