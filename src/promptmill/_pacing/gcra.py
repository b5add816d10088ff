"""GCRA: one number for each limit, from which the wait for a request follows in closed form.

It is the theoretical arrival time (TAT), when all that was let go will be paid off. A request larger than the burst
goes alone and is paid off afterwards, so nothing that fits the limit waits for ever.
"""

from __future__ import annotations

import math
from typing import Final

BURST_SECONDS: Final = 1.0
"""What may go at once, in seconds of the rate. A full minute's burst gets a whole minute of refusals at the start."""

SMALL_BURST_SECONDS: Final = 0.05
"""The same where the provider has refused: its bucket may be small. More than an event loop under load is late by."""


class Gcra:
    """Lets ``rate`` units a second go."""

    __slots__ = ("_rests_until", "arrival", "burst", "rate")

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self.burst = BURST_SECONDS
        self._rests_until = -math.inf
        """A rest is waited for at any rate: it is nothing that is owed."""
        # Empty at the start: after a crash nobody knows what the last minute took.
        self.arrival = now + self.burst

    def wait(self, cost: float, now: float) -> float:
        """Seconds until ``cost`` units may go; negative when they could have gone before."""
        weight = cost / self.rate
        return self.arrival + weight - max(self.burst, weight) - now

    def charge(self, cost: float, now: float) -> None:
        self.arrival = max(self.arrival, now) + cost / self.rate

    def give_back(self, cost: float) -> None:
        """``cost`` units were charged and not used; a negative ``cost`` was used and not charged."""
        self.arrival -= cost / self.rate

    def set_rate(self, rate: float, now: float) -> None:
        """Go on at another rate. What is owed stays the same in units."""
        start = max(now, self._rests_until)
        owed = self.arrival - self.burst - start
        if owed > 0:
            self.arrival = start + self.burst + owed * self.rate / rate
        self.rate = rate

    def set_burst(self, seconds: float, now: float) -> None:
        """Let no more than so many seconds' worth go at once from now on."""
        self.arrival = max(self.arrival, now + self.burst) - self.burst + seconds
        self.burst = seconds

    def leave_at_most(self, units: float, now: float) -> None:
        """Let no more than ``units`` go at once; negative units are waited for."""
        self.arrival = max(self.arrival, now + self.burst - units / self.rate)

    def empty_until(self, moment: float, but: float) -> None:
        """At ``moment`` no more than ``but`` units may go at once."""
        self._rests_until = moment
        self.arrival = max(self.arrival, moment + max(self.burst - but / self.rate, 0.0))
