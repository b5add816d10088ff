"""Brings what became of calls into the order in which they were sent.

A refusal comes after milliseconds and an answer after seconds. Looked at as they come, there would be nothing but
refusals at first, and each pause of the answers would look like an outage. So a call counts as taken, too, when it has
been under way for longer than refusals need.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from promptmill._pacing.charges import Charge, Fate

_FIRST_DELAY: Final = 1.0
"""Seconds that a refusal is taken to need before there was one."""

_SLACK: Final = 3.0
_LEAST_DELAY: Final = 0.05
_AT_ONCE: Final = 0.005
_MEMORY: Final = 0.9


class Order:
    """Tells ``note`` of each call once, with the moment it does."""

    __slots__ = ("_delay", "_note", "_waiting")

    def __init__(self, note: Callable[[Charge, float], None]) -> None:
        self._note = note
        self._delay: float | None = None
        self._waiting: deque[Charge] = deque()

    def sent(self, charge: Charge, now: float) -> None:
        self._waiting.append(charge)
        if self._waiting[0].sent_at + (self._delay or _FIRST_DELAY) <= now:
            self.look(now)

    def ended(self, charge: Charge, now: float) -> None:
        """It is known what became of ``charge``."""
        if charge.fate is Fate.REFUSED:
            delay = max(_SLACK * (now - charge.sent_at), _LEAST_DELAY)
            self._delay = delay if self._delay is None else max(delay, _MEMORY * self._delay)
            self._correct(charge)
            if charge.seen:  # it came later than any before, and was taken for one that is being worked on
                self._note(charge, now)
        self.look(now)

    def look(self, now: float) -> None:
        """Tell of all that are known by now."""
        waiting = self._waiting
        delay = _FIRST_DELAY if self._delay is None else self._delay
        while waiting and (waiting[0].fate is not Fate.UNDER_WAY or waiting[0].sent_at + delay <= now):
            first = waiting.popleft()
            first.seen = True
            if first.fate is Fate.REFUSED:
                self._place(first)
            self._note(first, now)

    def _correct(self, refused: Charge) -> None:
        """A call that was refused is none of those that were worked on when others came."""
        later = False
        for one in self._waiting:
            if later and one.cap is refused.cap:
                one.level -= 1
            later = later or one is refused
        if refused.cap is not None and not refused.seen:
            for one in refused.cap.refused_lately:
                if one.sent_at >= refused.sent_at - _AT_ONCE:
                    one.level -= 1

    def _place(self, refused: Charge) -> None:
        """Of calls that were sent at once nobody knows which came first: the refused ones came last."""
        for one in self._waiting:
            if one.sent_at > refused.sent_at + _AT_ONCE:
                break
            if one.cap is refused.cap and one.fate is not Fate.REFUSED:
                refused.level += 1

    @property
    def delay(self) -> float:
        """Seconds in which a refusal comes, about."""
        return (_FIRST_DELAY if self._delay is None else self._delay) / _SLACK

    def known_in(self, now: float) -> float:
        """Seconds until the last call sent counts as taken, unless it is refused before."""
        if not self._waiting:
            return 0.0
        return max(self._waiting[-1].sent_at + (_FIRST_DELAY if self._delay is None else self._delay) - now, 0.0)
