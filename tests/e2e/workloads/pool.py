"""A pool of processes that share POSIX shared memory and semaphores, which live in /dev/shm."""

import hashlib
import multiprocessing
import os
from multiprocessing import shared_memory

import numpy
from pace import pause

ROWS, COLUMNS, STEPS = 64, 4096, 30


def begin(name: str, lock: object, done: object) -> None:
    global memory, table, mutex, counter
    memory = shared_memory.SharedMemory(name=name)
    table = numpy.ndarray((ROWS, COLUMNS), dtype=numpy.uint64, buffer=memory.buf)
    mutex, counter = lock, done


def work(row: int) -> int:
    with mutex:
        table[row] = table[row] * numpy.uint64(6364136223846793005) + numpy.uint64(row + 1)
        counter.value += 1
    return int(table[row].sum() & numpy.uint64(0xFFFF))


def main() -> None:
    context = multiprocessing.get_context("fork")
    block = shared_memory.SharedMemory(create=True, size=ROWS * COLUMNS * 8)
    array = numpy.ndarray((ROWS, COLUMNS), dtype=numpy.uint64, buffer=block.buf)
    array[:] = numpy.arange(ROWS * COLUMNS, dtype=numpy.uint64).reshape(ROWS, COLUMNS)
    lock, done = context.Lock(), context.Value("q", 0)
    with context.Pool(3, begin, (block.name, lock, done)) as pool:
        for step in range(STEPS):
            sums = pool.map(work, range(ROWS), chunksize=4)
            print("step", step, sum(sums), done.value, flush=True)
            pause()
        pool.close()
        pool.join()
    digest = hashlib.sha256(array.tobytes()).hexdigest()
    with open("pool.txt", "w", encoding="ascii") as out:
        out.write(f"{digest} {done.value}\n")
    del array
    block.close()
    block.unlink()
    print("shared memory left:", [name for name in os.listdir("/dev/shm") if name.startswith("psm_")])


if __name__ == "__main__":
    main()
