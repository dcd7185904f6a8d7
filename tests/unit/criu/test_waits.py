"""Which threads' calls begin again when their images are restored."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from fsnap.capsule import waits as live_waits
from fsnap.criu import waits
from fsnap.criu.protobuf import find, replace, varint
from fsnap.criu.waits import AX, EINTR, IP, REGISTERS, begin_waits_again

POLL, CLOSE, RESTART_SYSCALL = 7, 3, 219
AT = 0x7F0000001000
MAGICS = b"\x19\x43\x56\x54\x47\x38\x05\x55"
USR1, CHLD = 10, 17
Field = tuple[int, "int | bytes"]


def message(fields: Iterable[Field]) -> bytes:
    parts = []
    for number, value in fields:
        if isinstance(value, int):
            parts.append(varint(number << 3) + varint(value))
        else:
            parts.append(varint(number << 3 | 2) + varint(len(value)) + value)
    return b"".join(parts)


def queue(signals: Sequence[int]) -> bytes:
    infos = [message([(1, number.to_bytes(4, "little") + bytes(124))]) for number in signals]
    return message((1, info) for info in infos)


def core(
    ax: int = EINTR,
    call: int = POLL,
    *,
    architecture: int = 1,
    mode: int | None = 1,
    leader: bool = True,
    shared: Sequence[int] = (),
    own: Sequence[int] = (),
    blocked: Sequence[int] = (),
) -> bytes:
    """A ``core_entry``; numbers that CRIU has and this test does not name are 5."""
    numbers: list[Field] = [(number, 5) for number in range(1, 28)]
    numbers[AX - 1], numbers[15], numbers[IP - 1] = (AX, ax), (16, call), (IP, AT)
    registers = message([*numbers, *([] if mode is None else [(28, mode)])])
    mask = sum(1 << (number - 1) for number in blocked)
    machine = message([(1, 5), (2, registers), (3, message([(9, 5), (9, 6)])), (4, b""), (4, b"")])
    task: list[Field] = [(1, 1), (5, mask), (6, b"name"), (10, queue(shared)), (15, b""), (15, b"")]
    thread: list[Field] = [(1, 5), (2, 5), *([] if leader else [(6, mask)]), (9, queue(own))]
    parts: list[Field] = [(1, architecture), (2, machine)]
    return message([*parts, *([(3, message(task))] if leader else []), (5, message(thread))])


def write(images: Path, processes: dict[int, dict[int, bytes]]) -> None:
    """The cores of each process's threads."""
    entries = []
    for pid, cores in processes.items():
        entries.append(message([(1, pid), (2, 0), (3, pid), (4, pid), *((5, thread) for thread in cores)]))
        for thread, entry in cores.items():
            (images / f"core-{thread}.img").write_bytes(MAGICS + len(entry).to_bytes(4, "little") + entry)
    (images / "pstree.img").write_bytes(
        MAGICS + b"".join(len(entry).to_bytes(4, "little") + entry for entry in entries)
    )


def read(images: Path, thread: int) -> bytes:
    image = (images / f"core-{thread}.img").read_bytes()
    assert image[:8] == MAGICS
    assert int.from_bytes(image[8:12], "little") == len(image) - 12
    return image[12:]


@pytest.mark.parametrize("call", sorted(waits.WAITS))
def test_a_wait_begins_again(call: int, tmp_path: Path) -> None:
    before = core(call=call)
    write(tmp_path, {1001: {1001: before}})
    assert begin_waits_again(tmp_path) == 1
    after = read(tmp_path, 1001)
    assert find(after, *REGISTERS, AX) == call
    assert find(after, *REGISTERS, IP) == AT - 2
    assert replace(replace(after, (*REGISTERS, AX), EINTR), (*REGISTERS, IP), AT) == before, "nothing else"
    assert begin_waits_again(tmp_path) == 0


@pytest.mark.parametrize(
    "other",
    [
        core(ax=0),
        core(ax=1),
        core(call=CLOSE),
        core(call=RESTART_SYSCALL),
        core(call=(1 << 64) - 1),
        core(architecture=3),
        core(mode=2),
        core(shared=[USR1]),
        core(own=[USR1]),
        core(own=[USR1, CHLD], blocked=[CHLD]),
        message([(1, 1), (3, message([(1, 6), (2, 0)]))]),
    ],
    ids=[
        *(
            "timed out",
            "ready",
            "another call",
            "restarted before",
            "no call",
            "another processor",
            "32 bits",
        ),
        *("signal to its process", "signal to the thread", "two signals", "zombie"),
    ],
)
def test_everything_else_stays_as_it_is(other: bytes, tmp_path: Path) -> None:
    write(tmp_path, {1001: {1001: other}, 1005: {1005: core()}})
    assert begin_waits_again(tmp_path) == 1
    assert read(tmp_path, 1001) == other


def test_blocked_signals_interrupt_nothing(tmp_path: Path) -> None:
    leader = core(mode=None, shared=[CHLD], blocked=[CHLD])
    write(tmp_path, {1001: {1001: leader, 1002: core(leader=False, own=[USR1], blocked=[USR1, CHLD])}})
    assert begin_waits_again(tmp_path) == 2


def test_a_signal_to_the_process_is_for_each_thread_that_takes_it(tmp_path: Path) -> None:
    leader = core(shared=[USR1], blocked=[USR1])
    threads = {1002: core(leader=False), 1003: core(leader=False, blocked=[USR1])}
    write(tmp_path, {1001: {1001: leader, **threads}})
    assert begin_waits_again(tmp_path) == 2
    assert read(tmp_path, 1002) == threads[1002]


def test_images_that_say_nothing_are_left_to_criu(tmp_path: Path) -> None:
    assert begin_waits_again(tmp_path) == 0
    write(tmp_path, {1001: {1001: core()}})
    for damaged in (b"", MAGICS, MAGICS + bytes(4), MAGICS + b"\2\0\0\0\x08\xff"):
        (tmp_path / "core-1001.img").write_bytes(damaged)
        assert begin_waits_again(tmp_path) == 0
        assert (tmp_path / "core-1001.img").read_bytes() == damaged


def test_a_full_disk_is_no_image_of_criu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_bytes(path: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    write(tmp_path, {1001: {1001: core()}})
    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    with pytest.raises(OSError, match="No space"):
        begin_waits_again(tmp_path)


def test_both_ways_mean_the_same_calls() -> None:
    assert waits.WAITS == live_waits.WAITS
