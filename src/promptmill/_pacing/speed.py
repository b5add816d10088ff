"""How fast to go: cut when the provider refuses, held, and tried again; never above a limit that is known.

Between two refusals a full bucket of the provider's has emptied twice, so what it accepted in between, by the time that
passed, is its rate, whatever kind of bucket it is. The first refusal has no other before it, and takes a fixed cut.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final, NamedTuple

TARGET_UTILISATION: Final = 0.99
"""The share of a limit that is used: 1 % is left for the provider's own rounding."""

BELOW: Final = 0.985
"""The share of a measured rate that is used."""

_CUT: Final = 0.7
_CUT_UNKNOWN: Final = 0.5
_LEAST_CUT: Final = 0.97
_DEEPEST_CUT: Final = 0.3
_FLOOR: Final = 0.05
"""Of the highest rate there was. A rate near nothing takes too long to find out that the trouble is over."""

_SLOWEST: Final = 1 / 60

_FIRST_HOLD: Final = 0.5
_DOUBLED_IN: Final = 1.0
_MOST_DOUBLINGS: Final = 30.0
"""After a first refusal where no limit is known, the rate doubles every second until a second one says what it is."""

_HOLD: Final = 10.0
_LONGEST_HOLD: Final = 120.0
"""Seconds without growth after a cut. Where no limit is known it doubles each time the same rate was measured: the
limit is found, and looking for it again costs refusals."""

_SAME: Final = 0.05
_GROWTH: Final = 0.03
_GROWTH_LATER: Final = 0.10
_LATER: Final = 10.0
"""Growth a second, at first and after so many seconds of it."""

_LEAST_INTERVAL: Final = 1.0
_LEAST_UNITS: Final = 10.0
_MINUTE: Final = 60.0
_WHOLE: Final = 50.0
_KEPT: Final = 256
_MUCH: Final = 0.25
_AT_THE_EDGE: Final = 1
_AS_GOOD_AS_FULL: Final = 0.95
"""Up to so many refusals a minute, and one more, are those of an edge, when so much of the limit was had."""

_FORGET: Final = 300.0
"""Seconds after which an earlier refusal says nothing about the present."""


class _Refusal(NamedTuple):
    """When, what had been accepted in all until then, and how long nothing was sent thereafter."""

    at: float
    total: float
    rest: float


class Speed:
    """The rate of one limit, in units a second. ``ceiling`` is the limit when it is known."""

    __slots__ = ("_base", "_grown", "_hold", "_measured", "_peak", "_refusals", "ceiling")

    def __init__(self, rate: float, ceiling: float | None) -> None:
        self.ceiling = ceiling
        self._base = max(rate, _SLOWEST) if ceiling is None else min(rate, ceiling)
        self._peak = self._base
        self._grown = 0.0
        self._hold = _FIRST_HOLD
        self._measured: float | None = None
        self._refusals: deque[_Refusal] = deque(maxlen=_KEPT)

    @property
    def measured(self) -> float | None:
        """The rate the provider was found to accept; None when that is not known."""
        return self._measured

    @property
    def at_ceiling(self) -> bool:
        return self.ceiling is not None and self._base >= self.ceiling

    def rate(self) -> float:
        growing = self._grown - self._hold
        rate = self._base
        if growing > 0 and self.ceiling is None and self._measured is None:
            rate *= 2.0 ** min(growing / _DOUBLED_IN, _MOST_DOUBLINGS)
        elif growing > 0 and not self.at_ceiling:
            rate *= math.exp(_GROWTH * min(growing, _LATER) + _GROWTH_LATER * max(growing - _LATER, 0.0))
        return rate if self.ceiling is None else min(rate, self.ceiling)

    def used(self, seconds: float) -> None:
        """For so long the rate was what requests waited for."""
        self._grown += seconds
        if self.ceiling is not None and self.rate() >= self.ceiling:
            self._base = self.ceiling

    def set_ceiling(self, ceiling: float) -> None:
        full = self.at_ceiling
        self.ceiling = ceiling
        self._base = ceiling if full else min(self._base, ceiling)
        self._peak = max(self._base, min(self._peak, ceiling))

    def refused(self, total: float, lately: float | None, rest: float, now: float) -> None:
        """The provider refuses, and had accepted ``total`` units in all until then, ``lately`` so many a second of the
        last minute. For ``rest`` seconds nothing is sent."""
        rate = self.rate()
        self._peak = max(self._peak, rate)
        measured = self._measure(total, now)
        others = sum(now - one.at < _MINUTE for one in self._refusals)
        self._refusals.append(_Refusal(now, total, rest))
        if measured is not None:
            self._hold = self._next_hold(measured)
            self._measured = measured
            rate = min(max(BELOW * measured, _DEEPEST_CUT * rate), _LEAST_CUT * rate)
        elif others <= _AT_THE_EDGE and self.ceiling is not None and (lately or 0.0) >= _AS_GOOD_AS_FULL * self.ceiling:
            return  # all of the limit was had: this is its edge, and nobody else's share
        else:
            rate *= _CUT_UNKNOWN if self.ceiling is None else _CUT
            self._hold = _FIRST_HOLD if self.ceiling is None else _HOLD
        self._base = max(rate, _FLOOR * self._peak, _SLOWEST)
        self._grown = 0.0

    def _measure(self, total: float, now: float) -> float | None:
        if not self._refusals or now - self._refusals[-1].at > _FORGET:
            return None
        last = self._refusals[-1]
        seconds, units = now - last.at, total - last.total
        if seconds < _LEAST_INTERVAL or (units < _LEAST_UNITS and seconds < _HOLD):
            return None
        measured = units / seconds
        if self.ceiling is None and last.rest > _MUCH * seconds:
            # Where a whole minute's worth may go at once and nothing then, only a whole minute says how much that is.
            whole = next((one for one in reversed(self._refusals) if now - one.at >= _WHOLE), None)
            if whole is not None and now - whole.at <= 2 * _MINUTE:
                measured = max(measured, (total - whole.total) / (now - whole.at))
        return max(measured, 0.0)

    def _next_hold(self, measured: float) -> float:
        if self.ceiling is not None or self._measured is None or not measured:
            return _HOLD
        same = abs(measured / self._measured - 1) <= _SAME if self._measured else False
        return min(2 * self._hold, _LONGEST_HOLD) if same else _HOLD
