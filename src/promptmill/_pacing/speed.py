"""How fast to go under one limit: cut on trial when refusals are too frequent, held, and tried again; never above a
limit that is known.

What the provider took while it was asked says how fast it lets us go: first over the stretch of calls with refusals,
and more exactly between two of them, since a full bucket of the provider's has emptied twice then, whatever kind of
bucket it is. A rate that has grown by a quarter over what was found, without refusals, was no limit, and is forgotten.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final, NamedTuple

TARGET_UTILISATION: Final = 0.99
"""The share of a limit that is used: 1 % is left for the provider's own rounding."""

BELOW: Final = 0.985
"""The share of a measured rate that is used."""

_LEAST_CUT: Final = 0.97
_DEEPEST_CUT: Final = 0.2
_DEEPEST_OF_ALL: Final = 0.04
"""Of the rate before one cut, and before all that belong together: from there it takes seconds to grow again."""

_PART_OF_BEST: Final = 0.25
_SLOWEST: Final = 1 / 60

_FIRST_HOLD: Final = 1.0
_FIRST_GROWTH: Final = 0.4
"""After a first cut where no limit is known the rate grows by a quarter a second: it was measured over a few calls."""

_HOLD: Final = 10.0
_LONGEST_HOLD: Final = 120.0
"""Seconds without growth after a cut. It doubles each time the same rate was measured: the limit is found, and looking
for it again costs refusals."""

_SAME: Final = 0.05
_SAME_AT_FIRST: Final = 0.25
_GROWTH: Final = 0.03
_GROWTH_LATER: Final = 0.10
_LATER: Final = 10.0
"""Growth a second, at first and after so many seconds of it."""

_WORTH_A_JUMP: Final = 1.5
_FIRST_JUMP: Final = 1.0
_JUMP_AGAIN: Final = 1.5
_MOST_JUMPS: Final = 12
_STEPPED_DOWN: Final = 0.5
_JUMPED_LONG_ENOUGH: Final = 0.4
_JUMPED_CALLS: Final = 20.0
_SOON: Final = 20.0
_CALLS_SOON: Final = 20.0
_CALLS_LATER: Final = 300.0
_SAVED_UP: Final = 0.03
_JUMP: Final = 2.0
_DECAY: Final = 0.9
"""A rate that was accepted once and is so many times the present one is tried again after a second, and then each time
half as long has passed again since the cut: a limit that steps down for a while steps up again. It costs some four
refused calls, and is over after half a second without trouble."""

_OUTGROWN: Final = 1.25
_LEAST_INTERVAL: Final = 1.0
_LEAST_UNITS: Final = 10.0
_KEPT: Final = 256
_LEAST_WINDOW: Final = 5.0
_MUCH: Final = 0.25

_FORGET: Final = 300.0
"""Seconds after which an earlier refusal says nothing about the present."""


class Cut(NamedTuple):
    """When, what had been accepted in all until then, and for how long nothing had been sent."""

    at: float
    total: float
    rested: float


class _Before(NamedTuple):
    """What a cut is undone to."""

    base: float
    grown: float
    hold: float
    measured: float | None
    times: int
    cuts: int


