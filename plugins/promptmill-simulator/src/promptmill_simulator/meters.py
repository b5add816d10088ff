"""What counts the requests or tokens of a limit and says when there is room again: a class for each kind.

Amounts are requests or tokens, times are seconds. A meter is told the time with every call, and keeps no clock.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping
from typing import ClassVar, Final, Literal, TypeAlias

import msgspec

LimitKind: TypeAlias = Literal["bucket", "bucket-empty", "second", "minute", "window"]

_MINUTE: Final = 60.0
_ROUNDING: Final = 1e-6
"""Seconds of refilling that may be missing: who waited as told must not be refused for a float's last digits."""


class Taken(msgspec.Struct):
    """What was taken from a meter, and when."""

    at: float
    amount: float


class Meter(ABC):
    """Counts one limit, which is given per minute. ``burst`` matters to the kinds that have one."""

    by_wall: ClassVar[bool] = False
    """Whether it is told the time of the wall; else the monotonic one."""

    limit: float
    capacity: float
    """The most that can be taken at once."""

    @abstractmethod
    def __init__(self, limit: float, burst: float, now: float) -> None: ...

    def wait_for(self, amount: float, now: float) -> float:
        """Seconds until ``amount`` can be taken if nothing else is; infinite when it never can be."""
        if amount > self.capacity:
            return math.inf
        missing = amount - self.remaining(now)
        return self._wait_for_missing(missing, now) if missing > 0 else 0.0

    @abstractmethod
    def remaining(self, now: float) -> float:
        """What can be taken. Below zero when corrections went beyond the limit."""

    @abstractmethod
    def take(self, amount: float, now: float) -> Taken:
        """Use up ``amount``, whether or not it is there."""

    @abstractmethod
    def correct(self, taken: Taken, used: float, now: float) -> None:
        """Make what was taken ``used``, more or less than it was, as far as it still counts."""

    @abstractmethod
    def reset_in(self, now: float) -> float:
        """Seconds until all of it is there again."""

    @abstractmethod
    def _wait_for_missing(self, missing: float, now: float) -> float: ...


class Bucket(Meter):
    """A token bucket that holds ``burst`` seconds of the limit, at least 1, and starts full."""

    def __init__(self, limit: float, burst: float, now: float) -> None:
        self.limit = limit
        self._rate = limit / _MINUTE
        self.capacity = self._level = max(1.0, self._rate * burst)
        self._at = now

    def remaining(self, now: float) -> float:
        self._level = min(self.capacity, self._level + (now - self._at) * self._rate)
        self._at = now
        return self._level

    def take(self, amount: float, now: float) -> Taken:
        self._level = self.remaining(now) - amount
        return Taken(now, amount)

    def correct(self, taken: Taken, used: float, now: float) -> None:
        self._level = min(self.capacity, self.remaining(now) + taken.amount - used)

    def reset_in(self, now: float) -> float:
        return (self.capacity - self.remaining(now)) / self._rate

    def _wait_for_missing(self, missing: float, now: float) -> float:
        del now
        wait = missing / self._rate
        return wait if wait > _ROUNDING else 0.0


class EmptyBucket(Bucket):
    """A bucket that starts empty."""

    def __init__(self, limit: float, burst: float, now: float) -> None:
        super().__init__(limit, burst, now)
        self._level = 0.0


class SecondBucket(Bucket):
    """A bucket that holds one second of the limit, whatever the burst."""

    def __init__(self, limit: float, burst: float, now: float) -> None:
        del burst
        super().__init__(limit, 1.0, now)


class CalendarMinute(Meter):
    """A counter that starts anew with each minute of the wall clock."""

    by_wall = True

    def __init__(self, limit: float, burst: float, now: float) -> None:
        del burst
        self.limit = limit
        self.capacity = float(math.floor(limit))
        self._minute = now // _MINUTE
        self._used = 0.0

    def remaining(self, now: float) -> float:
        # A wall clock can be set back: that is another minute too.
        if now // _MINUTE != self._minute:
            self._minute, self._used = now // _MINUTE, 0.0
        return self.capacity - self._used

    def take(self, amount: float, now: float) -> Taken:
        self.remaining(now)
        self._used += amount
        return Taken(now, amount)

    def correct(self, taken: Taken, used: float, now: float) -> None:
        self.remaining(now)
        if taken.at // _MINUTE == self._minute:
            self._used = max(0.0, self._used + used - taken.amount)

    def reset_in(self, now: float) -> float:
        return 0.0 if self.remaining(now) >= self.capacity else self._rest(now)

    def _wait_for_missing(self, missing: float, now: float) -> float:
        del missing
        return self._rest(now)

    def _rest(self, now: float) -> float:
        return _until((self._minute + 1) * _MINUTE, now)


class SlidingWindow(Meter):
    """A log of the last 60 seconds: in no stretch of that length more than the limit is taken."""

    def __init__(self, limit: float, burst: float, now: float) -> None:
        del burst, now
        self.limit = limit
        # Amounts are whole numbers: no more of them fit, and with a whole capacity sums stay exact.
        self.capacity = float(math.floor(limit))
        self._log: deque[Taken] = deque()
        self._used = 0.0

    def remaining(self, now: float) -> float:
        while self._log and self._log[0].at + _MINUTE <= now:
            self._used -= self._log.popleft().amount
        return self.capacity - self._used

    def take(self, amount: float, now: float) -> Taken:
        self.remaining(now)
        self._used += amount
        taken = Taken(now, amount)
        self._log.append(taken)
        return taken

    def correct(self, taken: Taken, used: float, now: float) -> None:
        self.remaining(now)
        if taken.at + _MINUTE > now:
            self._used += used - taken.amount
            taken.amount = used

    def reset_in(self, now: float) -> float:
        self.remaining(now)
        newest = next((taken for taken in reversed(self._log) if taken.amount > 0), None)
        return 0.0 if newest is None else _until(newest.at + _MINUTE, now)

    def _wait_for_missing(self, missing: float, now: float) -> float:
        freed, last = 0.0, now
        for taken in self._log:
            freed, last = freed + taken.amount, taken.at
            if freed >= missing:
                break
        return _until(last + _MINUTE, now)


METERS: Final[Mapping[LimitKind, type[Meter]]] = {
    "bucket": Bucket,
    "bucket-empty": EmptyBucket,
    "second": SecondBucket,
    "minute": CalendarMinute,
    "window": SlidingWindow,
}


def _until(when: float, now: float) -> float:
    """The least seconds that, added to ``now`` as floats are, reach ``when``."""
    seconds = max(0.0, when - now)
    while now + seconds < when:
        seconds = math.nextafter(seconds, math.inf)
    return seconds
