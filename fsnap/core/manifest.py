"""The manifest: a snapshot's commit record, written after everything that it refers to.

It is one canonical JSON document: keys sorted, no spaces, ASCII, integers only.
``check`` is the SHA-256 of the document without ``check``, so that damage is seen
even where the journal has not pinned the manifest's digest yet.  Reading is
strict: what is not understood is refused, never half understood.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from fsnap.core.values import from_plain, to_plain
from fsnap.errors import CorruptData, NewerSchema

SCHEMA = 1
FORMAT = "fsnap-snapshot"
MAX_MANIFEST_BYTES = 16 << 20
"""A manifest is some KiB; a pack takes 90 bytes of it, so this is room for 150,000 packs."""

_HEX_DIGEST = re.compile(r"[0-9a-f]{64}")
_OWN_FIELDS = frozenset(
    ("schema", "format", "index", "packs", "bytes", "new_bytes", "stored_bytes", "parent", "seal", "check")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotAbout:
    """What a restore has to know beside the bytes, and what people ask about a snapshot.

    Dictionaries hold JSON data: strings, integers, booleans, ``None``, lists, string-keyed dictionaries.
    """

    snapshot_id: str
    task: str
    epoch: int
    seq: int
    """The journal's sequence number of the decision that this snapshot carries out."""
    final: bool
    """Whether the tree was stopped for good at the instant that the snapshot shows."""
    created_at: str
    """RFC 3339, UTC, by the capturing node's clock."""
    command: tuple[str, ...]
    cwd: str
    env_names: tuple[str, ...] = ()
    state_dirs: tuple[str, ...] = ()
    """State dir *n* is the tree ``state-n``."""
    cpu: dict[str, Any] = dataclasses.field(default_factory=dict)
    kernel: str = ""
    arch: str = ""
    criu_version: str = ""
    criu_options: tuple[str, ...] = ()
    root_pid: int = 0
    stdout_offset: int = 0
    """Bytes of the task's stdout that belong to the time before this snapshot; so for stderr."""
    stderr_offset: int = 0
    pipes: dict[str, int] = dataclasses.field(default_factory=dict)
    """Name of an inherited pipe (``stdout``) to its inode at the dump."""
    affinity: tuple[dict[str, Any], ...] = ()
    ionice: tuple[dict[str, Any], ...] = ()
    run_ms: int = 0
    """The task's own run time up to this snapshot, over all attempts."""
    fsnap_version: str = ""
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Room for what later versions add without a new schema."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackEntry:
    """A pack that the snapshot refers to: its id (64 hex digits) and its whole length."""

    id: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A parsed manifest."""

    about: SnapshotAbout
    index_digest: str
    """BLAKE3-256 of the index object, 64 hex digits."""
    index_bytes: int
    packs: tuple[PackEntry, ...]
    bytes: int
    """Content that a restore writes, inputs left out."""
    new_bytes: int
    """Content, before compression, that no earlier snapshot of the task had."""
    stored_bytes: int
    """What was put for this snapshot: packs and index."""


def encode(manifest: Manifest) -> bytes:
    """The manifest's canonical bytes.  ``ValueError`` for what is no JSON of integers and strings."""
    about = to_plain(manifest.about)
    document: dict[str, Any] = {
        **about,
        "schema": SCHEMA,
        "format": FORMAT,
        "index": {"digest": manifest.index_digest, "bytes": manifest.index_bytes},
        "packs": [{"id": pack.id, "bytes": pack.bytes} for pack in manifest.packs],
        "bytes": manifest.bytes,
        "new_bytes": manifest.new_bytes,
        "stored_bytes": manifest.stored_bytes,
        "parent": None,
        "seal": None,
    }
    document["check"] = _check(document)
    return canonical(document)


def encode_sealed(envelope: dict[str, str]) -> bytes:
    """The bytes of a sealed manifest: *envelope* holds a whole plain one, sealed."""
    document: dict[str, Any] = {"schema": SCHEMA, "format": FORMAT, "seal": envelope}
    document["check"] = _check(document)
    return canonical(document)