class Speed:
    """The rate of one limit, in units a second. ``ceiling`` is the limit when it is known."""

    __slots__ = (
        "_base",
        "_before",
        "_best",
        "_calls",
        "_cuts",
        "_found",
        "_from",
        "_grown",
        "_hold",
        "_jump_at",
        "_jumped",
        "_jumped_from",
        "_jumps",
        "_lowered_for",
        "_measured",
        "_shut",
        "ceiling",
        "jumping",
        "times",
    )

    def __init__(self, rate: float, ceiling: float | None) -> None:
        self.ceiling = ceiling
        self._base = max(rate, _SLOWEST) if ceiling is None else min(rate, ceiling)
        self._grown = 0.0
        self._hold = _FIRST_HOLD
        self._measured: float | None = None
        self._found = 0.0
        self._from = 0.0
        self._shut: tuple[float, float] | None = None
        self.jumping = False
        """Whether a much higher rate that was accepted once is being tried."""
        self._best = 0.0
        self._jump_at = _FIRST_JUMP
        self._jumps = 0
        self._lowered_for = 0.0
        self._calls = 0.0
        self._jumped_from: tuple[float, float, float, float | None, int] | None = None
        self._jumped = 0.0
        self.times = 0
        """How often about the same rate was measured."""
        self._cuts: deque[Cut] = deque(maxlen=_KEPT)
        self._before: _Before | None = None

    @property
    def measured(self) -> float | None:
        """The rate the provider was found to accept; None when that is not known."""
        return self._measured

    @property
    def at_ceiling(self) -> bool:
        return self.ceiling is not None and self._base >= self.ceiling

    @property
    def growing(self) -> bool:
        """Whether more is tried than was found."""
        return self._grown > self._hold and not self.at_ceiling

    def shut(self, total: float, at: float) -> None:
        """Since ``at`` nothing at all is taken, for longer than a bucket takes to get a drop: a window is used up. From
        one such moment to the next is what it grants, however it is spread; ``total`` units were accepted in all."""
        self._best = 0.0
        earlier, self._shut = self._shut, (at, total)
        if earlier is None or not _LEAST_WINDOW <= at - earlier[0] <= _FORGET:
            return
        self._measured = self._found = max(total - earlier[1], 0.0) / (at - earlier[0])
        self._base = max(BELOW * self._measured, _SLOWEST)
        self._grown, self._hold, self.times = 0.0, max(self._hold, _HOLD), max(self.times, 2)
        self._before = None

    def jump_failed(self) -> bool:
        """Whether a much higher rate of earlier was being tried. It is not there yet."""
        if not self.jumping:
            return False
        self.jumping = False
        if self._jumped_from is not None:
            self._base, self._grown, self._hold, self._measured, self.times = self._jumped_from
            self._jumped_from = None
        self._jumps = min(self._jumps + 1, _MOST_JUMPS)
        self._jump_at = self._grown + _FIRST_JUMP * _JUMP_AGAIN**self._jumps
        return True

    def rate(self) -> float:
        if self.jumping:
            return min(self._best, _JUMP * self._base)
        growing = self._grown - self._hold
        rate = self._base
        if growing > 0 and not self.at_ceiling:
            if self.times <= 1:
                rate *= math.exp(_FIRST_GROWTH * growing)
            else:
                rate *= math.exp(_GROWTH * min(growing, _LATER) + _GROWTH_LATER * max(growing - _LATER, 0.0))
        return rate if self.ceiling is None else min(rate, self.ceiling)

    def used(self, seconds: float, each: float) -> None:
        """For so long the rate was what requests waited for, of which the last counts ``each`` units."""
        if self.jumping:
            self._jumped += seconds
            base, grown = (self._jumped_from or (self._base, self._grown))[:2]
            units = _JUMPED_CALLS * max(each, 1.0) + _SAVED_UP * base * grown
            if self._jumped >= max(_JUMPED_LONG_ENOUGH, units / self.rate()):
                self._landed()
            return
        self._grown += seconds
        self._lowered_for += seconds
        rate = self.rate()
        self._calls += seconds * rate / max(each, 1.0)
        calls = _CALLS_SOON if self._lowered_for <= _SOON else _CALLS_LATER
        if self._grown >= self._jump_at and self._calls >= calls and self._best > _WORTH_A_JUMP * rate:
            self.jumping, self._jumped, self._calls = True, 0.0, 0.0
        if self.ceiling is not None and rate >= self.ceiling:
            self._base = self.ceiling
        if self._measured is not None and rate > _OUTGROWN * self._measured:
            self._measured = None

    def _landed(self) -> None:
        """Some time at a much higher rate has passed without trouble. Where still more was accepted once, that is
        next; what is taken before its end may have been saved up, so it is not gone on with by itself."""
        if self._jumped_from is None:
            self._jumped_from = self._base, self._grown, self._hold, self._measured, self.times
        self._base, self._grown, self._hold, self._measured, self.times = self.rate(), 0.0, _FIRST_HOLD, None, 0
        self._jumped = 0.0
        if self._best <= self._base:
            self.jumping, self._jumped_from, self._jumps = False, None, 0

    def set_ceiling(self, ceiling: float) -> None:
        full = self.at_ceiling
        self.ceiling = ceiling
        self._base = ceiling if full else min(self._base, ceiling)

    def cut(self, total: float, accepted: float, rested: float, now: float) -> None:
        """Refusals are too frequent. ``total`` units were accepted in all until now, of late ``accepted`` a second, and
        for ``rested`` seconds in all nothing was sent."""
        rate = self.rate()
        between, mostly_rested = self._measure(total, rested, now)
        # Where a bucket was full in between, less went than it grants; where all rested, that says nothing.
        found = accepted if mostly_rested else max(accepted, between)
        known, self._found = self._found, found
        same = known > 0 and abs(found / known - 1) <= (_SAME_AT_FIRST if self.times == 1 else _SAME)
        self._hold = _FIRST_HOLD if not same else _HOLD if self.times <= 1 else min(2 * self._hold, _LONGEST_HOLD)
        self.times = self.times + 1 if same else 1
        self._measured = found
        deepest = max(_DEEPEST_CUT * rate, _DEEPEST_OF_ALL * self._from)
        self._base = max(min(max(BELOW * found, deepest), _LEAST_CUT * rate), _SLOWEST)
        self._grown = 0.0
        if self._base < _STEPPED_DOWN * rate:
            self._jumps = 0
            self._lowered_for = 0.0
        self._jump_at = _FIRST_JUMP * _JUMP_AGAIN**self._jumps

    def note(self, total: float, rested: float, now: float) -> None:
        """The provider refuses too much: a moment to measure from."""
        self._cuts.append(Cut(now, total, rested))

    def remember(self, best: float) -> None:
        """What comes now can be undone. ``best``: units a second that were accepted in the best of times."""
        self._from = max(self.rate(), _PART_OF_BEST * self._best)
        self._best = max(_DECAY * self._best, best if self.ceiling is None else self.ceiling)
        self._before = _Before(self._base, self._grown, self._hold, self._measured, self.times, len(self._cuts))

    def undo(self) -> None:
        """Cuts changed nothing: go on as before them."""
        if self._before is None:
            return
        self._base, self._grown, self._hold, self._measured, self.times, cuts = self._before
        self._before = None
        while len(self._cuts) > cuts:
            self._cuts.pop()

    def _measure(self, total: float, rested: float, now: float) -> tuple[float, bool]:
        """Units a second since refusals were too frequent last, and whether much of that time was rested through; 0
        where that was too long ago or only now."""
        if not self._cuts or now - self._cuts[-1].at > _FORGET:
            return 0.0, False
        last = self._cuts[-1]
        seconds, units = now - last.at, total - last.total
        if seconds < _LEAST_INTERVAL or (units < _LEAST_UNITS and seconds < _HOLD):
            return 0.0, False
        return max(units / seconds, 0.0), rested - last.rested > _MUCH * seconds
