"""``--provider aws``: spot interruption notices and rebalance recommendations of EC2.

AWS advises to ask every 5 s.  Here it is every second: five seconds are a
twenty-fifth of the window, the service allows a thousand packets a second, and the
ECS agent asks each second too.  Whatever fails, the next question comes within
about 5 s, since a notice that is not seen costs the work.

Source: EC2 user guide, "Spot Instance interruption notices" and "EC2 instance
rebalance recommendations"; both are best effort.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from loguru import logger

from fsnap.clock import Clock
from fsnap.core.events import Notice, NoticeCancelled
from fsnap.errors import UnfitMachine
from fsnap.notices.base import Post
from fsnap.notices.imds import (
    ANSWER_TIMEOUT_S,
    HOP_LIMIT_HINT,
    Answer,
    ImdsClient,
    MetadataError,
    endpoint_from,
    fetch_fact,
    metadata_disabled,
)
from fsnap.notices.payload import (
    DEFAULT_WINDOW_S,
    INTERRUPTIONS,
    InstanceAction,
    notice_id,
    parse_instance_action,
    window_ms,
)
from fsnap.notices.server_clock import ServerClock

ACTION_PATH = "/latest/meta-data/spot/instance-action"
REBALANCE_PATH = "/latest/meta-data/events/recommendations/rebalance"
POLL_S = 1.0
EARLIEST = 0.9
"""The next question comes after between this part of the time and all of it.  At a steady beat every ``Date``
would be cut at the same place and tell nothing new about the server's clock; nor should all ask at once."""
REBALANCE_POLL_S = 10.0
MAX_GAP_S = 5.0
"""From the start of a question to the start of the next, where the service answers at all."""
SLOW_ANSWER_TIMEOUT_S = 5.0
"""How long to wait for an answer once one did not come within the ordinary time."""
CLEAR_AFTER = 2
"""404s in a row that take a notice back: one alone may be a service that has just restarted."""
UNREADABLE_AFTER = 3
"""Answers in a row that say "notice" and make no sense, until they count as one."""


@dataclass(slots=True)
class _Watched:
    """One path, and the notices from it that stand."""

    path: str
    live_ids: list[str] = field(default_factory=list)
    clear: int = 0
    unreadable: int = 0


