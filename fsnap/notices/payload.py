"""What a notice says, read from bytes: no file, no network, no clock in here.

Whatever arrives is somebody else's text.  It is never trusted to be well formed,
and a notice that cannot be understood still counts as one: to lose a notice costs
the work since the last checkpoint, to act on a false one costs a checkpoint.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime

from fsnap.clock import parse_rfc3339

DEFAULT_WINDOW_S = 120.0
"""The window of a notice that does not tell its own: AWS's two minutes."""

MAX_WINDOW_S = 30 * 86400.0
"""A longer window is taken for nonsense; it also keeps milliseconds within 64 bits."""

MAX_CONTENT_BYTES = 64 * 1024

INTERRUPTIONS = ("terminate", "stop", "hibernate")
"""What AWS does to a spot instance that it takes back (EC2 user guide, spot interruption behaviour)."""


def notice_id(provider: str, *parts: str | bytes | int) -> str:
    """A stable id: equal parts give the same one, in any process and on any node."""
    digest = hashlib.sha256()
    for part in (provider, *parts):
        data = part if isinstance(part, bytes) else str(part).encode()
        digest.update(len(data).to_bytes(8, "big") + data)
    return f"{provider}-{digest.hexdigest()[:24]}"


def window_ms(seconds: float) -> int:
    """*seconds* left as whole milliseconds; what is over counts as 0."""
    return max(0, int(seconds * 1000))


@dataclass(frozen=True, slots=True, kw_only=True)
class FileNoticeText:
    """What a notice file asks for; both unset: the default window."""

    window_s: float | None = None
    deadline: datetime | None = None
    deadline_text: str | None = None
    problem: str | None = None
    """Why the content was not understood, in a few words."""

    def left_s(self, wall: datetime) -> float:
        """Seconds left at the moment *wall*; the shorter one where the file gives two."""
        given = [] if self.window_s is None else [self.window_s]
        if self.deadline is not None:
            given.append((self.deadline - wall).total_seconds())
        return min(given, default=DEFAULT_WINDOW_S)


def parse_file_notice(content: bytes) -> FileNoticeText:
    """Read a notice file: nothing, ``{"window_s": 30}`` or ``{"deadline": "2026-11-21T22:11:52Z"}``.

    Never raises: content that makes no sense comes back with ``problem`` set.
    """
    if not content.strip():
        return FileNoticeText()
    if len(content) > MAX_CONTENT_BYTES:
        return FileNoticeText(problem=f"more than {MAX_CONTENT_BYTES} bytes")
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError):
        return FileNoticeText(problem="not JSON")
    if not isinstance(fields, dict):
        return FileNoticeText(problem="not a JSON object")
    if "window_s" not in fields and "deadline" not in fields:
        return FileNoticeText(problem="neither window_s nor deadline in it")
    try:
        window = _window(fields["window_s"]) if "window_s" in fields else None
        text, deadline = _deadline(fields["deadline"]) if "deadline" in fields else (None, None)
    except ValueError as error:
        return FileNoticeText(problem=str(error))
    return FileNoticeText(window_s=window, deadline=deadline, deadline_text=text)


def _window(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("window_s is not a number")
    if not -MAX_WINDOW_S <= value <= MAX_WINDOW_S:  # NaN is not, and an integer may be past any float
        raise ValueError(f"window_s is not below {MAX_WINDOW_S:.0f}")
    return float(value)


def _deadline(value: object) -> tuple[str, datetime]:
    if not isinstance(value, str):
        raise ValueError("deadline is not a string")
    try:
        return value, parse_rfc3339(value)
    except (ValueError, OverflowError) as error:
        raise ValueError("deadline is not an RFC 3339 time with a zone") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceAction:
    """The body of ``spot/instance-action``."""

    action: str
    time: datetime | None
    time_text: str | None


def parse_instance_action(body: bytes) -> InstanceAction:
    """Read ``{"action": "terminate", "time": "2017-09-18T08:22:00Z"}``.

    ``ValueError`` when it is not that: a cut answer, say, that the next poll gets
    whole.  An action that AWS has not got yet is kept as it is.  ``hibernate`` may
    come without a usable time, since it begins at once.
    Source: EC2 user guide, "Spot Instance interruption notices".
    """
    try:
        fields = json.loads(body)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(fields, dict) or not isinstance(fields.get("action"), str):
        raise ValueError("no action in it")
    action = str(fields["action"])
    if action == "hibernate" and not isinstance(fields.get("time"), str):
        return InstanceAction(action=action, time=None, time_text=None)
    text, moment = _deadline(fields.get("time"))
    return InstanceAction(action=action, time=moment, time_text=text)
