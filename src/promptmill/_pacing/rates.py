"""One limited thing a minute: the arithmetic of its pace, its speed, and what is known of the limit itself."""

from __future__ import annotations

from typing import Final

from promptmill._pacing.flow import Flow
from promptmill._pacing.gcra import Gcra
from promptmill._pacing.speed import TARGET_UTILISATION, Speed

_MINUTE: Final = 60.0
_LOOK_EVERY: Final = 0.1
"""Seconds after which a growing rate is set anew."""

_LONGEST_LOOK: Final = 10.0
"""Seconds that one look counts for: what was not asked for in between was not waited for."""

_JUMP: Final = 10.0
_BELIEVED_AFTER: Final = 3
"""A limit told that is so many times another is believed when it was told so often in a row: some servers describe a
second under the name of a minute, or send one odd figure."""


class Rate:
    """Units a second. ``given`` is the job's limit, ``told`` the provider's; None while unknown."""

    __slots__ = ("_bound", "_flow", "_gcra", "_looked_at", "_odd", "_speed", "charged", "given", "told")

    def __init__(self, now: float, given: float | None = None) -> None:
        self.given = given
        self.told: float | None = None
        self.charged = 0.0
        """All units ever charged."""
        self._flow = Flow()
        self._odd = 0
        self._bound = False
        self._looked_at = now
        self._speed: Speed | None = None
        self._gcra: Gcra | None = None
        if given is not None:
            self._start(TARGET_UTILISATION * given, TARGET_UTILISATION * given, now)

    @property
    def known(self) -> float | None:
        """The limit; None while nobody knows it."""
        if self.given is None or self.told is None:
            return self.given if self.told is None else self.told
        return min(self.given, self.told)

    @property
    def paced(self) -> bool:
        """Whether anything is waited for."""
        return self._gcra is not None

    @property
    def measured(self) -> float | None:
        return self._speed.measured if self._speed is not None else None

    def wait(self, cost: float, now: float) -> float:
        if self._gcra is None or self._speed is None:
            return 0.0
        passed = now - self._looked_at
        if passed >= _LOOK_EVERY:
            if self._bound and not self._speed.at_ceiling:
                self._speed.used(min(passed, _LONGEST_LOOK))
                self._gcra.set_rate(self._speed.rate(), now)
            self._looked_at = now
            self._bound = False
        return self._gcra.wait(cost, now)

    def binds(self) -> None:
        """A request waits for this limit: it may grow when the provider lets it."""
        self._bound = True

    def charge(self, cost: float, now: float) -> None:
        self.charged += cost
        self._flow.sent(cost, now)
        if self._gcra is not None:
            self._gcra.charge(cost, now)

    def give_back(self, cost: float) -> None:
        """``cost`` was charged, and the provider did not count it; a negative ``cost`` was counted and not charged."""
        self.charged -= cost
        self._flow.give_back(cost)
        if self._gcra is not None:
            self._gcra.give_back(cost)

    def accepted(self, seconds: float, now: float) -> float | None:
        """Units a second that were not refused lately."""
        return self._flow.rate(seconds, now)

    def begin(self, rate: float | None, now: float) -> None:
        """Pace from now on, though the limit is not known."""
        self._start(rate or 1.0, None, now)

    def refused(self, rest: float, now: float) -> None:
        """The provider refused a request because of this limit, and is left alone for ``rest`` seconds."""
        if self._gcra is not None and self._speed is not None:
            self._speed.refused(self._flow.total, self._flow.rate(_MINUTE, now), rest, now)
            self._gcra.set_rate(self._speed.rate(), now)
            self._looked_at = now
            self._bound = False

    def hear(self, limit: float, now: float) -> None:
        """The provider says what its limit is."""
        known = self.told if self.told is not None else self.given
        if known is not None and not known / _JUMP < limit < known * _JUMP:
            self._odd += 1
            if self._odd < _BELIEVED_AFTER:
                return
        self._odd = 0
        if limit == self.told:
            return
        self.told = limit
        ceiling = TARGET_UTILISATION * (limit if self.given is None else min(limit, self.given))
        if self._speed is None or self._gcra is None:
            self._start(ceiling, ceiling, now)
        else:
            self._speed.set_ceiling(ceiling)
            self._gcra.set_rate(self._speed.rate(), now)

    def leave_at_most(self, units: float, age: float, now: float) -> None:
        """So much was left ``age`` seconds ago, what was sent since taken off."""
        if self._gcra is not None:
            self._gcra.leave_at_most(units + self._gcra.rate * age, now)

    def empty_until(self, moment: float, but: float) -> None:
        if self._gcra is not None:
            self._gcra.empty_until(moment, but)

    def seconds_for(self, cost: float, now: float) -> float:
        """How long ``cost`` more units take."""
        if self._gcra is None:
            return 0.0
        return max(self._gcra.arrival - now, 0.0) + cost / self._gcra.rate

    def owed(self, now: float) -> float:
        """Seconds until what was charged is paid off."""
        return 0.0 if self._gcra is None else max(self._gcra.arrival - self._gcra.burst - now, 0.0)

    def _start(self, rate: float, ceiling: float | None, now: float) -> None:
        self._speed = Speed(rate, ceiling)
        self._gcra = Gcra(self._speed.rate(), now)
        self._looked_at = now
