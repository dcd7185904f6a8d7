"""Everything a state dir can hold, made before the first reclaim, changed between, told at the end."""

import fcntl
import os
import socket
from pathlib import Path

from pace import pause

STEPS = 30
NS = 1_234_567_890_123_456_789


def make() -> None:
    Path("plain").write_text("plain\n")
    os.link("plain", "plain-link")
    Path("deep/er/est").mkdir(parents=True)
    os.link("plain", "deep/er/plain-third")
    os.symlink("plain", "symlink")
    os.symlink("nowhere/at all", "dangling")
    os.symlink("deep", "symlink-to-directory")
    os.setxattr("plain", "user.note", b"\x00\xffvalue")
    os.setxattr("deep", "user.of-directory", b"x")
    with open("sparse", "wb") as sparse:
        sparse.truncate(64 << 20)
        sparse.seek(32 << 20)
        sparse.write(b"island" * 1000)
    os.mkfifo("fifo", 0o640)
    Path("setuid").write_text("x")
    os.chown("setuid", 1234, 2345)
    os.chmod("setuid", 0o6751)
    Path("empty").touch()
    Path("empty-directory").mkdir(mode=0o700)
    Path(os.fsdecode(b"bytes \xff\xfe\n name")).write_text("odd name")
    Path("unicode-é-名").write_text("odd too")
    Path("unreadable").write_text("secret")
    os.chmod("unreadable", 0)
    unix = socket.socket(socket.AF_UNIX)
    unix.bind("socket")
    unix.close()
    for name in ("gone", "target", "other"):
        Path(name).write_text(name)
    for name, ns in (("plain", NS), ("fifo", NS + 1), ("empty-directory", NS + 2), ("deep/er", NS + 3)):
        os.utime(name, ns=(ns, ns))
    os.utime("symlink", ns=(NS + 4, NS + 4), follow_symlinks=False)


def times() -> None:
    for name in ("plain", "plain-link", "fifo", "empty-directory", "deep/er", "symlink"):
        print("mtime", name, os.lstat(name).st_mtime_ns)


def locked(name: str, lock: object) -> bool:
    """Whether another process is refused the lock."""
    child = os.fork()
    if child == 0:
        with open(name, "r+b") as file:
            try:
                lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] != 0


def main() -> None:
    top = Path.cwd()
    make()
    Path("sub/cwd").mkdir(parents=True)
    os.chdir("sub/cwd")
    open("flocked", "wb").close()
    open("record-locked", "wb").close()
    flocked, record_locked = open("flocked", "r+b"), open("record-locked", "r+b")
    fcntl.flock(flocked, fcntl.LOCK_EX)
    fcntl.lockf(record_locked, fcntl.LOCK_EX)
    hidden = open("unlinked", "w+b", buffering=0)
    twin = open("twin-a", "w+b", buffering=0)
    os.link("twin-a", "twin-b")
    os.unlink("twin-a")
    os.unlink("unlinked")
    renamed = open("renamed-before", "a+b", buffering=0)
    os.rename("renamed-before", "renamed-after")
    log = open("log", "ab", buffering=0)
    for step in range(STEPS):
        for file in (hidden, twin, renamed, log):
            file.write(f"{step}\n".encode())
        held = locked("flocked", fcntl.flock), locked("record-locked", fcntl.lockf)
        print("step", step, held, Path.cwd().relative_to(top), flush=True)
        if step == 10:
            os.unlink(top / "gone")
            os.rename(top / "other", top / "target")
            os.unlink(top / "deep/er/plain-third")
            os.utime(top / "deep/er", ns=(NS + 3, NS + 3))
            os.mkdir(top / "other")
        if step == 20:
            os.rmdir(top / "other")
            os.rename(top / "target", top / "gone")
        pause()
    hidden.seek(0)
    print("hidden", hidden.read())
    os.chdir(top)
    times()


main()
