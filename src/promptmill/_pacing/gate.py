"""The rest of a whole key after a refusal, since all its calls count alike."""

from __future__ import annotations

import math
import random
from typing import Final

_BASE: Final = 0.25
_CAP: Final = 15.0
"""Seconds, doubled from one fruitless try to the next, where the provider does not say how long."""

_JITTER: Final = 0.1
_MOST_JITTER: Final = 10.0
"""A tenth of the wait, at most so many seconds: keys of several clients should not all come back at once."""

LONGEST: Final = 25 * 3600.0
"""A day and what clocks differ: nothing that ends by itself takes longer."""


class Gate:
    """Closed until ``until``."""

    __slots__ = ("_fruitless", "_random", "until")

    def __init__(self) -> None:
        self.until = -math.inf
        self._fruitless = 0
        # Always the same: it keeps clients apart, and a test or a rehearsal must not differ from time to time.
        self._random = random.Random(0)  # noqa: S311

    def refused(self, retry_after: float | None, now: float, *, again: bool) -> float:
        """Close it, and return until when. ``again``: the call was sent before it was closed last."""
        if not again:
            self._fruitless += 1
        wait = min(_CAP, _BASE * 2.0 ** min(self._fruitless - 1, 16))
        if retry_after is not None and retry_after > 0:
            asked = min(retry_after, LONGEST)
            asked += min(_JITTER * asked, _MOST_JITTER) * self._random.random()
            wait = asked if self._fruitless == 1 else max(asked, wait)
        elif again:
            wait = 0.0
        self.until = max(self.until, now + wait)
        return self.until

    def accepted(self) -> None:
        """A call that was sent after it opened has been taken."""
        self._fruitless = 0
