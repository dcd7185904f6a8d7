"""The key file: which keys there are, and which of them seals.

One key a line, ``ID BASE64``: an id of 1 to 16 characters and 32 random bytes.  The first
seals; all of them open.  Empty lines and lines that begin with ``#`` are passed over.

No message shows anything of a line but its number: it holds a secret.
"""

from __future__ import annotations

import base64
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from fsnap.errors import KeyFileError, WrongKey

KEY_BYTES = 32
"""AES-256's."""
ID_BYTES = 16
"""What the header of a sealed object has room for."""
MAX_FILE_BYTES = 64 << 10

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,15}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One sealing key."""

    id: str
    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id) or len(self.secret) != KEY_BYTES:
            raise ValueError(f"a key has an id of 1 to {ID_BYTES} characters and {KEY_BYTES} bytes")


class KeyRing:
    """Keys by id, of which the first seals.  ``ValueError`` for none, or for an id that is there twice."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self._keys = {key.id: key for key in keys}
        if not keys or len(self._keys) != len(keys):
            raise ValueError("a key ring has at least one key, and each id once")
        self.first = keys[0]
        """The key that seals."""

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(self._keys)})"

    def find(self, key_id: str, where: str) -> Key:
        """The key that the object *where* names; :class:`~fsnap.errors.WrongKey` where it is not here."""
        key = self._keys.get(key_id)
        if key is None:
            raise WrongKey(
                f"{where} is sealed with the key {shown_id(key_id)}, which is not in the key file "
                f"(it has {', '.join(self._keys)})"
            )
        return key


def shown_id(key_id: str) -> str:
    """*key_id* as messages show it: an object of the store may claim anything."""
    return repr(key_id) if _ID.fullmatch(key_id) else "of an unreadable name"


def read_key_file(path: Path) -> KeyRing:
    """The keys in *path*; :class:`~fsnap.errors.KeyFileError` for a file that may not be used."""
    if find_spec("cryptography") is None:
        raise KeyFileError(
            f"key file {path}: the package cryptography is not installed", hint="Install fsnap[seal]."
        )
    return _parse(_read(path), path)


def _read(path: Path) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            state = os.fstat(fd)
            if not stat.S_ISREG(state.st_mode):
                raise KeyFileError(f"key file {path}: it is not a file")
            if state.st_mode & 0o077:
                raise KeyFileError(
                    f"key file {path}: others than its owner may use it (mode {state.st_mode & 0o777:04o})",
                    hint=f"Say chmod 600 {path}.",
                )
            if state.st_size > MAX_FILE_BYTES:
                raise KeyFileError(f"key file {path}: it has {state.st_size} bytes, too many for keys")
            return os.read(fd, MAX_FILE_BYTES)
        finally:
            os.close(fd)
    except OSError as error:
        raise KeyFileError(f"key file {path}: {error.strerror or error}") from error


def _parse(data: bytes, path: Path) -> KeyRing:
    keys: dict[str, Key] = {}
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        key = _key(words)
        if key is None:
            raise KeyFileError(f"key file {path}: line {number} is not an id and the base64 of 32 bytes")
        if key.id in keys:
            raise KeyFileError(f"key file {path}: line {number} has the id {key.id} of a line before it")
        keys[key.id] = key
    if not keys:
        raise KeyFileError(f"key file {path}: there is no key in it")
    return KeyRing(list(keys.values()))


def _key(words: list[str]) -> Key | None:
    if len(words) != 2:
        return None
    try:
        return Key(id=words[0], secret=base64.b64decode(words[1], validate=True))
    except ValueError:
        return None
