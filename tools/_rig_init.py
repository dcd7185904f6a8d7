"""The first process of a rig's node: makes the node's namespaces and file system, then reaps.

Run by ``rig.py`` as a program with one JSON argument; not for import.  The outer
process stays in the caller's PID namespace and waits; its child is PID 1 of the node.
It writes ``<pid>`` and ``ok`` to the pipe ``ready_fd`` and ends when the other end of
``lifeline_fd`` is closed, so that no node outlives its rig, however that dies.

Nothing is written to the machine's disk: the node's root is an overlay whose upper
lies in a tmpfs that only the node's mount namespace knows.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import select
import signal
import socket
import stat
import struct
import sys
import uuid
from pathlib import Path
from typing import Any

MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18
MNT_DETACH = 2
CLONE_NEWTIME, CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x80, 0x20000, 0x4000000, 0x8000000
CLONE_NEWPID, CLONE_NEWNET = 0x20000000, 0x40000000
SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
SIOCSIFFLAGS, IFF_UP, IFF_LOOPBACK = 0x8914, 0x1, 0x8

WORK = Path("/proc")
"""Where the node's tmpfs is mounted until the root is changed: a directory that every machine has, and that
nothing else here needs in the new mount namespace."""

DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "fuse", "net/tun")

libc = ctypes.CDLL(None, use_errno=True)


def checked(result: int, what: str) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def mount(source: str, target: Path, kind: str = "", flags: int = 0, options: str = "") -> None:
    call = (source.encode(), str(target).encode(), kind.encode() or None, flags, options.encode() or None)
    checked(
        libc.mount(call[0], call[1], call[2], ctypes.c_ulong(flags), call[4]), f"mount {kind} on {target}"
    )


def make_root(config: dict[str, Any]) -> Path:
    """Lay the overlay and what belongs on top of it; returns the new root."""
    mount("none", Path("/"), flags=MS_REC | MS_PRIVATE)
    keep = os.open("/sys/fs/cgroup", os.O_PATH) if os.path.isdir("/sys/fs/cgroup") else None
    mount("tmpfs", WORK, "tmpfs", options=f"size={config['disk_bytes']},mode=755")
    upper, work, root = WORK / "up", WORK / "wk", WORK / "root"
    for directory in (upper, work, root):
        directory.mkdir()
    mount("overlay", root, "overlay", options=f"lowerdir=/,upperdir={upper},workdir={work}")
    mount("proc", root / "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("sysfs", root / "sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    if keep is not None:
        source = f"{root}/proc/self/fd/{keep}"
        if (root / "sys/fs/cgroup").is_dir():
            mount(source, root / "sys/fs/cgroup", flags=MS_BIND | MS_REC)
        os.close(keep)
    make_devices(root / "dev")
    mount("tmpfs", root / "run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
    mount("tmpfs", root / "tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    for number, path in enumerate(config["volumes"]):
        volume = WORK / f"volume{number}"
        volume.mkdir()
        bind(str(volume), root, path)
    for path in config["binds"]:
        bind(path, root, path)
    name_machine(root, config["name"])
    return root


def bind(source: str, root: Path, path: str) -> None:
    target = root / path.lstrip("/")
    if os.path.isdir(source):
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    mount(source, target, flags=MS_BIND | MS_REC)


def make_devices(dev: Path) -> None:
    numbers = {name: os.stat(f"/dev/{name}") for name in DEVICES if os.path.exists(f"/dev/{name}")}
    mount("tmpfs", dev, "tmpfs", MS_NOSUID, "mode=755")
    for name, device in numbers.items():
        (dev / name).parent.mkdir(exist_ok=True)
        os.mknod(dev / name, stat.S_IFCHR | 0o666, device.st_rdev)
        os.chmod(dev / name, 0o666)
    for name in ("pts", "shm", "mqueue"):
        (dev / name).mkdir()
    mount("devpts", dev / "pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620")
    mount("tmpfs", dev / "shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    links = {"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0"}
    links |= {"stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}
    for name, target in links.items():
        (dev / name).symlink_to(target)


def name_machine(root: Path, name: str) -> None:
    """A host name, a machine id and a boot id of its own: all nodes run on one kernel, which has only one."""
    checked(libc.sethostname(name.encode(), len(name.encode())), "sethostname")
    (root / "etc/hostname").write_text(f"{name}\n")
    hosts = root / "etc/hosts"
    hosts.write_text(f"{hosts.read_text() if hosts.exists() else '127.0.0.1 localhost'}\n127.0.1.1 {name}\n")
    machine_id = root / "etc/machine-id"
    machine_id.unlink(missing_ok=True)
    machine_id.write_text(f"{uuid.uuid4().hex}\n")
    boot_id = WORK / "boot_id"
    boot_id.write_text(f"{uuid.uuid4()}\n")
    mount(str(boot_id), root / "proc/sys/kernel/random/boot_id", flags=MS_BIND)


def change_root(root: Path) -> None:
    """``pivot_root(".", ".")`` and a lazy unmount: the old root goes with all that hangs below it."""
    os.chdir(root)
    checked(libc.syscall(SYS_PIVOT_ROOT[os.uname().machine], b".", b"."), "pivot_root")
    checked(libc.umount2(b".", MNT_DETACH), "umount of the old root")
    os.chdir("/")


def raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP | IFF_LOOPBACK))


def reap(*_: object) -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def run_init(config: dict[str, Any]) -> None:
    """PID 1 of the node: never returns normally."""
    change_root(make_root(config))
    raise_loopback()
    signal.signal(signal.SIGCHLD, reap)
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    os.write(config["ready_fd"], b"ok\n")
    os.close(config["ready_fd"])
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)
    lifeline = select.poll()
    lifeline.register(config["lifeline_fd"], select.POLLIN)
    lifeline.poll()


def set_clock(monotonic_s: float, boottime_s: float) -> None:
    """Offsets of the time namespace that the next child will live in (``time_namespaces(7)``)."""
    lines = []
    for clock, offset_s in (("monotonic", monotonic_s), ("boottime", boottime_s)):
        offset_ns = round(offset_s * 1_000_000_000)
        lines.append(f"{clock} {offset_ns // 1_000_000_000} {offset_ns % 1_000_000_000}")
    Path("/proc/self/timens_offsets").write_text("\n".join(lines) + "\n")


def main() -> int:
    config = json.loads(sys.argv[1])
    flags = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWPID
    offsets = (config["monotonic_offset_s"], config["boottime_offset_s"])
    flags |= CLONE_NEWTIME if any(offsets) else 0
    try:
        checked(libc.unshare(flags), "unshare")
        if any(offsets):
            set_clock(*offsets)
        child = os.fork()
        if child == 0:
            run_init(config)
            os._exit(0)
    except OSError as error:
        print(error.strerror or error, file=sys.stderr)
        os._exit(1)
    os.write(config["ready_fd"], f"{child}\n".encode())
    os.close(config["ready_fd"])
    os.close(config["lifeline_fd"])
    os.waitpid(child, 0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
