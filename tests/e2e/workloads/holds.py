"""holds.py FILE: keeps FILE, which is outside of all that travels, open for reading."""

import sys

from pace import pause

with open(sys.argv[1], encoding="ascii") as held:
    for step in range(20):
        print("step", step, held.readline().strip(), flush=True)
        pause()
