"""How many calls may be in flight: as the user says, or found out.

It grows while more calls at once bring more answers a second. It shrinks only when calls are lost, and stays smaller
only if fewer are lost then: answers that take long are no sign of congestion, since their time follows their length.
Where a provider queues what it cannot do yet, as one's own server does, first bytes that come much later for answers of
the same length are such a sign, too.
"""

from __future__ import annotations

import math
from typing import Final

FIRST: Final = 16
"""Calls at once to begin with."""

MOST: Final = 1024
"""Calls at once that are never exceeded when nobody asked for more."""

LEAST: Final = 1

_FACTOR: Final = 2.0
_FACTOR_LATER: Final = 1.25
_WORTHWHILE: Final = 0.2
"""The part of what more calls could bring that they must bring: twice the calls, at least a fifth more answers."""

_LEAST_ANSWERS: Final = 50
_LEAST_SECONDS: Final = 0.5
_SATURATED: Final = 0.8
_CUT: Final = 0.7
_REST: Final = 30.0
_LONGEST_REST: Final = 480.0
_INFLATED: Final = 3.0

_LEAST_LOST: Final = 5
_IN_A_ROW: Final = 20
_TOO_MANY_LOST: Final = 0.1
_FEWER: Final = 0.4
_MORE_LOST: Final = 2.0
_MOST_LOST: Final = 0.5
"""Five calls lost, and a tenth of those of a round, cut it, as do twenty without as many answers. If the share
that is lost does not fall to four tenths by that, the cut was wrong and is undone, and twice that share is put up with
from then on; where more than half are lost it stays cut all the same."""


class Fixed:
    """As many as the user says."""

    peak: int | None = None
    """Nothing was found out."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def answered(self, now: float, in_flight: int, first_byte: float | None, tokens: int | None) -> None:
        pass

    def lost(self, sent_at: float, now: float) -> None:
        pass


class Adaptive:
    """Finds the limit, between 1 and ``most``. ``queues``: the provider lets calls wait that it cannot do yet."""

    def __init__(self, most: int = MOST, *, queues: bool = False) -> None:
        self.limit = max(min(FIRST, most), LEAST)
        self.peak: int | None = None
        """The most calls that were in flight at once; None before the first answer."""
        self._most = most
        self._queues = queues
        self._cut_at = -math.inf
        self._slow_start = True
        self._rest = _REST
        self._rest_until = -math.inf
        self._before: tuple[int, float] | None = None
        self._quickest = (math.inf, math.inf)
        self._since = 0.0
        self._answers = 0
        self._lost = 0
        self._lost_before: float | None = None
        self._uncut = 0
        self._loss_takes = 0.0
        self._tolerated = _TOO_MANY_LOST
        self._full = 0
        self._least = (math.inf, math.inf)

    def answered(self, now: float, in_flight: int, first_byte: float | None, tokens: int | None) -> None:
        """A call was answered, ``in_flight`` being under way with it."""
        self.peak = max(self.peak or 0, in_flight)
        if not self._answers:
            self._since = now
        self._answers += 1
        self._full += in_flight >= self.limit
        if first_byte is not None and tokens is not None:
            least, least_each = self._least
            self._least = min(least, first_byte), min(least_each, first_byte / (tokens + 1))
        if self._answers > max(_LEAST_ANSWERS, 2 * self.limit) and now - self._since >= _LEAST_SECONDS:
            self._look(now)

    def lost(self, sent_at: float, now: float) -> None:
        """A call was lost to overload: nothing came within its time."""
        if sent_at <= self._cut_at:  # others of the same moment say the same
            return
        self._lost += 1
        self._loss_takes = now - sent_at
        if self._lost >= max(_IN_A_ROW, self.limit) and self._lost > self._answers:
            self._too_many_lost(now)

    def _too_many_lost(self, now: float) -> None:
        self._lost_before = self._lost / (self._answers + self._lost)
        self._uncut = max(self._uncut, self.limit)
        self._cut(now)

    def _judge_cut(self, before: float) -> None:
        """A round after it was cut for ``before``, the share that was lost."""
        share = self._lost / (self._answers + self._lost)
        self._lost_before = None
        if _FEWER * before < share < _MOST_LOST:
            # As many as before it was cut: that is how many get lost here whatever we do.
            self._tolerated = _MORE_LOST * max(share, before)
            self.limit = max(self.limit, self._uncut)
        self._uncut = 0

    def _look(self, now: float) -> None:
        """A round is over: was the last step worth it, and is another one wanted?"""
        if self._lost_before is not None:
            # Calls that were made after it was cut are lost as late as those before it.
            if self._since >= self._cut_at + self._loss_takes:
                self._judge_cut(self._lost_before)
            self._begin(now)
            return
        if self._lost >= max(_LEAST_LOST, self._tolerated * (self._answers + self._lost)):
            self._too_many_lost(now)
            return
        rate = (self._answers - 1) / (now - self._since)
        saturated = self._full >= _SATURATED * self._answers
        if self._queues and self._is_inflated():
            self._cut(now)
        elif saturated:
            self._climb(rate, now)
        self._begin(now)

    def _climb(self, rate: float, now: float) -> None:
        if self._before is not None:
            limit, earlier = self._before
            self._before = None
            if rate < earlier * (1 + _WORTHWHILE * (self.limit / limit - 1)):
                self.limit = limit
                self._slow_start = False
                self._rest_until = now + self._rest
                self._rest = min(2 * self._rest, _LONGEST_REST)
                return
            self._rest = _REST
        if now < self._rest_until or self.limit >= self._most:
            return
        self._before = self.limit, rate
        factor = _FACTOR if self._slow_start else _FACTOR_LATER
        self.limit = min(math.ceil(self.limit * factor), self._most)

    def _is_inflated(self) -> bool:
        """Whether even the quickest first byte of the round came late, and not because answers are longer."""
        quickest, quickest_each = self._quickest
        least, least_each = self._least
        if least == math.inf:
            return False
        self._quickest = min(quickest, least), min(quickest_each, least_each)
        return least > _INFLATED * quickest and least_each > _INFLATED * quickest_each

    def _cut(self, now: float) -> None:
        self._cut_at = now
        self._slow_start = False
        self._before = None
        self.limit = max(math.floor(self.limit * _CUT), LEAST)
        self._rest_until = now + _REST
        self._begin(now)

    def _begin(self, now: float) -> None:
        self._since = now
        self._answers = 0
        self._lost = 0
        self._full = 0
        self._least = (math.inf, math.inf)


Concurrency = Fixed | Adaptive
