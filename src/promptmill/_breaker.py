"""Leaves a provider alone that fails nearly every call, and finds out with few calls when it is back.

Refusals for a limit and requests at fault do not count: the provider is well.
"""

from __future__ import annotations

import math
import random
from collections import deque
from typing import Final

_WINDOW: Final = 20
_TOO_MANY: Final = 16
"""It opens when so many of the last so many calls failed. Half of them would be too few: with three of ten calls
failing at random, half of twenty do so every now and then, and each rest would cost more than the failures. Where more
calls are under way, so many must have failed with none answered in between: failures come sooner than answers."""

_FIRST_REST: Final = 2.0
_LONGEST_REST: Final = 60.0
_JITTER: Final = 0.1
_PROBES: Final = (1, 2, 4)
"""Calls at once that find out whether it is back; each step begins when all of the one before were answered."""


class Breaker:
    """Closed: all calls go. Open: none. Half open: a few."""

    __slots__ = ("_failed", "_in_a_row", "_probing", "_random", "_rest", "_step", "_succeeded", "until")

    def __init__(self) -> None:
        self.until = -math.inf
        """While it is open: when the next probe may go."""
        self._failed: deque[bool] = deque(maxlen=_WINDOW)
        self._in_a_row = 0
        self._rest = 0.0
        self._step: int | None = None
        self._probing = 0
        self._succeeded = 0
        self._random = random.Random(0)  # noqa: S311 - keeps clients apart, protects nothing

    @property
    def closed(self) -> bool:
        return self._step is None

    def wait(self, now: float) -> float:
        """Seconds until a call may go; infinite when it depends on those under way."""
        if self._step is None:
            return 0.0
        if now < self.until:
            return self.until - now
        return 0.0 if self._probing < _PROBES[self._step] else math.inf

    def sent(self) -> bool:
        """A call goes. Returns whether it is a probe."""
        if self._step is None:
            return False
        self._probing += 1
        return True

    def forget(self, probe: bool) -> None:
        """A call came to an end that says nothing about the provider."""
        self._probing -= probe and self._probing > 0

    def succeeded(self, probe: bool) -> bool:
        """A call was answered. Returns whether that closed it."""
        self._failed.append(False)
        self._in_a_row = 0
        if self._step is None or not probe:
            return False
        self._probing -= self._probing > 0
        self._succeeded += 1
        if self._succeeded < _PROBES[self._step]:
            return False
        self._succeeded = 0
        self._step += 1
        if self._step < len(_PROBES):
            return False
        self._step = None
        self._rest = 0.0
        self._probing = 0
        self._failed.clear()
        return True

    def failed(self, probe: bool, now: float, under_way: int = 0) -> bool:
        """A call failed through the provider's fault, ``under_way`` others being made. Returns whether that opened it,
        for the first time or again."""
        self._failed.append(True)
        self._in_a_row += 1
        if self._step is not None:
            if not probe:  # sent before it opened
                return False
            self._probing -= self._probing > 0
            if now < self.until:
                return False
        elif sum(self._failed) < _TOO_MANY or (under_way > _WINDOW and self._in_a_row < under_way):
            return False
        self._rest = min(max(2 * self._rest, _FIRST_REST), _LONGEST_REST)
        self.until = now + self._rest * (1 + _JITTER * self._random.random())
        self._step = 0
        self._succeeded = 0
        return True
