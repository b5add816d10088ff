"""What a provider waits for: why no more calls are made just now, and what that was for most of the time."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import msgspec

Reason: TypeAlias = Literal["rest", "limit", "cap", "concurrency", "retries", "input", "budget"]
"""``rest``: the provider is left alone, as it asked or since it fails nearly every call. ``limit``: a limit on requests
or tokens, told or found. ``cap``: as many calls are in flight as it was found to take. ``concurrency``: as many as the
job allows, or as were found to be of use. ``retries``: all that is left waits for its next attempt. ``input``: nothing
is there to be sent. ``budget``: money is set aside for calls under way."""

Certainty: TypeAlias = Literal["told", "sure", "likely"]
"""``told`` by the job or the provider; found out, and found again (``sure``), or only once (``likely``)."""


class Binding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``name`` and ``value`` are those of the limit, a minute, or of the cap. ``share`` is the part of the time that
    it was the reason for, and is left out of what holds just now; ``seconds`` is how long it still does, where
    that is known."""

    what: Reason
    name: str | None = None
    value: float | None = None
    certainty: Certainty | None = None
    seconds: float | None = None
    share: float | None = None


class Waits:
    """How long a lane waited, by reason. One waiter at a time."""

    __slots__ = ("_since", "_totals", "_until", "present", "started")

    def __init__(self) -> None:
        self.present: Reason | None = None
        """Why no call is made just now; None while calls are."""
        self.started: float | None = None
        self._since = 0.0
        self._until: float | None = None
        self._totals: dict[Reason, float] = {}

    def begin(self, reason: Reason, until: float | None, now: float) -> None:
        self.present, self._since, self._until = reason, now, until

    def end(self, now: float) -> None:
        if self.present is not None:
            self._totals[self.present] = self._totals.get(self.present, 0.0) + now - self._since
            self.present = None

    def seconds_left(self, now: float) -> float | None:
        """Until the present wait is over; None when that depends on others."""
        return None if self._until in (None, math.inf) else max(self._until - now, 0.0)

    def mostly(self, now: float) -> tuple[Reason, float] | None:
        """What held calls up for the longest, and its share of the time since ``started``; None before that. While
        nobody waits, all that may make calls are at it, so that their number is what bounds them."""
        elapsed = 0.0 if self.started is None else now - self.started
        if elapsed <= 0:
            return None
        totals = dict(self._totals)
        busy = max(elapsed - sum(totals.values()), 0.0)
        totals["concurrency"] = totals.get("concurrency", 0.0) + busy
        reason, seconds = max(totals.items(), key=lambda item: item[1])
        return reason, min(seconds / elapsed, 1.0)
