"""A cap on calls under way: found out by how many there were when calls were refused, and when they were taken.

A server that works on so many calls at once refuses the next one whatever the pace, and takes one as soon as another
has ended. So refusals come only above some number under way, and the test for it is direct: a few calls more than that
are sent, and nearly all of them have to be refused. Where they are taken it is no cap, or it has grown.

What is put to the test is the most that were worked on together, where more were tried. Between a call and its arrival
others end: calls that are above the number by no more than can end meanwhile say nothing. Three refused ones, and fewer
taken, confirm it; at 20 % random refusals that comes about by chance in one test of 40. The cap then stands until it is
tested again, after ``_HOLD`` seconds and 250 calls for each that the test cost. Where calls within it are refused all
the same, it is lowered on trial.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from promptmill._pacing.charges import Charge

_UNBOUNDED: Final = 1 << 62
_KEPT: Final = 64
_KEPT_REFUSED: Final = 32
_LEAST: Final = 2
_LEAST_REFUSED: Final = 10
_LOWEST: Final = 10
_NEAR: Final = 1.2
_WINDOW: Final = 30.0
"""Nearly all refused calls of late must have met the same number being worked on, and no more than about that many may
have been worked on in the last half minute. Under a limit on the rate both go up and down with what answers take."""

_BEYOND: Final = 0.3
_MORE: Final = 1.1
"""Few calls were taken while more than that were worked on, or a tenth more were tried."""

_PART: Final = 16
_WITHIN: Final = 3
"""So many refused ones within it refute it before it is confirmed."""

_REFUTED: Final = 10.0
"""Seconds for which none is looked for then."""

_EXTRA: Final = 2
"""Calls under way at once that can confirm a cap."""

_REFUSED: Final = 3
_REFUSED_AGAIN: Final = 2
"""So many refused ones confirm it: the first time, and later."""

_OUTGROWN: Final = 2
"""So many taken ones refute it."""

_ENDING: Final = 1.2
"""Times as many as end on average while a call is on its way."""

_STEP: Final = 1.25
_HOLD: Final = 5.0
_LONGEST_HOLD: Final = 120.0
"""Seconds until a cap is tested again; they double each time it is still there."""

_CALLS_FOR_EACH: Final = 250


class Cap:
    """What is known of how many calls one channel may have under way. ``limit`` is None while there is no cap."""

    __slots__ = (
        "_above",
        "_before",
        "_calls",
        "_hold",
        "_margin",
        "_most",
        "_most_until",
        "_price",
        "_recent",
        "_refuted_until",
        "_since",
        "_taken",
        "_test_at",
        "_testing",
        "_tried",
        "_within",
        "confirmed",
        "limit",
        "refused_lately",
    )

    def __init__(self) -> None:
        self.limit: int | None = None
        self.confirmed = 0
        """How often calls above it were refused."""
        self._recent: deque[tuple[float, int]] = deque(maxlen=_KEPT)
        """When the last calls were sent that were taken, and how many were being worked on."""
        self.refused_lately: deque[Charge] = deque(maxlen=_KEPT_REFUSED)
        self._most = (0, 0)
        self._most_until = -math.inf
        """The most that were worked on, in two stretches of time one after the other."""
        self._tried = 0
        self._before: int | None = None
        self._testing = False
        self._margin = 0
        self._since = -math.inf
        self._taken = 0
        self._within = 0
        self._above: list[int] = []
        self._refuted_until = -math.inf
        self._price = 0
        self._calls = 0
        self._hold = _HOLD
        self._test_at = math.inf

    @property
    def found(self) -> int | None:
        """The cap, once it was tested; None else."""
        return self.limit if self.confirmed else None

    @property
    def bound(self) -> int:
        """Calls that may be under way."""
        if self.limit is None:
            return _UNBOUNDED
        return self.limit + self._margin + _EXTRA if self._testing else self.limit

    def explains(self, level: int) -> bool:
        """Whether a refusal of a call that was sent as the ``level``-th says nothing new."""
        return self.limit is not None and level > self.limit

    def suspect(self, now: float) -> int | None:
        """The cap that refusals of late speak of; None when they do not."""
        if self.limit is not None or now < self._refuted_until:
            return None
        refused = sorted(one.level for one in self.refused_lately)
        if len(refused) < _LEAST_REFUSED:
            return None
        limit, highest = refused[len(refused) // _LOWEST] - 1, refused[-1 - len(refused) // _LOWEST]
        most = max(self._most)
        if limit < _LEAST or not most or max(highest, most) > _NEAR * limit + _EXTRA:
            return None
        beyond = sum(level > limit for _, level in self._recent)
        tried_more = max(_MORE * limit, limit + _EXTRA) < self._tried
        return limit if tried_more or beyond <= _BEYOND * len(self._recent) else None

    def lower(self, now: float) -> bool:
        """Calls within it are refused: go below it on trial. False when it is no cap, then."""
        if self.limit is None:
            return False
        if not self.confirmed or self._before is not None:
            self._refute(now)
            return False
        self._before = self.limit
        self.limit = max(self.limit - max(1, self.limit // _PART), 1)
        self._testing = False
        return True

    def lowered(self, now: float, *, helped: bool) -> None:
        """What came of that."""
        self._before = None
        if not helped:
            self._refute(now)

    def begin(self, limit: int, delay: float, now: float) -> None:
        """Take ``limit`` for the cap, and test it. ``delay``: the seconds in which a refusal comes."""
        self.limit = limit
        self.confirmed = 0
        self._hold = _HOLD
        self._test(delay, now)

    def taken(self, charge: Charge, delay: float, now: float) -> None:
        """A call was not refused."""
        level, sent_at = charge.level, charge.sent_at
        self._recent.append((sent_at, level))
        if now >= self._most_until:
            self._most, self._most_until = (self._most[1], 0), now + _WINDOW
        if level > self._most[1]:
            self._most = self._most[0], level
        if self.limit is None:
            return
        self._calls += 1
        if not self._testing:
            if now >= self._test_at and self._calls >= _CALLS_FOR_EACH * self._price:
                self._test(delay, now)
        elif sent_at > self._since:
            self._taken += level > self.limit + self._margin
            if self._taken >= _OUTGROWN and self._taken > len(self._above):
                self._outgrown(level, delay, now)

    def refused(self, charge: Charge, now: float) -> None:
        """It was refused."""
        self.refused_lately.append(charge)
        self._tried = charge.tried
        if self.limit is None or charge.sent_at <= self._since:
            return
        if charge.tried <= self.limit:
            self._within += 1
            if self._testing and not self.confirmed and self._within >= _WITHIN:
                self._refute(now)
            return
        self._price += 1
        if not self._testing:
            return
        self._above.append(charge.level)
        if len(self._above) >= (_REFUSED_AGAIN if self.confirmed else _REFUSED + self._margin):
            self._confirm(now)

    def _confirm(self, now: float) -> None:
        self._testing = False
        if not self.confirmed:
            most = (self.limit or 0) + self._margin + _EXTRA
            self.limit = min(max(_lowest(self._above) - 1, self.limit or 0), most)
        self._hold = min(2 * self._hold, _LONGEST_HOLD) if self.confirmed else _HOLD
        self.confirmed += 1
        self._calls = 0
        self._test_at = now + self._hold

    def _refute(self, now: float) -> None:
        self.limit = self._before = None
        self.confirmed = 0
        self._testing = False
        self.refused_lately.clear()
        self._refuted_until = now + _REFUTED

    def _test(self, delay: float, now: float) -> None:
        self._testing = True
        self._since = now
        self._taken = self._within = self._price = 0
        self._above.clear()
        limit = self.limit or 0
        taken = [sent_at for sent_at, _ in self._recent]
        seconds = taken[-1] - taken[0] if taken else 0.0
        ending = math.ceil(_ENDING * delay * len(taken) / seconds) if seconds > 0 else limit
        self._margin = min(ending, limit // 4)

    def _outgrown(self, level: int, delay: float, now: float) -> None:
        """Calls above it are taken: it was never there, or is larger now."""
        if not self.confirmed:
            self._refute(now)
            return
        self.limit = max(level, math.ceil(_STEP * (self.limit or 0)))
        self._hold = _HOLD
        self._test(delay, now)


def _lowest(levels: list[int]) -> int:
    """The level that all but a tenth of them were at, or above."""
    return sorted(levels)[len(levels) // _LOWEST]
