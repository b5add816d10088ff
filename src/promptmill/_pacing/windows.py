"""Limits of an hour or a day: a number that may be used at any pace, and is then gone until the window ends."""

from __future__ import annotations

import math


class Window:
    """``limit`` units in any ``seconds``, counted from the first; or what the provider says is left, when it does."""

    __slots__ = ("_ends", "_left", "limit", "seconds")

    def __init__(self, limit: float, seconds: float) -> None:
        self.limit = limit
        self.seconds = seconds
        self._left = limit
        self._ends = math.inf

    def wait(self, cost: float, now: float) -> float:
        """Seconds until ``cost`` may go."""
        if now >= self._ends:
            self._left, self._ends = self.limit, math.inf
        # One larger than the limit goes alone: there is nothing better to do with a limit below one request.
        return 0.0 if self._left >= min(cost, self.limit) else max(self._ends - now, 0.0)

    def charge(self, cost: float, now: float) -> None:
        if self._ends == math.inf:
            self._ends = now + self.seconds
        self._left -= cost

    def give_back(self, cost: float) -> None:
        self._left += cost

    def told(self, left: float, reset_in: float | None, now: float) -> None:
        """The provider says that only ``left`` are there until ``reset_in`` seconds from now."""
        if left < self._left:
            self._left = left
            if reset_in is not None:
                self._ends = now + reset_in
            elif self._ends == math.inf:
                self._ends = now + self.seconds

    def owed(self) -> float:
        """Seconds until what was charged has fitted into windows, one after the other."""
        used = self.limit - self._left
        return max(math.ceil(used / self.limit) - 1, 0) * self.seconds
