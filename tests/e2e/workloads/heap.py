"""A big heap that changes all the time, and a file that is written as it goes."""

import hashlib
import os
import random

from pace import pause

BLOCKS = int(os.environ.get("BLOCKS", "120"))
STEPS = 40

rng = random.Random(7)
heap = {number: bytearray(rng.randbytes(1 << 20)) for number in range(BLOCKS)}
counts: dict[bytes, int] = {}
digest = hashlib.sha256()

with open("heap.txt", "w", encoding="ascii") as out:
    for step in range(STEPS):
        for _ in range(BLOCKS // 8):
            block = heap[rng.randrange(BLOCKS)]
            at = rng.randrange(len(block) - 4096)
            block[at : at + 4096] = rng.randbytes(4096)
            digest.update(block[at : at + 8192])
        for _ in range(2000):
            key = rng.randbytes(3)
            counts[key] = counts.get(key, 0) + step
        out.write(f"{step} {digest.hexdigest()} {len(counts)}\n")
        out.flush()
        print("step", step, digest.hexdigest()[:12], flush=True)
        pause()
    for number in sorted(heap):
        digest.update(heap[number])
    digest.update(repr(sorted(counts.items())).encode())
    out.write(f"all {digest.hexdigest()}\n")
print("all", digest.hexdigest())
