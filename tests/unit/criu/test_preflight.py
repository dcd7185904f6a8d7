"""What can't be saved is found, in a ``/proc`` made for the purpose."""

from __future__ import annotations

from pathlib import Path

import pytest

from fsnap.criu.preflight import look

SPACES = {"mnt": "mnt:[1]", "pid": "pid:[2]", "user": "user:[3]", "net": "net:[4]"}


ROOT = {"Uid": "0 0 0 0", "Gid": "0 0 0 0", "CapEff": "0"}


class Proc:
    """A ``/proc`` with an init and what a test puts beside it."""

    def __init__(self, root: Path, init: dict[str, str] | None = None) -> None:
        self.root = root
        self.add(1, "init", status=init)
        (root / "meminfo").touch()

    def add(
        self,
        pid: int,
        name: str = "task",
        *,
        status: dict[str, str] | None = None,
        spaces: dict[str, str] | None = None,
        fds: dict[int, str] | None = None,
    ) -> None:
        folder = self.root / str(pid)
        for part in ("ns", "fd"):
            (folder / part).mkdir(parents=True)
        for kind, inode in {**SPACES, **(spaces or {})}.items():
            (folder / "ns" / kind).symlink_to(inode)
        for number, target in (fds or {}).items():
            (folder / "fd" / str(number)).symlink_to(target)
        lines = {"Name": name, "State": "S (sleeping)", "TracerPid": "0", **ROOT, **(status or {})}
        (folder / "status").write_text("".join(f"{key}:\t{value}\n" for key, value in lines.items()))


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path)


def test_a_quiet_tree(proc: Proc) -> None:
    proc.add(1001, fds={0: "/dev/null", 1: "pipe:[5]", 3: "anon_inode:[eventpoll]", 4: "socket:[9]"})
    proc.add(1002, status={"RssAnon": "100 kB", "RssShmem": "28 kB", "RssFile": "999 kB"})
    sight = look(proc.root, 1001)
    assert sight.problems == ()
    assert sight.pids == (1001, 1002)
    assert sight.rss_bytes == 128 * 1024
    assert not sight.connected


TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1 0 100 0
   1: 0100007F:1F90 0100007F:9C40 {state} 00000000:00000000 00:00000000 00000000     0        0 12 1 0 20 4
   2: 0100007F:1F90 0100007F:9C41 06 00000000:00000000 03:00000A5C 00000000     0        0 0 3 0
"""


@pytest.mark.parametrize("table", ["tcp", "tcp6"])
@pytest.mark.parametrize(
    ("socket", "state", "connected"),
    [(11, "01", False), (12, "01", True), (12, "02", True), (12, "08", True), (13, "01", False)],
)
def test_connections_are_seen(proc: Proc, table: str, socket: int, state: str, connected: bool) -> None:
    """Neither a listening socket nor one of another protocol, nor somebody else's connection."""
    proc.add(1001, fds={0: "/dev/null"})
    proc.add(1002, fds={4: f"socket:[{socket}]"})
    (proc.root / "1" / "net").mkdir()
    (proc.root / "1" / "net" / table).write_text(TABLE.format(state=state))
    assert look(proc.root, 1001).connected is connected


@pytest.mark.parametrize(
    ("target", "what"),
    [
        ("anon_inode:[io_uring]", "io_uring"),
        ("anon_inode:[userfaultfd]", "userfaultfd"),
        ("anon_inode:[perf_event]", "perf_event"),
        ("anon_inode:bpf-map", "bpf-map"),
        ("anon_inode:bpf-prog", "bpf-prog"),
        ("/dev/fuse", "FUSE"),
    ],
)
def test_descriptors_that_can_not_be_saved(proc: Proc, target: str, what: str) -> None:
    proc.add(1001, "node", fds={21: target})
    (problem,) = look(proc.root, 1001).problems
    assert what in str(problem)
    assert "process 1001 (node)" in str(problem)
    assert "21" in str(problem)


@pytest.mark.parametrize("kind", SPACES)
def test_namespaces_of_its_own(proc: Proc, kind: str) -> None:
    proc.add(1001, spaces={kind: f"{kind}:[77]"})
    (problem,) = look(proc.root, 1001).problems
    assert f"a {kind} namespace of its own" in str(problem)


USER = {"Uid": "1000 1000 1000 1000"}


@pytest.mark.parametrize(
    ("status", "capabilities", "what"),
    [
        ({}, "0", ""),
        (USER, "0000000001000000", ""),
        (USER, "000001fffeffffff", "runs as another user"),
        ({"Uid": "0 1000 0 0"}, "0", "runs as another user"),
        ({"Gid": "0 0 7 0"}, "0", "runs as another user"),
        ({"Uid": "0 0 0 1000"}, "0", ""),
    ],
    ids=["root", "all may be read", "another user", "effective user", "saved group", "file system user"],
)
def test_other_users(tmp_path: Path, status: dict[str, str], capabilities: str, what: str) -> None:
    proc = Proc(tmp_path, {"CapEff": capabilities})
    proc.add(1001, status=status)
    assert [what in str(problem) for problem in look(proc.root, 1001).problems] == ([True] if what else [])


def test_traced(proc: Proc) -> None:
    proc.add(1001, status={"TracerPid": "1005"})
    (problem,) = look(proc.root, 1001).problems
    assert "traced by process 1005" in str(problem)


def test_a_process_that_is_not_below_the_root(proc: Proc) -> None:
    proc.add(1001, status={"PPid": "1"})
    proc.add(1002, status={"PPid": "1001"})
    proc.add(7, "criu", status={"PPid": "1"})
    proc.add(8, "criu", status={"PPid": "7"})
    assert look(proc.root, 1001, frozenset({7})).problems == ()
    proc.add(1003, "daemon", status={"PPid": "1"})
    proc.add(1004, "daemon", status={"PPid": "1003"})
    proc.add(1005, "daemon", status={"PPid": "1", "State": "Z (zombie)"})
    (problem,) = look(proc.root, 1001, frozenset({7})).problems
    assert str(problem).startswith("process 1003 (daemon): is outside of the task's tree")


def test_zombies_init_and_helpers_are_left_out(proc: Proc) -> None:
    proc.add(1001, status={"State": "Z (zombie)"}, spaces={"mnt": "mnt:[77]"})
    proc.add(7, "criu", fds={3: "anon_inode:[perf_event]"}, spaces={"mnt": "mnt:[77]"})
    assert look(proc.root, 1001, frozenset({7})).problems == ()
    assert len(look(proc.root, 1001).problems) == 2


def test_a_process_that_ends_meanwhile(proc: Proc) -> None:
    proc.add(1001)
    (proc.root / "1001" / "status").unlink()
    proc.add(1002)
    assert look(proc.root, 1001).pids == (1002,)
