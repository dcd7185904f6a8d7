"""Parsers meet any bytes with ``CorruptData`` or ``NewerSchema``, and with nothing else.

The mutations reach behind the check sums: an adversary can compute those too.
"""

from __future__ import annotations

import json
import struct
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from fsnap.core import manifest as manifests
from fsnap.errors import CorruptData, NewerSchema
from fsnap.snapshots import codec
from fsnap.snapshots.baseline import Baseline
from fsnap.snapshots.index import Index
from fsnap.snapshots.indexfile import MAX_RATIO, decode_index, encode_index
from fsnap.snapshots.layout import index_key, manifest_key
from fsnap.snapshots.objects import HEADER_BYTES, INDEX_MAGIC, encode_header
from tests.unit.snapshots.lab import PREFIX, Lab, fill, tree

SEEN = (CorruptData, NewerSchema)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    source = tmp_path_factory.mktemp("source")
    fill(source, {"a": b"1" * 5000, "d/b": b"2" * 100, "zeros": bytes(40_000), "in": b"input"})
    baseline = Baseline.scan(source, ())
    fill(source, {"d/c": b"3", "a": b"4" * 5000})
    (source / "l").symlink_to("a")
    (source / "h").hardlink_to(source / "d/c")
    lab = Lab()
    lab.capture("s1", tree(source, baseline=baseline), more=lambda capture: capture.add_blob("n", b"5"))
    return lab


def raw_index(lab: Lab) -> bytes:
    data = lab.store.get(index_key(PREFIX, "s1"))
    return zstandard.ZstdDecompressor().decompress(data[HEADER_BYTES:])


def wrapped(raw: bytes) -> bytes:
    return encode_header(INDEX_MAGIC, codec=codec.RAW, raw_bytes=len(raw)) + raw


def try_to_use(index: Index) -> None:
    """What passed the checks must be usable without a surprise."""
    for name in index.trees:
        for _, _, entry in index.tree_entries(name):
            index.entry_xattrs(entry)
            for _, length, stream_at in index.entry_extents(entry):
                assert sum(take for _, _, take in index.pieces(stream_at, length)) == length
        index.recorded_paths(name)
    assert index.content_bytes >= 0


@settings(max_examples=600)
@given(data=st.data())
def test_mutated_tables(lab: Lab, data: st.DataObject) -> None:
    raw = bytearray(raw_index(lab))
    for _ in range(data.draw(st.integers(1, 4))):
        width = data.draw(st.sampled_from([1, 2, 4, 8]))
        at = data.draw(st.integers(0, len(raw) - width))
        value = data.draw(
            st.one_of(st.sampled_from([0, 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63]), st.integers(0, 2**64 - 1))
        )
        raw[at : at + width] = (value % 2 ** (8 * width)).to_bytes(width, "little")
    try:
        index = decode_index(wrapped(bytes(raw)), where="x")
    except SEEN:
        return
    try_to_use(index)


@settings(max_examples=200)
@given(data=st.data())
def test_cut_and_spliced_tables(lab: Lab, data: st.DataObject) -> None:
    raw = raw_index(lab)
    start = data.draw(st.integers(0, len(raw)))
    stop = data.draw(st.integers(start, len(raw)))
    changed = raw[:start] + data.draw(st.binary(max_size=100)) + raw[stop:]
    try:
        try_to_use(decode_index(wrapped(changed), where="x"))
    except SEEN:
        return


@settings(max_examples=300)
@given(data=st.one_of(st.binary(max_size=200), st.binary(max_size=200).map(lambda body: wrapped(body))))
def test_any_bytes_as_an_index(data: bytes) -> None:
    with pytest.raises(SEEN):
        decode_index(data, where="x")


