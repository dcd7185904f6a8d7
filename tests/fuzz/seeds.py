"""One sound input, or some, for each target: where a fuzzer begins."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import zstandard

from fsnap.core.manifest import canonical
from fsnap.core.model import TaskState
from fsnap.journal import heads
from fsnap.journal.heartbeat import Beat, Heartbeat
from fsnap.journal.rows import encode_batch
from fsnap.snapshots import codec
from fsnap.snapshots.baseline import Baseline
from fsnap.snapshots.layout import index_key, manifest_key
from fsnap.snapshots.objects import HEADER_BYTES
from fsnap.stores.memory import MemoryStore
from tests.unit.core.support import HOLDER, ref
from tests.unit.snapshots.lab import PREFIX, Lab, fill, tree

JOURNALS = Path(__file__).resolve().parent.parent / "journals" / "good"
TOKEN = b"HTTP/1.1 200 OK\r\nDate: Sat, 21 Nov 2026 22:09:52 GMT\r\nContent-Length: 6\r\n\r\nAQAEA="


def seeds() -> dict[str, list[bytes]]:
    """By target."""
    lab = _snapshot()
    index = lab.store.get(index_key(PREFIX, "s1"))
    manifest = lab.store.get(manifest_key(PREFIX, "s1"))
    packed = zstandard.compress(b"ab" * 4096)
    journal = _journal()
    return {
        "manifest": [manifest],
        "manifest_resealed": [manifest],
        "index": [index],
        "index_tables": [zstandard.ZstdDecompressor().decompress(index[HEADER_BYTES:])],
        "chunk": [
            bytes([number, 0, 2]) + packed for number in (codec.ZERO, codec.RAW, codec.ZSTD, codec.DELTA)
        ],
        "baseline": [_baseline()],
        "journal_object": [journal],
        "journal_resealed": [journal],
        "head": [_head()],
        "heartbeat": [_beat()],
        "file_notice": [b'{"window_s": 30}', b'{"deadline": "2026-11-21T22:11:52.5+01:00"}'],
        "instance_action": [b'{"action": "terminate", "time": "2026-11-21T22:11:52Z"}'],
        "metadata_answer": [
            TOKEN,
            TOKEN.replace(b"2026", b"20260000000000"),
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            b"HTTP/1.0 404 Not Found\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\n\r\n",
        ],
    }


def _snapshot() -> Lab:
    lab = Lab()
    with tempfile.TemporaryDirectory() as top:
        source = Path(top)
        fill(source, {"a": b"1" * 5000, "d/c": b"3", "zeros": bytes(40_000)})
        (source / "l").symlink_to("a")
        (source / "h").hardlink_to(source / "d/c")
        lab.capture("s1", tree(source), more=lambda capture: capture.add_blob("n", b"5"))
    return lab


def _baseline() -> bytes:
    with tempfile.TemporaryDirectory() as top:
        fill(Path(top), {"a": b"1", "d/c": b"3"})
        return Baseline.scan(Path(top), ()).to_bytes()


def _journal() -> bytes:
    lines = (JOURNALS / "two-reclaims.jsonl").read_text().splitlines()
    return encode_batch("task", [json.loads(line) for line in lines], "nonce").body


def _head() -> bytes:
    state = TaskState(task="task", seq=3, epoch=1, holder=HOLDER, command=("sleep", "1"), snapshots=(ref(),))
    return heads.head_key(heads.head_of(state)).removeprefix(heads.head_prefix("task")).encode()


def _beat() -> bytes:
    store = MemoryStore()
    Heartbeat.put(store, "task", Beat(node="n", epoch=1, count=2, at="", sample={"run_ms": 5}))
    return canonical(json.loads(store.get(Heartbeat.key("task"))))
