"""unsupported.py io_uring|mount-namespace|userfaultfd: does what CRIU can't save, then runs on."""

import ctypes
import os
import sys
import time

IO_URING_SETUP = 425
USERFAULTFD = 323
CLONE_NEWNS = 0x00020000
libc = ctypes.CDLL(None, use_errno=True)

if sys.argv[1] == "io_uring":
    done = libc.syscall(IO_URING_SETUP, 4, ctypes.create_string_buffer(120))
elif sys.argv[1] == "userfaultfd":
    done = libc.syscall(USERFAULTFD, 1)
else:
    done = libc.unshare(CLONE_NEWNS)
if done < 0:
    print("refused", os.strerror(ctypes.get_errno()), flush=True)
for step in range(int(sys.argv[2])):
    print("step", step, flush=True)
    time.sleep(0.1)
