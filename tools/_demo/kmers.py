"""The steps of the demonstration's pipeline; ``pipeline.sh`` runs them.

Reads of a simulated genome, their canonical 11-mers counted by two worker processes into
tables in POSIX shared memory, and the ranking of the counts.  Data goes to stdout, progress
to file descriptor 3.  Standard library alone.
"""

from __future__ import annotations

import hashlib
import itertools
import multiprocessing
import os
import random
import sys
from collections.abc import Callable, Iterator
from multiprocessing.shared_memory import SharedMemory
from typing import Any

K = 11
CELLS = 4**K
WORKERS = 2
GENOME_BASES = 300_000
READS = 180_000
READ_BASES = 150
ERRORS_PER_READ = 2
CHUNK_READS = 1_000
CODE = {"A": 0, "C": 1, "G": 2, "T": 3}
PROGRESS_FD = 3


def progress(step: str, before: int, done: int, whole: int, digest: Any) -> None:
    """One line whenever another twentieth is done."""
    if done * 20 // whole > before * 20 // whole:
        line = f"{step:<6} {done * 100 // whole:3d} %  {digest.hexdigest()[:16]}\n"
        os.write(PROGRESS_FD, line.encode())


def simulate() -> None:
    """Print reads, one a line, with errors in them as a sequencer makes them."""
    rng = random.Random(11)
    digest = hashlib.sha256()
    genome = "".join(rng.choices("ACGT", k=GENOME_BASES))
    for number in range(1, READS + 1):
        start = rng.randrange(GENOME_BASES - READ_BASES)
        read = list(genome[start : start + READ_BASES])
        for _ in range(ERRORS_PER_READ):
            read[rng.randrange(READ_BASES)] = rng.choice("ACGT")
        line = "".join(read)
        digest.update(line.encode())
        print(line)
        progress("reads", number - 1, number, READS, digest)


def cells(memory: SharedMemory) -> memoryview:
    """*memory* as 32-bit counters."""
    assert memory.buf is not None
    return memory.buf.cast("I")


class Worker:
    """What a worker process keeps: a table of its own, so that no count is lost to a race."""

    table: memoryview
    memory: SharedMemory

    @classmethod
    def begin(cls, names: list[str], turn: Any) -> None:
        with turn.get_lock():
            number = turn.value
            turn.value += 1
        cls.memory = SharedMemory(name=names[number])
        cls.table = cells(cls.memory)

    @classmethod
    def count(cls, reads: list[str]) -> bytes:
        """Count the k-mers of *reads*; a digest of the least k-mer of each."""
        table, mask, shift = cls.table, CELLS - 1, 2 * (K - 1)
        digest = hashlib.sha256()
        for read in reads:
            forward = reverse = 0
            least = CELLS
            for at, base in enumerate(read):
                code = CODE[base]
                forward = (forward << 2 | code) & mask
                reverse = reverse >> 2 | (3 - code) << shift
                if at >= K - 1:
                    kmer = forward if forward < reverse else reverse
                    table[kmer] += 1
                    if kmer < least:
                        least = kmer
            digest.update(least.to_bytes(4, "big"))
        return digest.digest()


def chunks(path: str) -> Iterator[list[str]]:
    with open(path, encoding="ascii") as file:
        while chunk := [line.rstrip() for line in itertools.islice(file, CHUNK_READS)]:
            yield chunk


def count(path: str) -> None:
    """Print how often each k-mer of the reads in *path* occurs."""
    context = multiprocessing.get_context("fork")
    memories = [SharedMemory(create=True, size=CELLS * 4) for _ in range(WORKERS)]
    names = [memory.name for memory in memories]
    digest = hashlib.sha256()
    with context.Pool(WORKERS, Worker.begin, (names, context.Value("i", 0))) as pool:
        for number, part in enumerate(pool.imap(Worker.count, chunks(path)), 1):
            digest.update(part)
            progress("count", number - 1, number, READS // CHUNK_READS, digest)
    tables = [cells(memory) for memory in memories]
    for kmer, counts in enumerate(zip(*tables, strict=True)):
        if total := sum(counts):
            print(total, "".join("ACGT"[kmer >> 2 * place & 3] for place in reversed(range(K))))
    for table, memory in zip(tables, memories, strict=True):
        table.release()
        memory.close()
        memory.unlink()


def rank(lines: str) -> None:
    """Number the *lines* sorted counts from stdin: rank, k-mer, count, share of all so far, complexity.

    A k-mer's complexity is how many different 3-mers it has.
    """
    total = READS * (READ_BASES - K + 1)
    digest = hashlib.sha256()
    seen = 0
    for number, line in enumerate(sys.stdin, 1):
        times, kmer = line.split()
        complexity = len({kmer[at : at + 3] for at in range(K - 2)})
        digest.update(line.encode())
        progress("rank", number - 1, number, int(lines), digest)
        seen += int(times)
        print(number, kmer, times, f"{seen / total:.6f}", complexity, sep="\t")


if __name__ == "__main__":
    steps: dict[str, Callable[..., None]] = {"simulate": simulate, "count": count, "rank": rank}
    steps[sys.argv[1]](*sys.argv[2:])
