"""Every parser of bytes from outside, as a function of bytes that may raise nothing but its own refusals.

Where a check sum or digest guards a format, a second target makes it right again before it parses: an
adversary can compute those, too.
"""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Callable
from typing import Any
from unittest import mock

from fsnap.clock import SystemClock
from fsnap.core import manifest as manifests
from fsnap.core.records import canonical, digest_of
from fsnap.errors import CorruptData, FsnapError, NewerSchema
from fsnap.journal import heads
from fsnap.journal.heartbeat import Heartbeat
from fsnap.journal.rows import decode_batch
from fsnap.notices import imds, payload
from fsnap.snapshots import codec
from fsnap.snapshots.baseline import Baseline
from fsnap.snapshots.index import Index
from fsnap.snapshots.indexfile import decode_index
from fsnap.snapshots.objects import INDEX_MAGIC, encode_header
from fsnap.stores.memory import MemoryStore

SEEN = (CorruptData, NewerSchema)


def manifest(data: bytes) -> None:
    """As it is stored."""
    try:
        manifests.decode(data, where="x")
    except SEEN:
        return


def manifest_resealed(data: bytes) -> None:
    """With its check sum made right."""
    document = _object(data)
    if document is not None:
        document["check"] = hashlib.sha256(
            canonical({k: v for k, v in document.items() if k != "check"})
        ).hexdigest()
        manifest(canonical(document))


def index(data: bytes) -> None:
    """As it is stored."""
    try:
        _use(decode_index(data, where="x"))
    except SEEN:
        return


def index_tables(data: bytes) -> None:
    """The tables behind a header that fits them."""
    index(encode_header(INDEX_MAGIC, codec=codec.RAW, raw_bytes=len(data)) + data)


def _use(found: Index) -> None:
    """What passed the checks must be usable without a surprise."""
    for name in found.trees:
        for _, _, entry in found.tree_entries(name):
            found.entry_xattrs(entry)
            for _, length, stream_at in found.entry_extents(entry):
                assert sum(take for _, _, take in found.pieces(stream_at, length)) == length
        found.recorded_paths(name)
    assert found.content_bytes >= 0


def chunk(data: bytes) -> None:
    """Stored bytes of a chunk: the first byte has the codec, the next two how long it claims to be."""
    if len(data) < 3:
        return
    try:
        codec.Decoder().decode(
            memoryview(data)[3:],
            codec=data[0],
            raw_bytes=int.from_bytes(data[1:3], "little") << 4,
            expected=bytes(32),
            where="x",
            parent=bytes(4096),
        )
    except SEEN:
        return


def baseline(data: bytes) -> None:
    """What an agent wrote down about inputs."""
    try:
        Baseline.from_bytes(data)
    except SEEN:
        return


def journal_object(data: bytes) -> None:
    """As it is stored."""
    try:
        decode_batch("task", data, "x")
    except SEEN:
        return


def journal_resealed(data: bytes) -> None:
    """With every record's digest made right."""
    document = _object(data)
    if document is None or not isinstance(document.get("records"), list):
        return
    for record in document["records"]:
        if isinstance(record, dict):
            record["digest"] = digest_of(record)
    journal_object(canonical(document))


def head(data: bytes) -> None:
    """A key of a listing."""
    heads.head_from_key("heads/task/" + data.decode("utf-8", "replace"))
    heads.head_from_key(data.decode("utf-8", "replace"))


def heartbeat(data: bytes) -> None:
    """As it is stored."""
    store = MemoryStore()
    store.put(Heartbeat.key("task"), data)
    Heartbeat.read(store, "task")


def file_notice(data: bytes) -> None:
    """What somebody put into the file."""
    found = payload.parse_file_notice(data)
    payload.window_ms(found.left_s(SystemClock().wall()))


def instance_action(data: bytes) -> None:
    """The body of spot/instance-action."""
    try:
        payload.parse_instance_action(data)
    except ValueError:
        return


def metadata_answer(data: bytes) -> None:
    """All that comes back over a connection to what may be a metadata service."""
    left: list[socket.socket] = []

    def connect(*words: object) -> socket.socket:
        ours, theirs = socket.socketpair()
        theirs.sendall(data[:60_000])
        theirs.shutdown(socket.SHUT_WR)
        left.append(theirs)
        return ours

    client = imds.ImdsClient(imds.parse_endpoint("http://127.0.0.1:1"), SystemClock())
    try:
        with mock.patch.object(socket, "create_connection", connect):
            imds.fetch_identity(client)
            client.get("x")
    except FsnapError:
        return
    finally:
        for each in left:
            each.close()


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(data)
        canonical(document)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


TARGETS: dict[str, Callable[[bytes], None]] = {
    each.__name__: each
    for each in (
        manifest,
        manifest_resealed,
        index,
        index_tables,
        chunk,
        baseline,
        journal_object,
        journal_resealed,
        head,
        heartbeat,
        file_notice,
        instance_action,
        metadata_answer,
    )
}
