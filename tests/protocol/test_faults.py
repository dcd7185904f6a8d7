"""What befalls a node beside being taken away: full disks, clocks that jump, a journal that is no more."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.harness import Attempt
from tests.protocol.conftest import MakeTask
from tests.protocol.support import CHECKPOINTED, Task, wait_until

pytestmark = pytest.mark.criu

BENDING = Path(__file__).with_name("bending.py")
SMALL_HOME = (
    *("unshare", "--mount", "sh", "-c"),
    'mount -t tmpfs -o size=80m none "$FSNAP_HOME" && exec "$@"',
    "sh",
)


@contextmanager
def bent(task: Task, what: str) -> Iterator[None]:
    """Attempts started within are bent (see ``bending.py``)."""
    before, task.node = task.node, (sys.executable, str(BENDING), what)
    try:
        yield
    finally:
        task.node = before


# -- a full disk under the images


def fill_disk(task: Task, attempt: Attempt, left_mib: int) -> Path:
    """Leave so much room where the images go; the file whose removal gives the rest back."""
    filler = Path(f"/proc/{attempt.process.pid}/root{task.env['FSNAP_HOME']}/filler")
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(bytes(1 << 20)) == 1 << 20:
            pass
    size = filler.stat().st_size
    with filler.open("r+b") as file:
        file.truncate(max(0, size - (left_mib << 20)))
    return filler


def test_no_room_for_a_checkpoint(make_task: MakeTask) -> None:
    """Each failure is one line, the task goes on, and once there is room the next try works.

    A final dump is stored while CRIU writes it, so that it needs no room.
    """
    task = make_task(30, 8)
    task.env |= {"BALLAST_MIB": "30"}
    task.node = SMALL_HOME
    attempt = task.start("--interval", "2")
    attempt.wait_stdout("line 8\n")
    filler = fill_disk(task, attempt, 8)
    attempt.wait_stderr("disk for the images is full")
    task.wait_alive(attempt)
    assert "checkpointed" not in task.triggers()
    filler.unlink()
    task.wait_record(attempt, "checkpointed")
    told = [line for line in attempt.log.splitlines() if "is full" in line]
    assert len(told) == task.triggers().count("rollback")
    fill_disk(task, attempt, 8)
    task.give_notice(60)
    attempt.finish(CHECKPOINTED)
    task.node = ()
    task.go(8)
    task.finish()
    task.assert_whole()


# -- clocks


@pytest.mark.parametrize("jump_s", [-86_400 * 400, 86_400 * 400], ids=["back", "ahead"])
def test_the_wall_clock_jumps_during_the_window(make_task: MakeTask, jump_s: int) -> None:
    """Budgets use the monotonic clock: neither a notice nor a lease is cut short or made longer."""
    task = make_task(30, 8, 16)
    clock = task.control / "clock"
    with bent(task, "clock+fsnap.agent.capture:Capturer.final"):
        first = task.start("--lease", "4")
        first.wait_stdout("line 8\n")
        task.give_notice(60)
        first.wait("dump that waits", lambda: (task.control / "waits").exists())
        clock.write_text(str(jump_s))
        (task.control / "go-on").touch()
        first.finish(CHECKPOINTED)
    task.go(8)
    with bent(task, "clock"):
        second = task.start("--lease", "4")
        second.wait_stdout("line 16\n")
        clock.write_text("0")
        task.wait_alive(second)
        task.go(16)
        second.finish(0)
    task.assert_whole()
    (commit,) = [record for record in task.records() if record.trigger == "commit"]
    assert commit.facts.left_ms is not None and 30_000 < commit.facts.left_ms <= 60_000


# -- the node's journal


@pytest.mark.parametrize(
    "harm",
    ["cut", "gone", *(pytest.param(each, marks=pytest.mark.slow) for each in ("overwritten", "emptied"))],
)
def test_a_journal_that_was_damaged_is_read_from_the_store_again(make_task: MakeTask, harm: str) -> None:
    task = make_task(20, 8)
    first = task.start()
    first.wait_stdout("line 8\n")
    task.give_notice()
    first.finish(CHECKPOINTED)
    journal = Path(task.env["FSNAP_HOME"]) / "journal.db"
    for beside in journal.parent.glob("journal.db-*"):
        beside.unlink()
    data = journal.read_bytes()
    if harm == "cut":
        journal.write_bytes(data[: len(data) // 2])
    elif harm == "overwritten":
        journal.write_bytes(data[:4096] + b"\x5a" * (len(data) - 4096))
    elif harm == "emptied":
        journal.write_bytes(b"")
    else:
        journal.unlink()
    task.go(8)
    second = task.finish(fresh=False)
    if harm in ("cut", "overwritten"):
        (line,) = [line for line in second.log.splitlines() if "set aside" in line]
        assert "ERROR" in line
    assert task.local_triggers() == task.triggers()
    task.assert_whole()


def test_a_node_that_was_lost_comes_back_with_a_journal_that_is_none(make_task: MakeTask) -> None:
    """What it had done is known from the store: it goes on from its checkpoint."""
    task = make_task(20, 8)
    first = task.start("--interval", "0.5")
    first.wait_stdout("line 8\n")
    task.wait_record(first, "checkpointed")
    task.lose_node(first)
    home = Path(task.env["FSNAP_HOME"])
    home.mkdir()
    (home / "journal.db").write_bytes(b"no database at all" * 1000)
    task.go(8)
    second = task.finish(fresh=False)
    assert "set aside" in second.log
    assert second.stdout.data.endswith(b"line 20\n")
    task.assert_never_two()


# -- ends that cross something else


def test_a_task_that_ends_before_its_own_dump_has_ended(make_task: MakeTask) -> None:
    """The dump was decided on and recorded; then there is nothing left to dump."""
    task = make_task(10, 10)
    with bent(task, "fsnap.agent.capture:Capturer.final"):
        attempt = task.start()
        attempt.wait_stdout("line 10\n")
        task.give_notice()
        attempt.wait("dump that waits", lambda: (task.control / "waits").exists())
        task.go(10)
        wait_until("its end", lambda: task.still(0.3))
        (task.control / "go-on").touch()
        attempt.finish(0)
    task.assert_clean()
    task.assert_whole()
    again = task.start()
    again.finish(0)
    assert not again.stdout.data


@pytest.mark.parametrize("code", [0, 7])
def test_a_node_that_dies_right_after_the_task_ended(make_task: MakeTask, code: int) -> None:
    """The end is recorded and not told yet: a retry returns the code and the files, and runs nothing."""
    task = make_task(10)
    task.command = ["sh", "-c", f'"$@" && exit {code}', "sh", *task.command]
    with bent(task, "fsnap.agent.service:Service._outcome"):
        first = task.start()
        first.wait("end that waits", lambda: (task.control / "waits").exists())
        task.lose_node(first)
    lives = task.lives()
    if code:
        assert task.triggers()[-1] == "fail"
        return
    second = task.start()
    second.finish(code)
    assert not second.stdout.data
    assert (task.state / "out").read_text() == task.expected_file()
    assert task.lives() == lives


# -- an agent that is stopped


def test_a_stopped_agent_that_goes_on_lets_the_task_go_on(make_task: MakeTask) -> None:
    """Init stops the tree by itself when the lease is over; the next renewal lets it run."""
    task = make_task(20, 8)
    attempt = task.start("--lease", "2")
    attempt.wait_stdout("line 8\n")
    attempt.process.send_signal(signal.SIGSTOP)
    wait_until("pause", lambda: task.still(0.5))
    attempt.process.send_signal(signal.SIGCONT)
    task.wait_alive(attempt)
    task.go(8)
    attempt.finish(0)
    task.assert_whole()
    assert len(task.lives()) == 1