@settings(max_examples=300)
@given(data=st.data())
def test_mutated_objects(lab: Lab, data: st.DataObject) -> None:
    key = data.draw(st.sampled_from([index_key(PREFIX, "s1"), manifest_key(PREFIX, "s1")]))
    good = bytearray(lab.store.get(key))
    at = data.draw(st.integers(0, len(good) - 1))
    good[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(SEEN):
        if key.endswith("index"):
            decode_index(bytes(good), where="x")
            raise CorruptData("a flip in an index that leaves it sound is caught by its digest")
        manifests.decode(bytes(good), where="x")


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@settings(max_examples=300)
@given(data=st.data())
def test_manifests_with_other_values(lab: Lab, data: st.DataObject) -> None:
    """Any field replaced, and the check sum made right again."""
    document: dict[str, Any] = json.loads(lab.store.get(manifest_key(PREFIX, "s1")))
    name = data.draw(st.sampled_from(sorted(document)))
    document[name] = data.draw(JSON)
    document["check"] = manifests._check(document)
    try:
        manifests.decode(manifests.canonical(document), where="x")
    except SEEN:
        return


@settings(max_examples=200)
@given(data=st.one_of(st.binary(max_size=100), JSON.map(lambda value: json.dumps(value).encode())))
def test_any_bytes_as_a_manifest(data: bytes) -> None:
    with pytest.raises(SEEN):
        manifests.decode(data, where="x")


@settings(max_examples=200)
@given(
    data=st.one_of(
        st.binary(max_size=100), JSON.map(lambda value: zstandard.compress(json.dumps(value).encode()))
    )
)
def test_any_bytes_as_a_baseline(data: bytes) -> None:
    with pytest.raises(SEEN):
        Baseline.from_bytes(data)


def test_a_bomb_is_refused_before_it_is_inflated() -> None:
    raw = bytes(1 << 28)
    packed = zstandard.compress(raw)
    assert len(packed) * MAX_RATIO < len(raw)
    with pytest.raises(CorruptData, match="claims"):
        decode_index(encode_header(INDEX_MAGIC, codec=codec.ZSTD, raw_bytes=len(raw)) + packed, where="x")
    with pytest.raises(CorruptData, match="length"):
        decode_index(encode_header(INDEX_MAGIC, codec=codec.ZSTD, raw_bytes=1000) + packed, where="x")


def test_a_header_of_a_newer_schema_says_so(lab: Lab) -> None:
    data = bytearray(lab.store.get(index_key(PREFIX, "s1")))
    for at, value in ((8, 2), (10, 2), (24, 7), (40, 7)):
        newer = bytearray(data)
        newer[at] = value
        newer[60:64] = struct.pack("<I", zlib.crc32(newer[:60]))
        with pytest.raises(NewerSchema):
            decode_index(bytes(newer), where="x")


@pytest.mark.parametrize("number", [4, codec.SEALED, codec.SEALED | codec.DELTA, codec.SEALED | codec.RAW])
def test_codecs_that_a_plain_index_can_not_have(lab: Lab, number: int) -> None:
    index = decode_index(lab.store.get(index_key(PREFIX, "s1")), where="x")
    index.chunks = index.chunks.copy()
    index.chunks["codec"][0] = number
    with pytest.raises(CorruptData, match="unknown codec" if number == 4 else "not sealed"):
        decode_index(encode_index(index), where="x")


PATHS = [
    b"/etc/passwd",
    b"../outside",
    b"d/../../outside",
    b"d/./c",
    b"d//c",
    b"d/",
    b".",
    b"..",
    b"d/\0",
    b"missing/c",
    b"a/c",
    b"l/c",
    b"d/" + b"x" * 256,
    b"a",
]


@pytest.mark.parametrize("path", PATHS)
def test_paths_that_lead_astray(lab: Lab, path: bytes) -> None:
    """Each in place of ``d/c``, with everything else right; ``a`` is a file and ``l`` a link."""
    index = decode_index(lab.store.get(index_key(PREFIX, "s1")), where="x")
    entries = index.entries.copy()
    (number,) = [n for n, p, _ in index.tree_entries("state-0") if p == "d/c"]
    entries["path_at"][number], entries["path_len"][number] = len(index.strings), len(path)
    index.entries = entries
    index.strings += path
    with pytest.raises(CorruptData, match="x is damaged"):
        decode_index(encode_index(index), where="x")


def test_links_that_lead_astray(lab: Lab) -> None:
    index = decode_index(lab.store.get(index_key(PREFIX, "s1")), where="x")
    number = int(np.flatnonzero(index.entries["kind"] == 8)[0])
    for target in (0, number, number + 1, 2**32 - 1):
        index.entries = index.entries.copy()
        index.entries["link"][number] = target
        with pytest.raises(CorruptData, match="hard link"):
            decode_index(encode_index(index), where="x")


def test_a_sound_index_survives_its_own_spelling(lab: Lab) -> None:
    data = lab.store.get(index_key(PREFIX, "s1"))
    assert encode_index(decode_index(data, where="x")) == data
    with tempfile.TemporaryDirectory() as top:
        lab.open("s1").restore_tree("state-0", Path(top))
