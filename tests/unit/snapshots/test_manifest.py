"""The manifest's spelling is one, exact in both directions, and strict."""

from __future__ import annotations

import dataclasses
import json

import pytest

from fsnap.core.manifest import Manifest, PackEntry, SnapshotAbout, canonical, decode, encode
from fsnap.errors import CorruptData
from tests.unit.snapshots.lab import about

FULL = about(
    "s1",
    command=("awk", "{print $1}", "sn\xf6\udcff\n"),
    env_names=("PATH", "HOME"),
    state_dirs=("/data", "/scratch/\udc80"),
    cpu={"vendor": "AuthenticAMD", "flags": ["avx2", "sse4_2"], "features": {"xsave": 832, "pku": False}},
    kernel="6.1.0",
    arch="x86_64",
    criu_version="4.2.1",
    criu_options=("--link-remap",),
    root_pid=1000,
    stdout_offset=1 << 40,
    stderr_offset=3,
    pipes={"stdout": 81234, "stderr": 81235},
    affinity=({"pid": 1000, "cpus": [0, 1]},),
    ionice=({"pid": 1000, "class": 2, "level": 6},),
    run_ms=123_456,
    fsnap_version="0.1.0",
    extra={"note": None, "list": [1, "two", {"three": 3}]},
)
MANIFEST = Manifest(
    about=FULL,
    index_digest="0f" * 32,
    index_bytes=1234,
    packs=(PackEntry(id="ab" * 32, bytes=16 << 20), PackEntry(id="cd" * 32, bytes=99)),
    bytes=1 << 40,
    new_bytes=5,
    stored_bytes=6,
)


def test_it_comes_back_as_it_was() -> None:
    data = encode(MANIFEST)
    assert decode(data, where="m") == MANIFEST
    assert encode(decode(data, where="m")) == data


def test_every_field_of_the_test_differs_from_its_default() -> None:
    """Else a field that is dropped on the way would go unnoticed."""
    for field in dataclasses.fields(SnapshotAbout):
        if field.default is not dataclasses.MISSING:
            assert getattr(FULL, field.name) != field.default
        elif field.default_factory is not dataclasses.MISSING:
            assert getattr(FULL, field.name) != field.default_factory()


def test_another_spelling_of_the_same_document_is_refused() -> None:
    document = json.loads(encode(MANIFEST))
    for data in (
        json.dumps(document, sort_keys=True).encode(),
        json.dumps(dict(reversed(document.items())), separators=(",", ":")).encode(),
        encode(MANIFEST) + b"\n",
        encode(MANIFEST).replace(b'"bytes":99', b'"bytes":99.0'),
    ):
        with pytest.raises(CorruptData, match="m is"):
            decode(data, where="m")


def test_a_fraction_is_refused_when_it_is_written() -> None:
    with pytest.raises(ValueError, match="float"):
        encode(dataclasses.replace(MANIFEST, about=about("s1", extra={"rate": 0.5})))


def test_a_pack_is_listed_once() -> None:
    twice = dataclasses.replace(MANIFEST, packs=(MANIFEST.packs[0], MANIFEST.packs[0]))
    with pytest.raises(CorruptData, match="twice"):
        decode(encode(twice), where="m")


def test_canonical_sorts_at_every_depth() -> None:
    assert canonical({"b": {"d": 1, "c": [2]}, "a": "é"}) == b'{"a":"\\u00e9","b":{"c":[2],"d":1}}'
