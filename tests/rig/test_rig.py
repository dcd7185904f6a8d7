"""Nodes are apart from one another, reach what they should, and leave nothing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tools._rig_net import links
from tools.rig import Rig, RigError

pytestmark = pytest.mark.process

PATIENCE_S = 20.0


def wait_until(true: Callable[[], bool], what: str) -> None:
    limit = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < limit, what
        time.sleep(0.01)


def processes_in(namespace: str, kind: str = "pid") -> list[int]:
    """PIDs on this machine that are in *namespace*."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if os.readlink(entry / "ns" / kind) == namespace:
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def words(rig: Rig, name: str, script: str) -> str:
    node = next(node for node in rig.nodes if node.name == name)
    return node.exec(["sh", "-c", script]).stdout.strip()


def test_nodes_do_not_see_each_others_files(rig: Rig, tmp_path: Path) -> None:
    for name in ("a", "b"):
        rig.node(name)
    for path in ("/tmp/x", "/dev/shm/x", "/run/x", "/etc/x", "/var/lib/fsnap/x"):
        assert words(rig, "a", f"echo kept > {path}; cat {path}") == "kept"
        assert words(rig, "b", f"cat {path} 2>/dev/null || echo absent") == "absent"
        assert not os.path.exists(path)
    words(rig, "a", f"echo shared > {tmp_path}/x")
    assert words(rig, "b", f"cat {tmp_path}/x") == (tmp_path / "x").read_text().strip() == "shared"


def test_nodes_do_not_see_each_others_processes_nor_the_machines(rig: Rig) -> None:
    a, b = rig.node("a"), rig.node("b")
    sleeper = a.popen(["sleep", "3600"])
    wait_until(lambda: "sleep" in words(rig, "a", "cat /proc/[0-9]*/comm || true"), "it did not start")
    assert "sleep" not in b.exec(["sh", "-c", "cat /proc/[0-9]*/comm || true"]).stdout.split()
    assert int(words(rig, "b", "ls -d /proc/[0-9]* | wc -l")) < 8
    assert sleeper.host_pid is not None
    assert is_running(sleeper.host_pid)


def test_nodes_have_names_and_ids_of_their_own(rig: Rig) -> None:
    rig.node("a")
    rig.node("b")
    for script in (
        "hostname",
        "cat /etc/machine-id",
        "cat /proc/sys/kernel/random/boot_id",
        "cat /etc/hostname",
    ):
        here = {words(rig, name, script) for name in ("a", "b")}
        assert len(here) == 2, script
    assert socket.gethostname() not in ("a", "b")


def test_nodes_have_ipc_of_their_own(rig: Rig) -> None:
    rig.node("a")
    rig.node("b")
    words(rig, "a", "ipcmk -M 4096")
    counts = [int(words(rig, name, "grep -c . /proc/sysvipc/shm")) for name in ("a", "b")]
    assert counts == [2, 1], "a line of titles and, on a, one segment"


def test_a_clock_can_be_set_apart(rig: Rig) -> None:
    rig.node("old", monotonic_offset_s=1_000_000)
    rig.node("young", monotonic_offset_s=-5.5, boottime_offset_s=100.5)
    uptime_s = {name: float(words(rig, name, "cut -d' ' -f1 /proc/uptime")) for name in ("old", "young")}
    assert uptime_s["old"] - uptime_s["young"] == pytest.approx(1_000_000 - 100.5, abs=60)
    script = f"{sys.executable} -I -c 'import time; print(time.monotonic())'"
    assert float(words(rig, "young", script)) == pytest.approx(time.monotonic() - 5.5, abs=60)
    rig.node("same")
    assert float(words(rig, "same", script)) == pytest.approx(time.monotonic(), abs=60)


def test_init_reaps_orphans(rig: Rig) -> None:
    rig.node("a")
    words(rig, "a", "(sleep 0.05 &)")
    wait_until(
        lambda: "Z" not in words(rig, "a", "cut -d' ' -f3 /proc/[0-9]*/stat 2>/dev/null || true"),
        "a zombie stays",
    )


def test_a_failed_command_says_why(rig: Rig) -> None:
    node = rig.node("a")
    with pytest.raises(RigError, match="on a ended with 3: reason"):
        node.exec(["sh", "-c", "echo reason >&2; exit 3"])
    assert node.exec(["sh", "-c", "exit 3"], check=False).returncode == 3
    assert node.exec(["cat"], input="text").stdout == "text"
    assert node.exec(["sh", "-c", "pwd; echo $X"], cwd="/usr/lib", env={"X": "y"}).stdout == "/usr/lib\ny\n"


