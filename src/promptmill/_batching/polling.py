"""When to look at a batch again: soon at first, since small ones are quick, then ever more seldom."""

from __future__ import annotations

import random
from typing import Final

LONGEST_S: Final = 300.0
GROWTH: Final = 1.5
SPREAD: Final = 0.2
"""Each wait is up to 20 % longer or shorter, so that many batches are not asked for at the same moment."""


class Intervals:
    """Seconds until the next look. ``first`` is the shortest, from the job's ``poll_interval``."""

    def __init__(self, first: float, *, longest: float = LONGEST_S, chance: random.Random | None = None) -> None:
        self._first = first
        self._longest = max(longest, first)
        self._next = first
        self._chance = chance or random.Random()  # noqa: S311 - spreads load, guards nothing

    def next(self) -> float:
        """The wait before the next look. Grows by half each time."""
        wait = self._next
        self._next = min(self._next * GROWTH, self._longest)
        return wait * self._chance.uniform(1 - SPREAD, 1 + SPREAD)

    def restart(self) -> None:
        """Look often again: something has changed."""
        self._next = self._first
