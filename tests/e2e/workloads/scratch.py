"""What a task has outside its state dirs: /tmp, /dev/shm, its scheduling, its clock."""

import os
import sys
import time
from pathlib import Path

from pace import pause

STEPS = 30
name, host_file, host_removed = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
tmp, shm = Path("/tmp", name), Path("/dev/shm", name)

tmp.mkdir()
(tmp / "sub").mkdir(mode=0o711)
os.symlink("sub", tmp / "link")
os.sched_setaffinity(0, {0})
os.nice(5)
os.umask(0o027)
host_removed.unlink()
appended = host_file.open("a")
last = time.monotonic()
boot = time.clock_gettime(time.CLOCK_BOOTTIME)
for step in range(STEPS):
    for folder in (tmp, shm):
        with open(folder / "log" if folder == tmp else shm, "a", encoding="ascii") as log:
            log.write(f"{step}\n")
    appended.write(f"more {step}\n")
    appended.flush()
    now, now_boot = time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME)
    steady = 0 <= now - last < 20 and 0 <= now_boot - boot < 20
    last, boot = now, now_boot
    host = host_file.read_text().splitlines()
    scheduling = f"cpus={os.sched_getaffinity(0)} nice={os.nice(0)}"
    print(
        f"step {step} steady={steady} {scheduling} host={host[0]}+{len(host)} "
        f"removed={not host_removed.exists()} umask={oct(os.umask(0o027))}",
        flush=True,
    )
    pause()
print((tmp / "log").read_text() == shm.read_text(), len(shm.read_text()), os.readlink(tmp / "link"))
Path("done").write_text("done")
