"""Sealing: AES-256-GCM under keys derived with HKDF, and what ties a sealed text to its place.

Every object has a random salt and, derived from it and the sealing key, a key of its own,
so that nonces need to be unlike only within one object.  The associated data is the
object's key in the store: what was sealed for one task, snapshot or record opens nowhere
else.  ``docs/format.rst`` has the words a reader needs.

What is JSON is wrapped into an *envelope*, which carries its own name: so a text that was
put under another name is told from one that was changed.
"""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING, Any

from fsnap.errors import CorruptData, KeyNeeded, NotSealed, SealBroken, WrongKey
from fsnap.keys import Key, KeyRing, shown_id

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE_BYTES = 12
TAG_BYTES = 16
OVERHEAD_BYTES = NONCE_BYTES + TAG_BYTES
SALT_BYTES = 20
_PRINT_BYTES = 8
_NO_SALT = bytes(SALT_BYTES)

Buffer = bytes | bytearray | memoryview


def derive(key: Key, salt: bytes, purpose: str, length: int = 32) -> bytes:
    """*length* bytes by HKDF-SHA256 (RFC 5869) from *key* for one *purpose*."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(algorithm=SHA256(), length=length, salt=salt, info=purpose.encode()).derive(key.secret)


def new_salt() -> bytes:
    """A salt that no other object has."""
    return os.urandom(SALT_BYTES)


def key_print(key: Key) -> str:
    """16 hex digits that tell two keys of one id apart, and nothing else about them."""
    return derive(key, _NO_SALT, "fsnap-print", _PRINT_BYTES).hex()


def bound(name: str, more: Buffer = b"") -> bytes:
    """Associated data: the object's key in the store, a zero byte, and *more*."""
    return name.encode() + b"\0" + bytes(more)


class Box:
    """Seals and opens under one derived key.  Safe to use from several threads."""

    def __init__(self, key: Key, salt: bytes, purpose: str) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._aead: AESGCM = AESGCM(derive(key, salt, purpose))

    def seal(self, plain: Buffer, aad: bytes) -> bytes:
        """Nonce, ciphertext, tag: ``OVERHEAD_BYTES`` more than *plain*."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, plain, aad)

    def open(self, sealed: Buffer, aad: bytes, where: str) -> bytes:
        """What was sealed; :class:`~fsnap.errors.SealBroken` names *where*."""
        from cryptography.exceptions import InvalidTag

        if len(sealed) < OVERHEAD_BYTES:
            raise SealBroken(f"{where} has {len(sealed)} sealed bytes, too few to be any")
        view = memoryview(sealed)
        try:
            return self._aead.decrypt(bytes(view[:NONCE_BYTES]), view[NONCE_BYTES:], aad)
        except InvalidTag:
            raise SealBroken(f"{where} was changed: its seal does not match") from None


# -- envelopes


def wrap(key: Key, plain: bytes, *, name: str, purpose: str, more: bytes = b"") -> dict[str, str]:
    """*plain* as the value of a document's ``seal``; *name* is the object's key in the store."""
    salt = new_salt()
    sealed = Box(key, salt, purpose).seal(plain, bound(name, more))
    return {
        "box": base64.b64encode(sealed).decode(),
        "key": key.id,
        "name": name,
        "print": key_print(key),
        "salt": salt.hex(),
    }


def unwrap(
    keys: KeyRing | None, envelope: Any, *, name: str, purpose: str, where: str, more: bytes = b""
) -> bytes:
    """What is in *envelope*, which was read from *where* and must be the one sealed as *name*.

    :class:`~fsnap.errors.KeyNeeded` without *keys*, :class:`~fsnap.errors.WrongKey`,
    :class:`~fsnap.errors.SealBroken`.
    """
    texts = _texts(envelope, where)
    if keys is None:
        raise key_needed(texts["key"], where)
    key = keys.find(texts["key"], where)
    if texts["print"] != key_print(key):
        raise WrongKey(
            f"{where} is sealed with another key than the {shown_id(key.id)} of the key file, under that id"
        )
    if texts["name"] != name:
        raise SealBroken(f"{where} is {texts['name'][:200]!r}, put under another name")
    try:
        salt, sealed = bytes.fromhex(texts["salt"]), base64.b64decode(texts["box"], validate=True)
    except ValueError as error:
        raise SealBroken(f"{where} was changed: its seal can't be read") from error
    # Both have spellings that decode to the same bytes; only ours is the object that was written.
    if len(salt) != SALT_BYTES or (salt.hex(), base64.b64encode(sealed).decode()) != (
        texts["salt"],
        texts["box"],
    ):
        raise SealBroken(f"{where} was changed: its seal is spelt otherwise than fsnap does")
    return Box(key, salt, purpose).open(sealed, bound(name, more), where)


def key_needed(key_id: str, where: str) -> KeyNeeded:
    """The refusal of a sealed object where there are no keys."""
    return KeyNeeded(f"{where} is sealed with the key {shown_id(key_id)}, and there is no key file")


def not_sealed(where: str) -> NotSealed:
    """The refusal of a plain object where there are keys."""
    return NotSealed(f"{where} is not sealed, and there is a key file")


def _texts(envelope: Any, where: str) -> dict[str, str]:
    names = ("box", "key", "name", "print", "salt")
    if not isinstance(envelope, dict) or not all(isinstance(envelope.get(name), str) for name in names):
        raise SealBroken(f"{where} was changed: its seal can't be read")
    if len(envelope) != len(names):
        raise SealBroken(f"{where} was changed: there is more in its seal than belongs there")
    return {name: envelope[name] for name in names}


def parsed(plain: bytes, where: str) -> Any:
    """JSON that was sealed; :class:`~fsnap.errors.CorruptData`."""
    try:
        return json.loads(plain)
    except (ValueError, RecursionError) as problem:
        raise CorruptData(f"{where}: what was sealed is not JSON ({problem})") from problem