class AwsNotice:
    """Polls one metadata service in a thread of its own."""

    def __init__(self, client: ImdsClient, clock: Clock, *, seed: int | None = None) -> None:
        self._client = client
        self._clock = clock
        self._instance_id: str | None = None
        self._random = random.Random(seed)
        self._server_clock = ServerClock()
        self._action = _Watched(path=ACTION_PATH)
        self._rebalance = _Watched(path=REBALANCE_PATH)
        self._rebalance_due_s = clock.mono_s()
        self._failures = 0
        self._said: set[str] = set()
        self._post: Post | None = None
        self._lock = threading.RLock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def name(self) -> str:
        return "aws"

    def start(self, post: Post) -> None:
        self._post = post
        self._thread = threading.Thread(target=self._run, name="notice-aws", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        with self._lock:
            self._stopping.set()
        thread = self._thread
        while thread is not None and thread is not threading.current_thread() and thread.is_alive():
            self._client.abort()
            thread.join(timeout=0.05)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._stopping.wait(self.poll())

    def poll(self) -> float:
        """Ask once, post what is new; returns how many seconds to wait before the next time."""
        began_s = self._clock.mono_s()
        try:
            self._ask_action()
        except MetadataError as error:
            self._note_failure(error)
            return self._backoff_s(error, self._clock.mono_s() - began_s)
        if "failing" in self._said:
            self._said.discard("failing")
            logger.info("the metadata service at {} answers again", self._client.endpoint.url)
        self._failures = 0
        if self._clock.mono_s() - began_s < ANSWER_TIMEOUT_S / 2:
            self._client.answer_timeout_s = ANSWER_TIMEOUT_S
        self._learn_instance_id()
        self._ask_rebalance()
        took_s = self._clock.mono_s() - began_s
        return max(0.0, POLL_S * self._random.uniform(EARLIEST, 1.0) - took_s)

    def _backoff_s(self, error: MetadataError, took_s: float) -> float:
        if error.kind == "denied":
            return max(0.0, MAX_GAP_S - took_s)
        if error.kind == "silent":
            self._client.answer_timeout_s = SLOW_ANSWER_TIMEOUT_S
        doubled_s = min(MAX_GAP_S, POLL_S * 2.0 ** min(self._failures - 1, 10))
        wait_s = doubled_s * self._random.uniform(0.5, 1.0)
        return max(0.0, min(wait_s, MAX_GAP_S - took_s))

    def _note_failure(self, error: MetadataError) -> None:
        self._failures += 1
        if error.kind == "denied":
            self._say_once("denied", f"{error}. No notice can be seen. {error.hint}")
        elif self._failures == 3:
            hint = f" {HOP_LIMIT_HINT}" if error.kind == "silent" and not self._client.had_answer else ""
            self._say_once("failing", f"{error}, three times in a row; asking on.{hint}")

    def _say_once(self, what: str, message: str) -> None:
        if what not in self._said:
            self._said.add(what)
            logger.warning("{}", message)

    def _ask_action(self) -> None:
        answer = self._client.get(ACTION_PATH)
        if answer.date is not None:
            self._server_clock.observe(answer.date, answer.sent_mono_s, answer.received_mono_s)
        if answer.status == 404:
            self._clear(self._action, answer)
            return
        self._action.clear = 0
        try:
            action = parse_instance_action(answer.body)
        except ValueError as error:
            self._unreadable(answer, error)
            return
        self._action.unreadable = 0
        self._interrupt(action, answer)

    def _identity(self, *parts: str | bytes) -> str:
        """A notice's id; the instance is part of it: two nodes' notices may read the same."""
        self._learn_instance_id()
        if self._instance_id is None:
            self._instance_id = ""  # kept: an id that changes later would make one notice two
        return notice_id("aws", self._instance_id, *parts)

    def _learn_instance_id(self) -> None:
        if self._instance_id is None:
            self._instance_id = fetch_fact(self._client, "instance-id")

    def _interrupt(self, action: InstanceAction, answer: Answer) -> None:
        identity = self._identity(action.action, action.time_text or "")
        if identity in self._action.live_ids:
            return
        kind = action.action
        if kind not in INTERRUPTIONS:
            self._say_once(kind, f"the metadata service says {kind!r}: taken for terminate")
            kind = "terminate"
        left_s = self._left_s(action, answer)
        self._announce(self._action, identity, kind, left_s, action.time_text, answer)

    def _left_s(self, action: InstanceAction, answer: Answer) -> float:
        """Seconds from the question to the deadline, by the server's clock."""
        if action.time is None:
            return 0.0
        deadline_mono_s = self._server_clock.mono_s_of(action.time)
        if deadline_mono_s is not None:
            return deadline_mono_s - answer.sent_mono_s
        self._say_once(
            "no-date", "the metadata service sends no Date: the deadline is set against the local clock"
        )
        passed_s = self._clock.mono_s() - answer.sent_mono_s
        return (action.time - self._clock.wall()).total_seconds() + passed_s

    def _unreadable(self, answer: Answer, error: ValueError) -> None:
        """An answer that says "notice" and can't be read: ask again; if it stays so, it counts as one."""
        self._action.unreadable += 1
        if self._action.unreadable < UNREADABLE_AFTER or self._action.live_ids:
            return
        self._say_once(
            "unreadable",
            f"the metadata service gives a notice that can't be read ({error}): "
            f"taken for one of {DEFAULT_WINDOW_S:.0f} s",
        )
        identity = self._identity("unreadable")
        self._announce(self._action, identity, "terminate", DEFAULT_WINDOW_S, None, answer)

    def _ask_rebalance(self) -> None:
        """Ask for a recommendation when it is time; to fail here must not slow the question that matters."""
        if self._clock.mono_s() < self._rebalance_due_s:
            return
        self._rebalance_due_s = self._clock.mono_s() + REBALANCE_POLL_S
        try:
            answer = self._client.get(REBALANCE_PATH)
        except MetadataError:
            return
        if answer.status == 404:
            self._clear(self._rebalance, answer)
            return
        self._rebalance.clear = 0
        identity = self._identity("rebalance", answer.body.strip())
        if identity not in self._rebalance.live_ids:
            self._announce(self._rebalance, identity, "rebalance", 0.0, None, answer)

    def _announce(
        self,
        watched: _Watched,
        identity: str,
        action: str,
        left_s: float,
        deadline: str | None,
        answer: Answer,
    ) -> None:
        watched.live_ids.append(identity)
        notice = Notice(
            notice_id=identity,
            provider="aws",
            window_ms=window_ms(left_s),
            action=action,
            deadline_at=deadline,
        )
        self._emit(notice, answer.sent_mono_s)

    def _clear(self, watched: _Watched, answer: Answer) -> None:
        watched.clear += 1
        if watched.clear < CLEAR_AFTER:
            return
        watched.unreadable = 0
        for identity in watched.live_ids:
            self._emit(NoticeCancelled(notice_id=identity), answer.received_mono_s)
        watched.live_ids.clear()

    def _emit(self, event: Notice | NoticeCancelled, seen_mono_s: float) -> None:
        with self._lock:
            if not self._stopping.is_set() and self._post is not None:
                self._post(event, seen_mono_s)


def open_aws(*, clock: Clock, env: Mapping[str, str]) -> AwsNotice:
    """A source for this machine, which must have the service; takes some seconds at most.

    Raises :class:`~fsnap.errors.UnfitMachine` where none listens, it is turned off, or
    it never answers; :class:`~fsnap.errors.UsageError` for variables that make no sense.
    A service that is there and only busy is polled on.
    """
    if metadata_disabled(env):
        raise UnfitMachine(
            "--provider aws: AWS_EC2_METADATA_DISABLED forbids to ask for notices",
            hint="Unset it, or say --provider none.",
        )
    client = ImdsClient(endpoint_from(env), clock)
    for last in (False, True):
        try:
            client.token()
            break
        except MetadataError as error:
            lacking = error.kind in ("denied", "foreign")
            if lacking or (last and error.kind in ("silent", "unreachable")):
                hint = HOP_LIMIT_HINT if error.kind == "silent" else error.hint
                hint = hint or "Off EC2 say --provider auto or none."
                raise UnfitMachine(f"--provider aws: {error}", hint=hint) from error
            client.answer_timeout_s = SLOW_ANSWER_TIMEOUT_S
    return AwsNotice(client, clock)
