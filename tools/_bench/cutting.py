"""Cut and hash, inside this process: what one core does of the capture pipeline before compression."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from blake3 import blake3

from _bench.task import base_of
from fsnap.snapshots.codec import digest, is_zero
from fsnap.snapshots.cut import PageCutter, spans
from fsnap.snapshots.sink import BUFFER_BYTES

MIB = 1 << 20
MAX_MIB = 256
"""More of the same mix would tell nothing else."""
ROUNDS = 3
"""Interleaved per run; a run's rate is the best of them: anything slower was disturbed."""


def cut_pairs(program: Path, size_mib: int, runs: int) -> list[tuple[float, float]]:
    """MiB per second of cut and hash, and of BLAKE3 alone, on the bench's mix of memory; one thread."""
    buffers = mix(program, min(size_mib, MAX_MIB))
    found = []
    for _ in range(runs):
        ours, bare = [], []
        for _ in range(ROUNDS):
            ours.append(_rate(buffers, _cut_and_hash))
            bare.append(_rate(buffers, _hash))
        found.append((max(ours), max(bare)))
    return found


def mix(program: Path, size_mib: int) -> list[memoryview]:
    """The memory of a process that holds the mix, in the buffers that the pipeline would take."""
    command = [str(program), "hold", str(size_mib)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        base = base_of([process.stdout.readline()])
        with open(f"/proc/{process.pid}/mem", "rb", buffering=0) as memory:
            memory.seek(base)
            data = memoryview(bytearray(size_mib * MIB))
            done = 0
            while done < len(data):
                done += memory.readinto(data[done:]) or 0
        process.kill()
    return [data[at : at + BUFFER_BYTES] for at in range(0, len(data), BUFFER_BYTES)]


def _rate(buffers: list[memoryview], act: Callable[[memoryview], None]) -> float:
    began_s = time.perf_counter()
    for buffer in buffers:
        act(buffer)
    return sum(len(buffer) for buffer in buffers) / MIB / (time.perf_counter() - began_s)


def _hash(buffer: memoryview) -> None:
    blake3(buffer).digest()


def _cut_and_hash(buffer: memoryview) -> None:
    """What the pipeline does: zeros are looked for first, and their digest is known by their length."""
    for start, end in spans(_CUTTER.ends(buffer, final=True)):
        chunk = buffer[start:end]
        if not is_zero(chunk):
            digest(chunk)


_CUTTER = PageCutter()
