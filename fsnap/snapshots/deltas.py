"""What a new chunk is stored as: its pages over a chunk that the store has, or whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fsnap.snapshots import codec, pagedelta
from fsnap.snapshots.known import KnownChunks, Stored
from fsnap.snapshots.pageindex import PageIndex, Prints

if TYPE_CHECKING:
    from fsnap.stores.base import Buffer

_MOST = 0.5
"""A delta, with those that it rests on, takes at most this share of what the chunk would take whole:
beyond it a restore reads much more than is saved."""


class Encoded(NamedTuple):
    """How a chunk is stored."""

    codec: int
    stored: Buffer
    parents: tuple[Stored, ...] = ()
    """The chunk that it is a delta of first, then what that one is a delta of."""


def encode(
    digest: bytes, data: memoryview, encoder: codec.Encoder, known: KnownChunks, *, learn: bool
) -> Encoded:
    """The chunk *data*, not zeros, of that *digest*; with *learn* its pages are known from now on."""
    pages = known.pages
    if pages is None or not (pages or learn):
        return Encoded(*encoder.encode(data))
    prints = pages.prints(data)
    delta = _delta(digest, data, prints, encoder, known, pages)
    if learn:
        pages.learn(digest, prints)
    return delta or Encoded(*encoder.encode(data))


def notice(digest: bytes, data: memoryview, known: KnownChunks) -> None:
    """A chunk that the store has was met: from now on its pages are known, as for the chunks of a restore."""
    if known.pages is not None and digest not in known.pages:
        known.pages.learn(digest, known.pages.prints(data))


def _delta(
    digest: bytes,
    data: memoryview,
    prints: Prints,
    encoder: codec.Encoder,
    known: KnownChunks,
    pages: PageIndex,
) -> Encoded | None:
    match = pages.find(prints)
    parents = known.chain(match.digest) if match is not None else ()
    if match is None or not 0 < len(parents) <= pagedelta.WRITTEN_DEPTH:
        return None
    if any(parent.digest == digest for parent in parents):
        return None
    stored = encoder.encode_delta(pagedelta.encode(data, match.same, match.shift))
    base = parents[-1].location
    whole = base.stored_bytes * len(data) // base.raw_bytes
    rests_on = sum(parent.location.stored_bytes for parent in parents[:-1])
    if len(stored) > len(data) or len(stored) + rests_on > whole * _MOST:
        return None
    return Encoded(codec.DELTA, stored, parents)
