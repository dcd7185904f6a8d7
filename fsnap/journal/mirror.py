"""The journal in the store: what is there is what happened, and creating it is the fence.

``tasks/<task>/journal/<first seq>.json`` holds one or more consecutive records and is
created only if it does not exist.  Since everybody's next object has the same name,
of all nodes that write on exactly one gets on; the others are fenced.

A put whose answer was lost may have won, or win later.  So an object's exact bytes,
with a nonce that makes them unlike any other's, are kept locally before the first put
and are what is put again; found in the store, they are ours.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from fsnap.core.model import TaskState
from fsnap.core.records import Record, check_chain
from fsnap.crashpoints import CrashPoint, reach
from fsnap.errors import CorruptData, Fenced, NewerSchema, ObjectExists, ObjectMissing, SealError
from fsnap.journal.errors import StoreBehind
from fsnap.journal.local import NO_RECORDS, Head, Journal
from fsnap.journal.rows import MIRROR_HINT, Batch, decode_batch
from fsnap.journal.sealing import journal_object, journal_prefix
from fsnap.keys import KeyRing
from fsnap.stores.base import Store

__all__ = ["LOST", "Mirror", "journal_object", "journal_prefix", "read_records"]

READERS = 8
"""Objects read at once: a journal is many small ones, and each costs a round trip."""

LOST = "the store has another record, or it was damaged here"

_Fetched = tuple[Batch, list[Record], str]
"""An object, its records, and where it was read from."""

_NAME = re.compile(r"([0-9]{10})\.json")


def read_records(store: Store, task: str, keys: KeyRing | None = None) -> list[Record]:
    """All of *task*'s records in *store*, checked; for looking, without a local journal.

    :class:`~fsnap.errors.CorruptData`, :class:`~fsnap.errors.NewerSchema` and
    :class:`~fsnap.errors.SealError` name the object, :class:`~fsnap.errors.StoreError` when
    the store fails.
    """
    fetched = _fetch(store, task, 1, READERS, keys)
    _chained(task, NO_RECORDS, fetched)
    return [record for _, records, _ in fetched for record in records]


class Mirror:
    """One task's journal in the store, as one holder or claimant sees it.  Safe to call from several threads.

    *nonce* gives text that nobody else gives.  *readers* bounds how many objects are
    read at once.  With *journal*'s keys all objects are sealed, and must be.

    Once it has raised :class:`~fsnap.errors.Fenced` it does so at each call until
    :meth:`pull`: nothing is written on top of the record that superseded this holder.
    """

    def __init__(
        self, *, journal: Journal, store: Store, task: str, nonce: Callable[[], str], readers: int = READERS
    ) -> None:
        self._journal = journal
        self._store = store
        self._task = task
        self._nonce = nonce
        self._readers = readers
        self._lock = threading.Lock()
        self._at = journal.mirrored_head(task)
        self._sent: Batch | None = None
        self._lost = ""

    def pull(self) -> TaskState:
        """Take over what the store has that is not known here; the fold of all mirrored records.

        A tail that lost goes to ``orphaned``; one that may still win stays.  Mirrored
        records that were damaged here come back from the store.
        :class:`~fsnap.errors.CorruptData` names the object that is damaged or missing;
        :class:`~fsnap.journal.errors.StoreBehind` when the store lacks what it had;
        :class:`~fsnap.errors.NewerSchema`; :class:`~fsnap.errors.SealError`;
        :class:`~fsnap.errors.StoreError`.
        """
        with self._lock:
            self._absorb()
            state = self._journal.mirrored_state(self._task)
            self._at = Head(state.seq, state.digest)
            self._lost = ""
            return state

    def flush(self) -> int:
        """Put the local tail, in as many objects as it needs; the mirrored number after it.

        :class:`~fsnap.errors.Fenced` when somebody else wrote there first: the tail is
        in ``orphaned`` then.  When the store fails with another error the tail stays,
        and the next flush puts the same bytes again.
        """
        with self._lock:
            self._refuse_fenced()
            if self._journal.mirrored_head(self._task) != self._at:
                self._look_behind()
            while (batch := self._journal.keep_batch(self._task, self._nonce)) is not None:
                reach(CrashPoint.BATCH_KEPT)
                self._put(batch)
            return self._at.seq

    def check(self) -> None:
        """One listing: :class:`~fsnap.errors.Fenced` if somebody else has written a record since."""
        with self._lock:
            self._refuse_fenced()
            newer = next(_listed(self._store, self._task, self._at.seq + 1), None)
            if newer is not None or self._journal.mirrored_head(self._task) != self._at:
                self._look_behind()

    def _refuse_fenced(self) -> None:
        if self._lost:
            raise Fenced(self._lost)

    def _fence(self, first_seq: int) -> Fenced:
        self._lost = f"another node wrote record {first_seq} of {self._task}"
        return Fenced(self._lost)

    def _put(self, batch: Batch) -> None:
        key = journal_object(self._task, batch.first_seq)
        self._sent = batch
        try:
            self._store.create(key, batch.body)
        except ObjectExists:
            if self._store.get(key) != batch.body:
                self._look_behind()
                raise self._fence(batch.first_seq) from None
        reach(CrashPoint.BATCH_PUT)
        self._journal.accept(self._task, [batch], reason=LOST)
        self._at = Head(batch.last_seq, batch.digest)

    def _look_behind(self) -> None:
        """Absorb what is new; :class:`~fsnap.errors.Fenced` unless all of it is ours.

        What cannot be read fences too if somebody else wrote it: their copy may be live.
        """
        first_seq = self._at.seq + 1
        try:
            foreign = self._absorb()
        except (CorruptData, NewerSchema, SealError) as problem:
            if not self._is_superseded():
                raise
            self._journal.orphan_tail(self._task, f"record {first_seq} in the store can't be read here")
            raise self._fence(first_seq) from problem
        if foreign:
            raise self._fence(first_seq)
        self._at = self._journal.mirrored_head(self._task)

    def _is_superseded(self) -> bool:
        """Some object after ``_at`` is neither ours nor the damaged remains of ours."""
        ours = self._our_batches()
        for _, key in _listed(self._store, self._task, self._at.seq + 1):
            body = self._store.get(key)
            if not any(batch.nonce.encode() in body for batch in ours):
                return True
        return False

    def _absorb(self) -> bool:
        """Bring the local journal up to the store's; true if somebody else wrote there since ``_at``.

        Another process of this node may have done that before: then the local journal
        has moved, and the store shows nothing new.
        """
        at, known = self._at, self._journal.mirrored_head(self._task)
        ours = {batch.body for batch in self._our_batches()}
        moved = known.seq > at.seq and not self._is_sent(known)
        batches = self._after(known)
        anew = batches is None
        if batches is None:
            batches = _chained(self._task, NO_RECORDS, self._fetch(1))
            self._refuse_rollback(known.seq, batches)
        self._journal.accept(self._task, batches, anew=anew, reason=LOST)
        foreign = any(batch.first_seq > at.seq and batch.body not in ours for batch in batches)
        rewritten = at.seq > 0 and self._journal.digest_at(self._task, at.seq) != at.digest
        return foreign or rewritten or (moved and not anew)

    def _after(self, known: Head) -> list[Batch] | None:
        """What the store has after the mirrored prefix, or ``None`` if the prefix is not what the store has.

        Digests chain, so the prefix is the store's if its last object is.
        """
        last_object = self._journal.last_object(self._task)
        try:
            self._journal.mirrored_state(self._task)
        except CorruptData:
            return None
        fetched = self._fetch(max(1, last_object))
        if known == NO_RECORDS:
            return _chained(self._task, known, fetched)
        if not fetched:
            return None
        last = fetched[0][0]
        if (last.first_seq, last.last_seq, last.digest) != (last_object, *known):
            return None
        return _chained(self._task, known, fetched[1:])

    def _fetch(self, first_seq: int) -> list[_Fetched]:
        return _fetch(self._store, self._task, first_seq, self._readers, self._journal.keys)

    def _our_batches(self) -> list[Batch]:
        """Objects that this node may have put without knowing whether they won."""
        batches = [] if self._sent is None else [self._sent]
        try:
            kept = self._journal.kept_batch(self._task)
        except CorruptData:
            return batches
        return [*batches, kept] if kept else batches

    def _is_sent(self, head: Head) -> bool:
        return self._sent is not None and (self._sent.last_seq, self._sent.digest) == head

    def _refuse_rollback(self, known_seq: int, batches: Sequence[Batch]) -> None:
        end = batches[-1].last_seq if batches else 0
        if end < known_seq:
            raise StoreBehind(
                f"{self._store.url}: the journal of {self._task} ends at record {end},"
                f" and this node has seen it up to {known_seq}"
            )


def _listed(store: Store, task: str, first_seq: int) -> Iterator[tuple[int, str]]:
    """Number and key of every journal object from *first_seq* on; other names are passed over."""
    prefix = journal_prefix(task)
    for row in store.list(prefix, after=journal_object(task, first_seq - 1)):
        match = _NAME.fullmatch(row.key.removeprefix(prefix))
        if match:
            yield int(match[1]), row.key


def _fetch(store: Store, task: str, first_seq: int, readers: int, keys: KeyRing | None) -> list[_Fetched]:
    """Every object from *first_seq* on, digests checked, the chain not."""
    listed = list(_listed(store, task, first_seq))

    def one(row: tuple[int, str]) -> _Fetched:
        seq, key = row
        where = f"{store.url}: {key}"
        try:
            body = store.get(key)
        except ObjectMissing as missing:
            raise CorruptData(f"{where} is listed and cannot be read", hint=MIRROR_HINT) from missing
        batch, records = decode_batch(task, body, where, first_seq=seq, keys=keys)
        if records[0].seq != seq:
            raise CorruptData(f"{where} begins with record {records[0].seq}", hint=MIRROR_HINT)
        return batch, records, where

    if len(listed) < 2 or readers < 2:
        return [one(row) for row in listed]
    pool = ThreadPoolExecutor(min(readers, len(listed)), thread_name_prefix="journal")
    try:
        return list(pool.map(one, listed))
    finally:
        pool.shutdown(cancel_futures=True)


def _chained(task: str, base: Head, fetched: Sequence[_Fetched]) -> list[Batch]:
    """The batches of *fetched*, which must follow *base* and one another without a gap."""
    seq, digest = base
    for _, records, where in fetched:
        try:
            check_chain(records, task=task, prev=digest, first_seq=seq + 1)
        except CorruptData as problem:
            raise CorruptData(f"{where}: {problem}", hint=MIRROR_HINT) from problem
        seq, digest = records[-1].seq, records[-1].digest
    return [batch for batch, _, _ in fetched]
