"""How the objects of one task's snapshots are sealed, and opened again.

A snapshot is of one key: its manifest names it, its index and every pack that it refers to
must be sealed with the same, and its chunks' digests are keyed with it.  So chunks are
found again only among those of that key.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from fsnap.core import manifest as manifests
from fsnap.core.manifest import Manifest
from fsnap.errors import CorruptData, SealBroken
from fsnap.keys import Key, KeyRing
from fsnap.sealing import OVERHEAD_BYTES, Box, bound, derive, new_salt, not_sealed, unwrap, wrap
from fsnap.snapshots import layout, objects
from fsnap.snapshots.objects import Header

if TYPE_CHECKING:
    from fsnap.stores.base import Buffer

__all__ = ["OVERHEAD_BYTES", "PackBox", "PackBoxes", "SnapshotSeal", "open_manifest", "seal_manifest"]

_INDEX, _MANIFEST, _PACK, _CHUNK = "fsnap-index", "fsnap-manifest", "fsnap-pack", "fsnap-chunk"


class SnapshotSeal:
    """One key, for the snapshots of the task below *prefix*.  Safe to use from several threads."""

    def __init__(self, key: Key, prefix: str) -> None:
        self.key = key
        self._prefix = prefix
        self.hash_key = derive(key, b"", f"{_CHUNK} {prefix}")
        """Of the BLAKE3 digests that name chunks."""

    def new_pack(self) -> PackBox:
        """What seals the chunks of one new pack."""
        return PackBox(self.key, new_salt(), self._prefix)

    def open_pack(self, header: Header, where: str) -> PackBox:
        """What opens the chunks of the pack with *header*."""
        return PackBox(self.key, self._salt(header, where), self._prefix)

    def seal_index(self, header: Callable[[str, bytes], bytes], body: Buffer, name: str) -> bytes:
        """The index object *name*: *header* makes its header from key id and salt."""
        salt = new_salt()
        head = header(self.key.id, salt)
        return head + Box(self.key, salt, _INDEX).seal(body, bound(name, head))

    def open_index(self, header: Header, data: memoryview, name: str, where: str) -> bytes:
        """The body of the index object *name*."""
        box = Box(self.key, self._salt(header, where), _INDEX)
        head, body = data[: objects.HEADER_BYTES], data[objects.HEADER_BYTES :]
        return box.open(body, bound(name, head), where)

    def _salt(self, header: Header, where: str) -> bytes:
        if header.key_id != self.key.id:
            raise SealBroken(f"{where} is not sealed with the key {self.key.id!r} of its manifest")
        return header.salt


class PackBox:
    """Seals or opens the chunks of one pack."""

    def __init__(self, key: Key, salt: bytes, prefix: str) -> None:
        self._box = Box(key, salt, _PACK)
        self._name = layout.packs_prefix(prefix)
        self.header = objects.encode_header(objects.PACK_MAGIC, key_id=key.id, salt=salt)

    def seal(self, stored: Buffer, digest: bytes) -> bytes:
        """The chunk of that *digest*, ``OVERHEAD_BYTES`` longer."""
        return self._box.seal(stored, bound(self._name, digest))

    def open(self, sealed: Buffer, digest: bytes, where: str) -> memoryview:
        """What :meth:`seal` was given; :class:`~fsnap.errors.SealBroken` names *where*."""
        return memoryview(self._box.open(sealed, bound(self._name, digest), where))


class PackBoxes:
    """The boxes of the packs that a reader has met.  Safe to use from several threads."""

    def __init__(self, seal: SnapshotSeal | None) -> None:
        self._seal = seal
        self._boxes: dict[str, PackBox] = {}
        self._lock = threading.Lock()

    def learn(self, pack_id: str, header: Buffer, where: str) -> None:
        """Check a pack's header, and remember what opens its chunks.

        :class:`CorruptData`, :class:`NewerSchema`.
        """
        found = objects.decode_header(header, objects.PACK_MAGIC, where=where)
        if self._seal is None:
            if found.key_id:
                raise CorruptData(f"{where} is sealed, and its index is not")
            return
        box = self._seal.open_pack(found, where)
        with self._lock:
            self._boxes[pack_id] = box

    def find(self, pack_id: str) -> PackBox | None:
        """The box of a pack that was met before."""
        with self._lock:
            return self._boxes.get(pack_id)


def seal_manifest(plain: bytes, key: Key, name: str) -> bytes:
    """The manifest object *name*, its key in the store, that holds the manifest *plain*."""
    return manifests.encode_sealed(wrap(key, plain, name=name, purpose=_MANIFEST))


def open_manifest(
    data: bytes, keys: KeyRing | None, *, prefix: str, snapshot_id: str, where: str
) -> tuple[Manifest, SnapshotSeal | None]:
    """The manifest in *data*, and what opens the rest of its snapshot.

    :class:`CorruptData`, :class:`NewerSchema`, or a :class:`~fsnap.errors.SealError` where *data*
    and *keys* do not go together.
    """
    envelope = manifests.sealed_part(data, where=where)
    if envelope is None:
        if keys is not None:
            raise not_sealed(where)
        manifest, seal = manifests.decode(data, where=where), None
    else:
        name = layout.manifest_key(prefix, snapshot_id)
        plain = unwrap(keys, envelope, name=name, purpose=_MANIFEST, where=where)
        assert keys is not None
        manifest = manifests.decode(plain, where=where)
        seal = SnapshotSeal(keys.find(envelope["key"], where), prefix)
    if manifest.about.snapshot_id != snapshot_id:
        raise CorruptData(f"{where} belongs to the snapshot {manifest.about.snapshot_id!r}")
    return manifest, seal
