"""The rig's network: a bridge, a veth pair per node, and forwarders from the bridge to the loopback."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading

MAX_RIGS = 200
SUBNET = "10.213"
COPY_BYTES = 256 * 1024


class RigError(RuntimeError):
    """The rig can't do what was asked; the message is one line."""


def ip_tool() -> str:
    """Where the ``ip`` command is."""
    tool = shutil.which("ip") or shutil.which("ip", path="/usr/sbin:/sbin")
    if tool is None:
        raise RigError("the rig needs the 'ip' command: install the package iproute2")
    return tool


def ip(commands: list[str], *, netns_of: int | None = None) -> None:
    """Run ``ip -batch``, in the network namespace of process *netns_of* if given."""
    inside = [] if netns_of is None else ["nsenter", f"--target={netns_of}", "--net", "--"]
    run = subprocess.run(
        [*inside, ip_tool(), "-batch", "-"],
        input="\n".join(commands) + "\n",
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode != 0:
        raise RigError(f"ip: {' '.join(run.stderr.split())}")


def links() -> list[str]:
    """Names of this machine's network links."""
    return [name for _, name in socket.if_nameindex()]


class Network:
    """A bridge ``fsrigN`` with the address ``10.213.N.1``; N is free as long as its lock is held.

    The lock is an abstract socket: the kernel gives it back when the holder dies,
    and what such a holder left is removed by the next one.
    """

    def __init__(self) -> None:
        self.number, self._lock = _claim_number()
        self.bridge = f"fsrig{self.number}"
        self.address = f"{SUBNET}.{self.number}.1"
        self._forwarders: list[Forwarder] = []
        self._nodes = 0
        # By itself a bridge takes the lowest address of its ports, so another one with every node that
        # comes or goes; nodes that had asked for the old one would send to it for seconds.
        mac = f"02:fa:57:00:00:{self.number:02x}"
        try:
            ip(
                [
                    f"link add {self.bridge} address {mac} type bridge forward_delay 0",
                    f"link set {self.bridge} addrgenmode none",
                    f"address add {self.address}/24 dev {self.bridge}",
                    f"link set {self.bridge} up",
                ]
            )
        except RigError:
            self.close()
            raise

    def attach(self, pid: int) -> tuple[str, str]:
        """Give the node with init *pid* its ``eth0``; returns the link's name here and the node's address."""
        self._nodes += 1
        if self._nodes > 250:
            raise RigError("a rig has room for 250 nodes")
        link, address = f"fsr{self.number}.{self._nodes}", f"{SUBNET}.{self.number}.{self._nodes + 1}"
        ip(
            [
                f"link add {link} type veth peer name eth0 netns {pid}",
                f"link set {link} addrgenmode none",
                f"link set {link} master {self.bridge} up",
            ]
        )
        ip(
            ["link set eth0 addrgenmode none", f"address add {address}/24 dev eth0", "link set eth0 up"],
            netns_of=pid,
        )
        return link, address

    def detach(self, link: str) -> None:
        """Remove a node's link; it may be gone already, with the node."""
        with contextlib.suppress(RigError):
            ip([f"link delete {link}"])

    def plug(self, link: str, *, connected: bool) -> None:
        """Take a node off the bridge, as a broken network does, or put it back."""
        ip([f"link set {link} master {self.bridge}" if connected else f"link set {link} nomaster"])

    def forward(self, port: int, to_port: int) -> None:
        """Bring connections to ``address:port`` to ``127.0.0.1:to_port``."""
        self._forwarders.append(Forwarder((self.address, port), ("127.0.0.1", to_port)))

    def close(self) -> None:
        for forwarder in self._forwarders:
            forwarder.close()
        self._forwarders.clear()
        remove_links(self.number)
        self._lock.close()


def remove_links(number: int) -> None:
    """Remove whatever links rig *number* has."""
    for name in links():
        if name == f"fsrig{number}" or name.startswith(f"fsr{number}."):
            with contextlib.suppress(RigError):
                ip([f"link delete {name}"])


def _claim_number() -> tuple[int, socket.socket]:
    """Take a free number, and remove what dead rigs left under any that is free."""
    used = {int(name[5:]) for name in links() if name.startswith("fsrig") and name[5:].isdecimal()}
    free = [number for number in range(MAX_RIGS) if number not in used]
    for number in sorted(used):
        with contextlib.suppress(RigError):
            lock = _lock(number)
            remove_links(number)
            lock.close()
    for number in free:
        with contextlib.suppress(RigError):
            return number, _lock(number)
    raise RigError(f"there are {MAX_RIGS} rigs already")


def _lock(number: int) -> socket.socket:
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        lock.bind(f"\0fsnap-rig-{number}")
    except OSError as error:
        lock.close()
        raise RigError(f"rig {number} is in use") from error
    return lock


class Forwarder:
    """Copies bytes between connections to one address and new connections to another."""

    def __init__(self, listen: tuple[str, int], target: tuple[str, int]) -> None:
        self._target = target
        self._open: set[socket.socket] = set()
        self._guard = threading.Lock()
        self._listener = socket.create_server(listen, backlog=128)
        self._accepting = threading.Thread(target=self._accept, name="rig-forward", daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near,), name="rig-forward", daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection(self._target)
        except OSError:
            near.close()
            return
        with self._guard:
            self._open |= {near, far}
        back = threading.Thread(target=_copy, args=(far, near), name="rig-forward", daemon=True)
        back.start()
        _copy(near, far)
        back.join()
        with self._guard:
            self._open -= {near, far}
        near.close()
        far.close()

    def close(self) -> None:
        """Stop listening and cut what is open."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join()
        with self._guard:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


def _copy(source: socket.socket, target: socket.socket) -> None:
    """Until *source* ends; then tell *target* so."""
    buffer = bytearray(COPY_BYTES)
    with contextlib.suppress(OSError):
        while count := source.recv_into(buffer):
            target.sendall(memoryview(buffer)[:count])
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
