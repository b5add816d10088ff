"""How much a provider has accepted, in total and of late."""

from __future__ import annotations

from collections import deque
from typing import Final

_EVERY: Final = 0.5
_SPAN: Final = 4
_MARKS: Final = 130
"""A little more than a minute."""


class Flow:
    """Units that were sent and not given back."""

    __slots__ = ("_marks", "total")

    def __init__(self) -> None:
        self.total = 0.0
        self._marks: deque[tuple[float, float]] = deque(maxlen=_MARKS)

    def sent(self, units: float, now: float) -> None:
        if not self._marks or now - self._marks[-1][0] >= _EVERY:
            self._marks.append((now, self.total))
        self.total += units

    def best(self) -> float:
        """Units a second in the best two seconds of the last minute."""
        marks = list(self._marks)
        spans = zip(marks, marks[_SPAN:], strict=False)
        return max(((end[1] - start[1]) / (end[0] - start[0]) for start, end in spans), default=0.0)

    def give_back(self, units: float) -> None:
        """They were refused, or not used."""
        self.total -= units

    def rate(self, seconds: float, now: float) -> float | None:
        """Units a second over about the last ``seconds``, at most back to the first; None when nothing was sent."""
        for at, total in self._marks:
            if now - at <= seconds and now > at:
                return max(self.total - total, 0.0) / max(now - at, _EVERY)
        return None
