"""``--provider auto``: ask which cloud this is, and be ``none`` off it.

All services are asked at the same time and together have two seconds, since a task
waits for it.  Each is known by its own protocol, not by the address, which the
clouds share; so the first that answers is the one.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping

from loguru import logger

from fsnap.clock import Clock
from fsnap.notices.aws import AwsNotice
from fsnap.notices.base import NoticeSource
from fsnap.notices.imds import HOP_LIMIT_HINT, ImdsClient, MetadataError, endpoint_from, metadata_disabled
from fsnap.notices.none import NoNotice

PROBE_LIMIT_S = 2.0
RETRY_S = 0.1
SPARE_S = 0.2
"""What a probe leaves of the limit, so that its verdict still counts."""

Probe = Callable[[Clock, Mapping[str, str]], NoticeSource | None]


def open_auto(*, clock: Clock, env: Mapping[str, str]) -> NoticeSource:
    """The notice source of this machine's cloud, or :class:`~fsnap.notices.none.NoNotice`.

    Raises :class:`~fsnap.errors.UsageError` for variables that make no sense.
    """
    endpoint_from(env)
    answers: queue.SimpleQueue[NoticeSource | None] = queue.SimpleQueue()

    def ask(probe: Probe) -> None:
        answers.put(probe(clock, env))

    for probe in PROBES:
        threading.Thread(target=ask, args=(probe,), name="notice-probe", daemon=True).start()
    until_s = clock.mono_s() + PROBE_LIMIT_S
    for _ in PROBES:
        try:
            source = answers.get(timeout=max(0.0, until_s - clock.mono_s()))
        except queue.Empty:
            break
        if source is not None:
            return source
    logger.info("no cloud's metadata service answers here: a notice can come by SIGTERM alone")
    return NoNotice()


def probe_aws(clock: Clock, env: Mapping[str, str]) -> NoticeSource | None:
    """The EC2 source if this is EC2, or may be: a service that is there and slow or busy is polled on."""
    if metadata_disabled(env):
        return None
    until_s = clock.mono_s() + PROBE_LIMIT_S - SPARE_S
    client = ImdsClient(endpoint_from(env), clock)
    while True:
        client.answer_timeout_s = max(RETRY_S, until_s - clock.mono_s())
        try:
            client.token()
            return AwsNotice(client, clock)
        except MetadataError as error:
            if error.kind == "denied":
                logger.warning("{}, so no notice can be seen. {}", error, error.hint)
            if error.kind in ("unreachable", "foreign", "denied"):
                return None
            if clock.mono_s() + RETRY_S >= until_s:
                hint = HOP_LIMIT_HINT if error.kind == "silent" else "It is asked on."
                logger.warning("{}. {}", error, hint)
                return AwsNotice(client, clock)
        clock.sleep(RETRY_S)


PROBES: tuple[Probe, ...] = (probe_aws,)