def test_signals_reach_the_process_in_the_node(rig: Rig) -> None:
    node = rig.node("a")
    trap = "trap 'echo got; exit 5' TERM; echo up; while :; do sleep 0.01; done"
    process = node.popen(["sh", "-c", trap], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.terminate()
    assert process.communicate(timeout=PATIENCE_S)[0] == "got\n"
    assert process.returncode == 5


def test_destroy_leaves_nothing(rig: Rig) -> None:
    node = rig.node("a")
    processes = [node.popen(["sleep", "3600"]) for _ in range(3)]
    node.exec(["sh", "-c", "setsid sleep 3600 >/dev/null 2>&1 & head -c 1000000 /dev/urandom > /big"])
    spaces = {kind: os.readlink(f"/proc/{node.pid}/ns/{kind}") for kind in ("pid", "mnt", "net")}
    mounts = Path("/proc/self/mounts").read_text()
    assert len(processes_in(spaces["pid"])) == 5
    assert node.link in links()
    node.destroy()
    node.destroy()
    for kind, namespace in spaces.items():
        assert processes_in(namespace, kind) == [], kind
    assert [process.poll() for process in processes] == [-signal.SIGKILL] * 3
    assert node.link not in links()
    assert Path("/proc/self/mounts").read_text() == mounts
    assert not rig.nodes
    with pytest.raises(RigError, match="node a is gone"):
        node.exec(["true"])


def test_a_node_dies_at_its_deadline(rig: Rig) -> None:
    node = rig.node("a")
    process = node.popen(["sleep", "3600"])
    node.destroy_at(time.monotonic() + 3600)
    deadline_s = time.monotonic() + 0.2
    node.destroy_at(deadline_s)
    assert process.wait(timeout=PATIENCE_S) == -signal.SIGKILL
    wait_until(lambda: not node.alive, "it lives on")
    assert node.destroyed_mono_s is not None
    assert node.destroyed_mono_s >= deadline_s


def test_a_rig_that_fails_leaves_nothing(rig: Rig) -> None:
    with pytest.raises(ZeroDivisionError), Rig() as failing:
        node = failing.node("a")
        node.popen(["sleep", "3600"])
        namespace = os.readlink(f"/proc/{node.pid}/ns/pid")
        number = failing.address.split(".")[2]
        failing.forward(9, to_port=9)
        raise ZeroDivisionError
    assert processes_in(namespace) == []
    assert not [name for name in links() if name in (f"fsrig{number}", f"fsr{number}.1")]
    failing.close()


def test_nodes_die_with_a_rig_that_is_killed(rig: Rig, checkout: Path) -> None:
    program = (
        "import sys, time; sys.path.append('tools'); from rig import Rig\n"
        "rig = Rig(); node = rig.node('a'); node.popen(['sleep', '3600'])\n"
        "print(node.pid, rig.address, flush=True); time.sleep(3600)"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, cwd=checkout, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        pid, address = other.stdout.readline().split()
        bridge = f"fsrig{address.split('.')[2]}"
        assert bridge in links()
        other.kill()
    wait_until(lambda: not is_running(int(pid)), "the node outlived its rig")
    with Rig() as other_rig:
        assert bridge not in links() or other_rig.address == address, "the next rig cleans up"
        assert other_rig.node("b").exec(["true"]).returncode == 0


def test_rigs_do_not_disturb_each_other(rig: Rig) -> None:
    node = rig.node("a")
    with Rig() as other:
        assert other.address != rig.address
        other.node("a")
    assert node.exec(["hostname"]).stdout == "a\n"


class Echo:
    """A server on this machine's loopback that sends back what it gets."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])

    def serve_one(self) -> None:
        connection, _ = self.listener.accept()
        with connection:
            while data := connection.recv(65536):
                connection.sendall(data)


TALK = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=float(sys.argv[3])) as peer:
    sent = bytes(range(256)) * 4096
    peer.sendall(sent[:1000]); peer.shutdown(socket.SHUT_WR)
    got = b"".join(iter(lambda: peer.recv(65536), b""))
    print(got == sent[:1000])
"""


def test_nodes_reach_the_machines_loopback_through_the_rig(rig: Rig) -> None:
    node, echo = rig.node("a"), Echo()
    host, port = rig.forward(echo.port).split(":")
    serving = threading.Thread(target=echo.serve_one, daemon=True)
    serving.start()
    talk = [sys.executable, "-I", "-c", TALK, host, port]
    assert node.exec([*talk, "20"]).stdout == "True\n"
    node.disconnect()
    cut = node.exec([*talk, "0.3"], check=False)
    assert "timed out" in cut.stderr or "unreachable" in cut.stderr
    node.reconnect()
    threading.Thread(target=echo.serve_one, daemon=True).start()
    assert node.exec([*talk, "20"]).stdout == "True\n"
    echo.listener.close()


def test_the_machine_keeps_its_address_whichever_nodes_come_and_go(rig: Rig) -> None:
    """Nodes remember it; after a change what they send is lost until they ask again, which takes seconds."""
    nodes = [rig.node("n0")]
    address = Path(f"/sys/class/net/{nodes[0].link}/master/address")
    first = address.read_text()
    nodes += [rig.node(f"n{number}") for number in range(1, 5)]
    assert address.read_text() == first
    for node in nodes[1:]:
        node.destroy()
    assert address.read_text() == first


def test_what_is_missing_is_said_in_one_line(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RigError, match="there is no /nowhere to bind"):
        rig.node("a", binds=["/nowhere"])
    with pytest.raises(RigError, match="made without a network"), Rig(network=False) as lonely:
        assert lonely.node("a").exec(["true"]).returncode == 0
        _ = lonely.address
    with pytest.raises(RigError, match=r"node a did not start: .*mount tmpfs"):
        rig.node("a", disk_bytes=-1)
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(RigError, match="install the package iproute2"):
        rig.node("a")
