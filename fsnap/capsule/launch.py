"""First half of a capsule: make the namespaces and the mounts, then be its init.

Run by path with ``python3 -I -S`` and nothing but the standard library, because it
must not depend on what the agent imports.  It talks to the agent over two inherited
pipes, one JSON document per line:

1. the parent unshares PID, mount and time namespaces, forks, and writes
   ``{"init_pid": N}`` (as the agent sees it);
2. the child, now PID 1, mounts ``/proc`` and the scratch file systems and writes
   ``{"ready": "scratch"}``; the agent may now fill them (an overlay's upper must be
   written before it is mounted);
3. on a line ``go`` it mounts the overlays and binds, and goes on as :mod:`fsnap.capsule.init`,
   which it has imported by then; any failure is written as ``{"error": text}`` first.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import json
import os
import socket
import sys
from collections.abc import Callable
from typing import Any

CLONE_NEWNS = 0x00020000
CLONE_NEWTIME = 0x00000080
CLONE_NEWPID = 0x20000000
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 1 << 18
MS_NOSUID_NODEV_NOEXEC = 0x2 | 0x4 | 0x8

Serve = Callable[[str, int, int, int], None]

_libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    """unshare(2)."""
    if _libc.unshare(flags) != 0:
        err = ctypes.get_errno()
        raise OSError(err, os.strerror(err), "unshare")


def mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    """mount(2)."""
    done = _libc.mount(
        os.fsencode(source),
        os.fsencode(target),
        os.fsencode(kind) if kind else None,
        ctypes.c_ulong(flags),
        os.fsencode(data) if data else None,
    )
    if done != 0:
        err = ctypes.get_errno()
        raise OSError(err, os.strerror(err), f"mount {kind or 'bind'} {target}")


class Mounts:
    """The capsule's mounts, in the order in which they have to be made."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.run_dir: str = spec["run_dir"]
        self.scratch = os.path.join(self.run_dir, "scratch")

    def prepare(self) -> None:
        """Private propagation, ``/proc`` of the new PID namespace, empty scratch file systems."""
        mount("none", "/", None, MS_REC | MS_PRIVATE)
        mount("proc", "/proc", "proc", MS_NOSUID_NODEV_NOEXEC)
        if self.spec["scratch_tmpfs"]:
            mount("fsnap", self.scratch, "tmpfs", 0, "mode=0700")
        for overlay in self.spec["overlays"]:
            for part in ("upper", "work"):
                os.makedirs(os.path.join(self.scratch, overlay["name"], part), mode=0o700, exist_ok=True)
            upper = os.path.join(self.scratch, overlay["name"], "upper")
            lower = os.stat(overlay["target"])
            os.chown(upper, lower.st_uid, lower.st_gid)
            os.chmod(upper, lower.st_mode & 0o7777)
        shm = os.path.join(self.scratch, "shm")
        os.makedirs(shm, mode=0o700, exist_ok=True)
        mount("fsnap-shm", shm, "tmpfs", 0, "mode=1777")

    def finish(self) -> None:
        """Overlays, then everything that they hide, bound back at its own path."""
        keep = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in self.spec["keep"]}
        shm = os.open(os.path.join(self.scratch, "shm"), os.O_PATH | os.O_CLOEXEC)
        # Opened before the first mount, which may hide them all.
        folders = [os.open(os.path.join(self.scratch, o["name"]), os.O_PATH) for o in self.spec["overlays"]]
        for overlay, folder in zip(self.spec["overlays"], folders, strict=True):
            os.fchdir(folder)
            os.close(folder)
            lower = _escaped(overlay["target"])
            options = f"lowerdir={lower},upperdir=upper,workdir=work,redirect_dir=off,metacopy=off"
            mount("fsnap", overlay["target"], "overlay", 0, options)
            os.chdir("/")
        for path in sorted(keep):
            mount(f"/proc/self/fd/{keep[path]}", path, None, MS_BIND | MS_REC)
        if os.path.isdir("/dev/shm"):
            mount(f"/proc/self/fd/{shm}", "/dev/shm", None, MS_BIND)
        for fd in (*keep.values(), shm):
            os.close(fd)


def _escaped(path: str) -> str:
    """*path* as the value of an overlay option, where ``\\``, ``,`` and ``:`` mean something."""
    return path.replace("\\", "\\\\").replace(",", "\\,").replace(":", "\\:")


def _say(fd: int, **what: object) -> None:
    os.write(fd, json.dumps(what).encode() + b"\n")


def _child(spec: dict[str, Any], answer_fd: int, go_fd: int) -> Serve:
    """PID 1 until its mounts are made; what it has to do from then on."""
    mounts = Mounts(spec)
    mounts.prepare()
    _say(answer_fd, ready="scratch")
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    # Now, while the agent fills the scratch file systems: a restore waits for what comes after "go".
    from fsnap.capsule.init import serve

    if os.read(go_fd, 16).strip() != b"go":
        os._exit(0)
    mounts.finish()
    os.close(go_fd)
    return serve


def _listen(run_dir: str) -> socket.socket:
    """The init's control socket; bound by a relative name, since a full one may exceed 107 bytes."""
    os.chdir(run_dir)
    if os.path.lexists("init.sock"):
        os.unlink("init.sock")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o077)
    listener.bind("init.sock")
    os.umask(before)
    listener.listen(8)
    os.chdir("/")
    return listener


def main() -> None:
    """``launch.py ANSWER_FD GO_FD RUN_DIR`` with the specification as JSON on stdin."""
    answer_fd, go_fd = int(sys.argv[1]), int(sys.argv[2])
    serve: Serve | None = None
    try:
        spec = json.load(sys.stdin)
        os.setsid()
        listen_fd = _listen(spec["run_dir"]).detach()
        unshare(CLONE_NEWNS | CLONE_NEWPID)
        if spec["time_ns"]:
            unshare(CLONE_NEWTIME)
        child = os.fork()
        if child == 0:
            serve = _child(spec, answer_fd, go_fd)
        else:
            _say(answer_fd, init_pid=child)
    except (OSError, ValueError, KeyError) as problem:
        _say(answer_fd, error=str(problem))
        os._exit(1)
    if serve is not None:  # out of the "try": the agent hears no failure of the init, and init.log has it
        serve(spec["run_dir"], listen_fd, answer_fd, spec["lock_fd"])
    os._exit(0)


if __name__ == "__main__":
    main()
