"""A second reader, written from docs/format.rst alone, reads what the first one's writer wrote.

It uses nothing of fsnap, so a change of the format that the document does not tell fails here.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
import zstandard
from blake3 import blake3

from fsnap.snapshots.baseline import Baseline
from fsnap.snapshots.capture import Capture
from tests.unit.snapshots.lab import PREFIX, Lab, fill, tree

WIDTHS = (1, 40, 56, 4, 80, 24, 16, 1)
CHUNK = struct.Struct("<32sIIIIIB3s")
ENTRY = struct.Struct("<IHBBIIIIQQqqIIIIII")
EXTENT = struct.Struct("<QQQ")
XATTR = struct.Struct("<IIII")


def check_header(data: bytes, magic: bytes) -> tuple[int, int]:
    found, schema, flags, codec, zeros, length, key, salt, crc = struct.unpack_from("<8sHBB4sQ16s20sI", data)
    assert (found, schema, flags, zeros, key, salt) == (magic, 1, 0, bytes(4), bytes(16), bytes(20))
    assert crc == zlib.crc32(data[:60])
    return codec, length


class Reader:
    """One snapshot, whole in memory."""

    def __init__(self, get: Any, snapshot_id: str, digest: str) -> None:
        data = get(f"{PREFIX}/snapshots/{snapshot_id}/manifest.json")
        assert blake3(data).hexdigest() == digest
        self.manifest = json.loads(data)
        rest = {key: value for key, value in self.manifest.items() if key != "check"}
        spelling = json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()
        assert hashlib.sha256(spelling).hexdigest() == self.manifest["check"]
        index = get(f"{PREFIX}/snapshots/{snapshot_id}/index")
        assert blake3(index).hexdigest() == self.manifest["index"]["digest"]
        codec, length = check_header(index, b"fsnpINDX")
        body = index[64:] if codec == 1 else zstandard.ZstdDecompressor().decompress(index[64:])
        assert len(body) == length
        counts = struct.unpack_from("<8Q", body)
        sections, at = [], 64
        for count, width in zip(counts, WIDTHS, strict=True):
            sections.append(body[at : at + count * width])
            at += count * width
        assert at == length
        head, self.packs, self.chunks, refs, self.entries, self.extents, self.xattrs, self.strings = sections
        self.head = json.loads(head)
        self.get = get
        self.stream = b"".join(self.chunk(n) for (n,) in struct.iter_unpack("<I", refs))

    def chunk(self, number: int) -> bytes:
        row = CHUNK.unpack_from(self.chunks, number * CHUNK.size)
        digest, plain_len, stored_len, pack, offset, parent, codec, zeros = row
        assert (parent, zeros) == (0xFFFFFFFF, bytes(3))
        if codec == 0:
            plain = bytes(plain_len)
        else:
            pack_id = self.packs[pack * 40 : pack * 40 + 32].hex()
            data = self.get(f"{PREFIX}/packs/{pack_id}")
            check_header(data, b"fsnpPACK")
            assert blake3(data).hexdigest() == pack_id
            stored = data[offset : offset + stored_len]
            plain = stored if codec == 1 else zstandard.ZstdDecompressor().decompress(stored)
        assert len(plain) == plain_len
        assert blake3(plain).digest() == digest
        return plain

    def files(self, name: str) -> dict[bytes, dict[str, Any]]:
        (head,) = [tree for tree in self.head["trees"] if tree["name"] == name]
        rows = range(head["first"], head["first"] + head["count"])
        found = {}
        for number in rows:
            row = ENTRY.unpack_from(self.entries, number * ENTRY.size)
            path_at, path_len, kind, _, mode, _, _, link, size, _, mtime_ns, _, *tables = row
            extent_at, extent_n, xattr_at, xattr_n, aux_at, aux_len = tables
            content = bytearray(size if kind == 1 else 0)
            for extent in range(extent_at, extent_at + extent_n):
                at, length, stream_at = EXTENT.unpack_from(self.extents, extent * EXTENT.size)
                content[at : at + length] = self.stream[stream_at : stream_at + length]
            xattrs = {}
            for xattr in range(xattr_at, xattr_at + xattr_n):
                n_at, n_len, v_at, v_len = XATTR.unpack_from(self.xattrs, xattr * XATTR.size)
                xattrs[self.strings[n_at : n_at + n_len]] = self.strings[v_at : v_at + v_len]
            found[self.strings[path_at : path_at + path_len]] = {
                "number": number,
                "kind": kind,
                "mode": mode,
                "size": size,
                "mtime_ns": mtime_ns,
                "link": link,
                "content": bytes(content),
                "xattrs": xattrs,
                "aux": self.strings[aux_at : aux_at + aux_len],
            }
        return found


@pytest.fixture
def reader(lab: Lab, source: Path) -> Reader:
    fill(source, {"in": b"input", "old": b"gone soon"})
    baseline = Baseline.scan(source, ())
    (source / "old").unlink()
    rng = random.Random(22)
    fill(
        source,
        {"d/text": b"words " * 300_000, "d/noise": rng.randbytes(2_000_000), "zeros": bytes(1_200_000)},
    )
    with open(source / "sparse", "wb") as file:
        file.seek(1_000_000)
        file.write(b"end")
    os.link(source / "d/text", source / "same")
    os.symlink("d/text", source / "link")
    os.setxattr(source / "d/text", "user.k", b"value")
    os.utime(source / "d/text", ns=(0, 1_234_567_890_123_456_789))
    os.chmod(source / "d/text", 0o640)

    def more(capture: Capture) -> None:
        capture.add_blob("note", b"a document")

    lab.capture("s1", tree(source, baseline=baseline), more=more)
    return Reader(lab.store.get, "s1", lab.published["s1"].manifest_digest)


def test_the_second_reader_finds_everything(reader: Reader, source: Path) -> None:
    files = reader.files("state-0")
    kinds = {b"": 2, b"d": 2, b"d/noise": 1, b"d/text": 1, b"in": 9, b"link": 3, b"old": 10, b"same": 8}
    assert {path: row["kind"] for path, row in files.items()} == {**kinds, b"sparse": 1, b"zeros": 1}
    for path in (b"d/noise", b"d/text", b"sparse", b"zeros"):
        assert files[path]["content"] == (source / os.fsdecode(path)).read_bytes()
    text = files[b"d/text"]
    assert (text["mode"], text["mtime_ns"], text["xattrs"]) == (
        0o640,
        1_234_567_890_123_456_789,
        {b"user.k": b"value"},
    )
    assert files[b"same"]["link"] == text["number"]
    assert files[b"link"]["aux"] == b"d/text"
    assert (files[b"in"]["size"], files[b"in"]["aux"]) == (5, blake3(b"input").digest())


def test_the_second_reader_finds_the_streams(reader: Reader) -> None:
    (stream,) = reader.head["streams"]
    assert stream["name"] == "note"
    assert reader.stream[stream["stream_at"] :][: stream["length"]] == b"a document"


def test_the_manifests_numbers_are_what_the_document_says(reader: Reader, lab: Lab) -> None:
    manifest = reader.manifest
    extents = sum(length for _, length, _ in EXTENT.iter_unpack(reader.extents))
    assert manifest["bytes"] == extents + len(b"a document")
    stored = sum(len(lab.store.get(key)) for key in lab.keys() if "manifest" not in key)
    assert manifest["stored_bytes"] == stored


def test_every_field_of_the_manifest_is_in_the_document(reader: Reader, checkout: Path) -> None:
    text = (checkout / "docs/format.rst").read_text()
    documented = set(re.findall(r"``([a-z_]+)``", text))
    assert reader.manifest.keys() <= documented


def slow_pages(data: bytes) -> list[int]:
    """The page cut as the document has it, page by page."""
    factors = [
        int(word, 16)
        for word in (
            "9E3779B97F4A7C15 C2B2AE3D27D4EB4F 165667B19E3779F9 D6E8FEB86659FD93 "
            "A0761D6478BD642F E7037ED1A0B428DB 8EBC6AF09C88C6E3 589965CC75374CC3"
        ).split()
    ]
    places = (0, 71, 137, 203, 274, 347, 409, 479)
    mixes = []
    for at in range(0, len(data) // 4096 * 4096, 4096):
        words = struct.unpack_from("<512Q", data, at)
        s = sum(words[place] * factor for place, factor in zip(places, factors, strict=True)) % 2**64
        mixes.append((s ^ s >> 29) * 0xBF58476D1CE4E5B9 % 2**64)
    ends, start = [], 0
    for page, m in enumerate(mixes):
        end = (page + 1) * 4096
        zeros = mixes[max(0, page - 7) : page + 1] == [0] * 8
        may = m > 2**64 - 2**64 // 25 or (zeros and page + 1 < len(mixes) and mixes[page + 1] != 0)
        if (may and end - start >= 32768) or end - start == 524288:
            ends.append(end)
            start = end
    return ends if ends and ends[-1] == len(data) else [*ends, len(data)]


def slow_bytes(data: bytes) -> list[int]:
    """The byte cut as the document has it, byte by byte."""
    ends, start = [], 0
    for end in range(16, len(data) + 1):
        if end - start < 32768:
            continue
        a, b, c, d = struct.unpack_from("<4I", data, end - 16)
        s = a * 0x9E3779B1 + b * 0x85EBCA77 + (c * 0x9E3779B1 + d * 0x85EBCA77) * 0xC2B2AE3D
        if s % 2**32 > 2**32 - 2**32 // 98304 or end - start == 524288:
            ends.append(end)
            start = end
    return ends if ends and ends[-1] == len(data) else [*ends, len(data)]


def test_the_cut_is_as_documented() -> None:
    from fsnap.snapshots.cut import ByteCutter, PageCutter

    rng = random.Random(23)
    data = rng.randbytes(900_000) + bytes(150 * 4096) + rng.randbytes(700_001)
    assert PageCutter().ends(memoryview(data), final=True) == slow_pages(data)
    assert ByteCutter().ends(memoryview(data), final=True) == slow_bytes(data)
