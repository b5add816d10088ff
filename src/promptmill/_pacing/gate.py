"""The rest of a whole key, when nearly all its calls are refused: then one call at a time finds out how long.

A single refusal is its own request's affair. The key rests when so many calls in a row were refused, in the order they
were sent, that chance does it once in a hundred thousand calls; or at once when a refusal says that it counts for all.
What a server says of the wait is believed as long as that proves right: a call in between is refused, one at its end is
taken. Else the waits double from a quarter of a second.
"""

from __future__ import annotations

import math
import random
from typing import Final

_BASE: Final = 0.25
_CAP: Final = 15.0
"""Seconds, doubled from one fruitless try to the next, where it is not known how long."""

_JITTER: Final = 0.1
_MOST_JITTER: Final = 10.0
"""A tenth of the wait, at most so many seconds: keys of several clients should not all come back at once."""

LONGEST: Final = 25 * 3600.0
"""A day and what clocks differ: nothing that ends by itself takes longer."""

LONG: Final = 600.0
"""Seconds. A longer wait is that of a limit of hours or days, which no call in between finds out more of."""

_LEAST_ROW: Final = 8
_MOST_ROW: Final = 64
_CHANCE: Final = math.log(1e-5)
_MEMORY: Final = 0.01
_MOST_MISLED: Final = 8

_A_FEW: Final = 3

_TRUST: Final = 1.0
_SPENT: Final = 0.5
"""A hint that proved right is believed for two rests, then put to the test again."""


class Gate:
    """Closed until ``until``; then it lets single calls through until one is taken."""

    __slots__ = (
        "_fruitless",
        "_hint_ends",
        "_misled",
        "_probing",
        "_random",
        "_row",
        "_share",
        "_since",
        "_trust",
        "rested",
        "shut_at",
        "until",
    )

    def __init__(self) -> None:
        self.until = -math.inf
        self.shut_at = -math.inf
        """When it was closed after it had last been open."""
        self.rested = 0.0
        """Seconds it was closed in all, the present rest included."""
        self._since = -math.inf
        self._fruitless = 0
        self._row = 0
        self._share = 0.0
        self._probing = False
        self._trust = 0.0
        self._misled = 1
        self._hint_ends: float | None = None
        # Always the same: it keeps clients apart, and a test or a rehearsal must not differ from time to time.
        self._random = random.Random(0)  # noqa: S311

    @property
    def is_long(self) -> bool:
        """Whether several tries in a row were fruitless, for the first time in this rest."""
        return self._fruitless == _A_FEW

    def sent(self) -> bool:
        """A call goes. Returns whether it is the one that finds out if the rest was long enough."""
        if self._fruitless and not self._probing:
            self._probing = True
            return True
        return False

    @property
    def probing(self) -> bool:
        """Whether such a call is under way."""
        return self._probing

    def taken(self, sent_at: float) -> None:
        """The next call, in the order they were sent, was not refused."""
        self._row = 0
        if self._share:
            self._share -= _MEMORY * self._share
        if not self._fruitless or sent_at < self.until:
            return
        if self._hint_ends is not None:
            if sent_at < self._hint_ends:
                self._trust = min(self._trust, 0.0) - _TRUST
            elif self._fruitless > 1:
                self._trust = max(self._trust, 0.0) + _TRUST
        if self._fruitless == 1:
            self._misled = min(2 * self._misled, _MOST_MISLED)
        else:
            self._misled = max(self._misled // 2, 1)
        self._fruitless = 0
        self._probing = False
        self._hint_ends = None

    def unknown(self, probe: bool) -> None:
        """A call came to an end that says nothing."""
        if probe:
            self._probing = False

    def refused(self, sent_at: float, retry_after: float | None, now: float, *, probe: bool, for_all: bool) -> bool:
        """The next call was refused; ``for_all``: it says that this counts for the whole key. Returns whether the key
        rests for it."""
        self._row += 1
        self._share += _MEMORY * (1 - self._share)
        if sent_at <= self._since:
            return False  # sent before it was closed last: that says nothing new
        if not self._fruitless and self._row < (self._misled if for_all else self._wanted_row()):
            return False
        if self._fruitless and not probe:
            return False
        self._close(retry_after, now)
        return True

    def _close(self, retry_after: float | None, now: float) -> None:
        self._fruitless += 1
        if self._fruitless == 1:
            self.shut_at = now
        self._probing = False
        self._row = 0
        wait = min(_CAP, _BASE * 2.0 ** min(self._fruitless - 1, 16))
        if retry_after is not None and retry_after > 0:
            asked = min(retry_after, LONGEST)
            asked += min(_JITTER * asked, _MOST_JITTER) * self._random.random()
            if self._hint_ends is None or now >= self._hint_ends:
                self._hint_ends = now + min(retry_after, LONGEST)
            if asked > LONG or self._trust > 0:
                wait = asked
                self._trust = max(self._trust - _SPENT, 0.0)
            elif self._fruitless == 1:
                wait = min(wait, asked)
        self._since = now
        self.rested += wait
        self.until = now + wait

    def _wanted_row(self) -> int:
        if self._share <= 0 or self._row < _LEAST_ROW:
            return _LEAST_ROW
        before = min(self._share, 0.999)
        return min(max(math.ceil(_CHANCE / math.log(before)), _LEAST_ROW), _MOST_ROW)
