"""The put path alone: fsnap's store into a server that discards, and ``curl -T`` into the same."""

from __future__ import annotations

import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from _bench.failure import BenchFailure
from _bench.sink import sink
from fsnap.stores.s3 import S3Store
from tests.servers import ACCESS_KEY, REGION, SECRET_KEY

if TYPE_CHECKING:
    from _bench.bench import Bench

MIB = 1 << 20
OBJECT_BYTES = 16 * MIB
"""As large as fsnap's packs."""
CONNECTIONS = 4
"""As many as a capture has."""
MAX_MIB = 512
ROUNDS = 3
"""Interleaved per run; a run's rate is the best of them."""


def sink_pairs(bench: Bench) -> list[tuple[float, float]]:
    """MiB per second of ``Store.put`` by a capture's connections, and of the best that curl does."""
    folder = bench.folder("sink")
    count = max(CONNECTIONS, min(bench.size_mib, MAX_MIB) * MIB // OBJECT_BYTES)
    body = memoryview(os.urandom(OBJECT_BYTES))
    path = folder / "body"
    path.write_bytes(body)
    found = []
    with sink() as endpoint:
        os.environ.update(
            AWS_ENDPOINT_URL=endpoint,
            AWS_ACCESS_KEY_ID=ACCESS_KEY,
            AWS_SECRET_ACCESS_KEY=SECRET_KEY,
            AWS_REGION=REGION,
            AWS_EC2_METADATA_DISABLED="true",
        )
        store = S3Store("bench")
        store.put("first", body)  # the client is made, and its connection
        for _ in range(bench.runs):
            ours, theirs = 0.0, 0.0
            for _ in range(ROUNDS):
                ours = max(ours, _put(store, body, count))
                theirs = max(
                    theirs, _curl(endpoint, path, count, 1), _curl(endpoint, path, count, CONNECTIONS)
                )
            found.append((ours, theirs))
    return found


def _put(store: S3Store, body: memoryview, count: int) -> float:
    began_s = time.perf_counter()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(lambda number: store.put(f"packs/{number}", body), range(count)))
    return count * OBJECT_BYTES / MIB / (time.perf_counter() - began_s)


def _curl(endpoint: str, path: Path, count: int, at_once: int) -> float:
    words = [word for number in range(count) for word in ("-T", str(path), f"{endpoint}/bench/{number}")]
    command = ["curl", "-sS", "--fail", "-Z", "--parallel-max", str(at_once), *words]
    began_s = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchFailure(f"curl failed: {done.stderr.strip()[-300:]}")
    return count * OBJECT_BYTES / MIB / (time.perf_counter() - began_s)
