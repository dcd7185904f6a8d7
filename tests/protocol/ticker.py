"""The task of these tests: counts, and waits at the steps that it was told until it may go on.

``ticker.py STEPS [PAUSE...]``: each step prints a line and appends one to the file ``out``
of the current directory.  At a PAUSE it waits for the file of that name in ``$CONTROL``.
All the while it appends the time and the step to a file in ``$CONTROL`` whose name says
which capsule it runs in: what the copies of a task wrote there shows when each was alive.
The file ``fatal`` in ``$CONTROL`` has the number of copies that are still to die of SIGSEGV at a PAUSE.
``BALLAST_MIB`` of noise make it slow to dump.
"""

import os
import signal
import sys
import time


def init_command() -> bytes:
    """The command line of the capsule's init.

    It is empty once init was killed, which ends this copy, too: it says nothing more.  To remember it would
    not do, since a restored copy remembers another init, and numbers of namespaces are given again.
    """
    while True:
        with open("/proc/1/cmdline", "rb") as cmdline:
            if command := cmdline.read():
                return command


def beat(control: str, step: int) -> None:
    """One sign of life, in a file of this very copy; no file stays open for writing at a known size."""
    capsule = os.stat("/proc/self/ns/pid").st_ino
    home = init_command().split(b"/home-")[-1].split(b"/")[0].decode(errors="replace")
    copy = f"beats.{home}.{capsule}"
    fd = os.open(os.path.join(control, copy), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(fd, b"%d %d\n" % (time.time_ns(), step))
    os.close(fd)


def die_if_told(control: str) -> None:
    """The test wants this copy dead soon after its release."""
    try:
        with open(f"{control}/fatal", "r+") as fatal:
            left = int(fatal.read())
            fatal.seek(0)
            fatal.write(str(left - 1))
    except FileNotFoundError:
        return
    if left > 0:
        os.kill(os.getpid(), signal.SIGSEGV)


def main() -> None:
    control = os.environ["CONTROL"]
    pace = float(os.environ["PACE"])
    ballast = os.urandom(int(os.environ.get("BALLAST_MIB", "0")) << 20)
    pauses = {int(word) for word in sys.argv[2:]}
    for step in range(1, int(sys.argv[1]) + 1):
        print(f"line {step}", flush=True)
        with open("out", "a") as out:
            out.write(f"{step}\n")
        beat(control, step)
        while step in pauses and not os.path.exists(f"{control}/{step}"):
            time.sleep(0.01)
            beat(control, step)
            die_if_told(control)
        time.sleep(pace)
    del ballast


main()
