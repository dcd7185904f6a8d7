"""Task ids: what may be one, how it becomes part of a key, and what binds it to a command."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence

from fsnap.errors import UsageError

MAX_ID_CHARS = 128
MAX_KEY_CHARS = 200
"""Of an escaped id: one path part has 255 bytes at most, and a head needs room in its key beside the id."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+-]*")
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
_ESCAPED = re.compile(r"=([0-9A-F]{2})|([A-Za-z0-9._-])")
_HINT = (
    f"Use letters, digits and . _ : @ + - (the first a letter or digit), at most {MAX_ID_CHARS} characters."
)


def task_key(task: str) -> str:
    """*task* as one part of a store key: ``[A-Za-z0-9._-]`` as it is, any other byte of its UTF-8 as ``=XX``.

    A leading dot is escaped too: ``.`` and ``..`` are no names, and file systems have
    hidden names of their own.  ``ValueError`` when *task* is empty.
    """
    if not task:
        raise ValueError("a task id is not empty")
    data = task.encode("utf-8", "surrogateescape")
    return "".join(
        chr(byte) if byte in _PLAIN and not (byte == ord(".") and place == 0) else f"={byte:02X}"
        for place, byte in enumerate(data)
    )


def task_from_key(key: str) -> str:
    """The task whose :func:`task_key` is *key*; ``ValueError`` when there is none."""
    data = bytearray()
    place = 0
    while place < len(key):
        match = _ESCAPED.match(key, place)
        if match is None:
            raise ValueError(f"{key[:100]!r} is not a task's key")
        data += bytes.fromhex(match[1]) if match[1] else match[2].encode()
        place = match.end()
    task = data.decode("utf-8", "surrogateescape")
    if not task or task_key(task) != key:
        raise ValueError(f"{key[:100]!r} is not a task's key")
    return task


def check_task_id(text: str, what: str = "--task") -> str:
    """*text*, which the flag or variable *what* gave, if it may be an id.

    :class:`~fsnap.errors.UsageError` otherwise.
    """
    if not _ID.fullmatch(text):
        raise UsageError(f"{what}: {_shown(text)} is not an id", hint=_HINT)
    if len(text) > MAX_ID_CHARS:
        raise UsageError(f"{what}: {_shown(text)} has {len(text)} characters", hint=_HINT)
    _check_key_length(text, what)
    return text


def full_task_id(task: str, step: str | None) -> str:
    """The id of *task*, or of its *step* (``--name``).

    :class:`~fsnap.errors.UsageError` if either is no id, or both together are too long.
    """
    check_task_id(task)
    if step is None:
        return task
    full = f"{task}/{check_task_id(step, '--name')}"
    _check_key_length(full, "--task and --name together")
    return full


def command_digest(argv: Sequence[str]) -> str:
    """SHA-256 of *argv*, in hex: equal for equal arguments only, whatever bytes they hold."""
    return hashlib.sha256(json.dumps(list(argv), separators=(",", ":")).encode("ascii")).hexdigest()


def _check_key_length(task: str, what: str) -> None:
    if len(task_key(task)) > MAX_KEY_CHARS:
        raise UsageError(
            f"{what}: {_shown(task)} is too long",
            hint=f"At most {MAX_KEY_CHARS} characters, where each of : @ + / counts as three.",
        )


def _shown(text: str) -> str:
    """One line, whatever is in *text*."""
    return ascii(text) if len(text) <= 60 else ascii(text[:57]) + "..."
