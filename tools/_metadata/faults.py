"""Failures that the service can be told to have.

It may be slow, answer with an error, or cut an answer in the middle; always, for
the next N requests, or for a fraction of them.  It never lies: what it answers with
200 and whole is true.
"""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass

ANSWERS = (400, 401, 403, 404, 429, 500, 502, 503)


class BadFault(ValueError):
    """A fault that was asked for in words that make no sense."""


@dataclass(slots=True, kw_only=True)
class Rule:
    """One failure: exactly one of ``slow_s``, ``answer`` and ``cut`` is set."""

    prefix: str
    slow_s: float = 0.0
    answer: int = 0
    cut: bool = False
    fraction: float = 1.0
    left: int | None = None
    """Requests that it still concerns; ``None``: no end."""

    def __str__(self) -> str:
        what = f"slow {self.slow_s:g} s" if self.slow_s else f"answer {self.answer}" if self.answer else "cut"
        when = f"{self.left} more" if self.left is not None else f"{self.fraction:.0%}"
        return f"{what}, {when}" + (f", below {self.prefix}" if self.prefix != "/" else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What happens to one request."""

    slow_s: float = 0.0
    answer: int = 0
    cut: bool = False


class Faults:
    """The rules in force; any number of requests may ask at the same time."""

    def __init__(self, seed: int | None = None) -> None:
        self._rules: list[Rule] = []
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    def add(self, rules: list[Rule]) -> None:
        with self._lock:
            self._rules.extend(rules)

    def clear(self) -> None:
        with self._lock:
            self._rules.clear()

    def describe(self) -> list[str]:
        with self._lock:
            return [str(rule) for rule in self._rules if rule.left != 0]

    def draw(self, path: str) -> Fate:
        """Decide what happens to a request for *path*."""
        slow_s, answer, cut = 0.0, 0, False
        with self._lock:
            for rule in self._rules:
                if rule.left == 0 or not path.startswith(rule.prefix):
                    continue
                if rule.fraction < 1.0 and self._random.random() >= rule.fraction:
                    continue
                if rule.left is not None:
                    rule.left -= 1
                slow_s += rule.slow_s
                answer = answer or rule.answer
                cut = cut or rule.cut
        return Fate(slow_s=slow_s, answer=answer, cut=cut)


def parse_rules(*, slow: list[str], answer: list[str], cut: list[str], only: str) -> list[Rule]:
    """Rules from ``VALUE[:WHEN]``; WHEN is a count (``3``) or a fraction (``0.3``), else always."""
    rules = []
    for text in slow:
        value, fraction, left = _split(text)
        rules.append(Rule(prefix=only, slow_s=_seconds(value, text), fraction=fraction, left=left))
    for text in answer:
        value, fraction, left = _split(text)
        if value not in {str(code) for code in ANSWERS}:
            raise BadFault(f"{text!r}: an answer is one of {', '.join(map(str, ANSWERS))}")
        rules.append(Rule(prefix=only, answer=int(value), fraction=fraction, left=left))
    for text in cut:
        _, fraction, left = _split(f"cut:{text}" if text else "cut")
        rules.append(Rule(prefix=only, cut=True, fraction=fraction, left=left))
    return rules


def _split(text: str) -> tuple[str, float, int | None]:
    value, colon, when = text.partition(":")
    if not colon:
        return value, 1.0, None
    if when.isdecimal():
        return value, 1.0, int(when)
    try:
        fraction = float(when)
    except ValueError:
        fraction = -1.0
    if not 0.0 <= fraction <= 1.0:
        raise BadFault(f"{text!r}: after the colon comes a count such as 3 or a fraction such as 0.3")
    return value, fraction, None


def _seconds(value: str, text: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0.0 < seconds <= 3600.0:
        raise BadFault(f"{text!r}: a delay is a number of seconds above 0, 3600 at most")
    return seconds