def sealed_part(data: bytes, *, where: str) -> dict[str, Any] | None:
    """What :func:`encode_sealed` was given, checked for damage alone; ``None`` for a plain manifest.

    Raises :class:`CorruptData` and :class:`NewerSchema` as :func:`decode` does.
    """
    document = _checked_document(data, where)
    envelope = document.get("seal")
    if envelope is None:
        return None
    if document.keys() != {"schema", "format", "seal", "check"} or not isinstance(envelope, dict):
        raise NewerSchema(f"{where} is sealed in a way that this fsnap does not know")
    return envelope


def decode(data: bytes, *, where: str) -> Manifest:
    """The manifest in *data*; *where* names the object in errors.

    Raises :class:`CorruptData` for damage and :class:`NewerSchema` for a document that is whole but
    needs a newer fsnap, or is sealed.
    """
    document = _checked_document(data, where)
    about_names = {field.name for field in dataclasses.fields(SnapshotAbout)}
    unknown = sorted(document.keys() - about_names - _OWN_FIELDS)
    if unknown:
        raise NewerSchema(f"{where} has the field {unknown[0]!r}, which this fsnap does not know")
    if document.get("seal") is not None or document.get("parent") is not None:
        raise NewerSchema(f"{where} is sealed or has a parent, which this fsnap cannot read")
    try:
        about = from_plain(SnapshotAbout, {k: v for k, v in document.items() if k in about_names})
        return _manifest(about, document)
    except (ValueError, TypeError, KeyError) as error:
        raise CorruptData(f"{where} is damaged: {error}") from error


def canonical(document: dict[str, Any]) -> bytes:
    """The one spelling of *document*; what is not ASCII, lone surrogates included, is escaped."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.encode("ascii")


def _check(document: dict[str, Any]) -> str:
    return hashlib.sha256(canonical({k: v for k, v in document.items() if k != "check"})).hexdigest()


def _checked_document(data: bytes, where: str) -> dict[str, Any]:
    document = _document(data, where)
    schema = document.get("schema")
    if document.get("format") != FORMAT or not isinstance(schema, int) or isinstance(schema, bool):
        raise CorruptData(f"{where} is not a snapshot manifest")
    if document.get("check") != _check(document):
        raise CorruptData(f"{where} is damaged: its check sum does not match")
    if schema > SCHEMA:
        raise NewerSchema(f"{where} has schema {schema}; this fsnap reads up to {SCHEMA}")
    return document


def _document(data: bytes, where: str) -> dict[str, Any]:
    if len(data) > MAX_MANIFEST_BYTES:
        raise CorruptData(f"{where} has {len(data)} bytes, more than any manifest")
    try:
        document = json.loads(data)
        if not isinstance(document, dict) or canonical(document) != data:
            raise CorruptData(f"{where} is not a canonical JSON object")
    except (ValueError, RecursionError) as error:
        raise CorruptData(f"{where} is not JSON") from error
    return document


def _manifest(about: SnapshotAbout, document: dict[str, Any]) -> Manifest:
    index = document["index"]
    packs = tuple(
        PackEntry(id=_hex(pack["id"]), bytes=_count(pack["bytes"])) for pack in _list(document["packs"])
    )
    if len({pack.id for pack in packs}) != len(packs):
        raise ValueError("a pack is listed twice")
    return Manifest(
        about=about,
        index_digest=_hex(index["digest"]),
        index_bytes=_count(index["bytes"]),
        packs=packs,
        bytes=_count(document["bytes"]),
        new_bytes=_count(document["new_bytes"]),
        stored_bytes=_count(document["stored_bytes"]),
    )


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError("packs is not a list")
    return value


def _hex(value: Any) -> str:
    if not isinstance(value, str) or not _HEX_DIGEST.fullmatch(value):
        raise ValueError("a digest is not 64 hex digits")
    return value


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
        raise ValueError("a count is not a natural number")
    return value
