"""spool.py DIR: keeps a growing file in DIR, open and by name."""

import os
import sys
from pathlib import Path

from pace import pause

path = Path(sys.argv[1], "spool")
with path.open("w+") as spool:
    for step in range(20):
        spool.write(f"{step}\n")
        spool.flush()
        path.with_name(f"file-{step}").write_text(str(step))
        print("step", step, path.read_text().count("\n"), len(os.listdir(sys.argv[1])), flush=True)
        pause()
