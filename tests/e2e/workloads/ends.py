"""ends.py CODE | ends.py -SIGNAL: ten steps, then that end. Notes in the file RAN that it was started."""

import os
import sys

from pace import pause

end = int(sys.argv[1])
with open(os.environ["RAN"], "a", encoding="ascii") as ran:
    ran.write("started\n")
for step in range(10):
    print("step", step, flush=True)
    with open("steps.txt", "a", encoding="ascii") as out:
        out.write(f"{step}\n")
    pause()
if end < 0:
    os.kill(os.getpid(), -end)
sys.exit(end)
