"""One limited thing a minute: the arithmetic of its pace, its speed, and what is known of the limit itself."""

from __future__ import annotations

import math
from typing import Final

from promptmill._pacing.flow import Flow
from promptmill._pacing.gcra import SMALL_BURST_SECONDS, Gcra
from promptmill._pacing.judgement import ENOUGH, ENOUGH_ABOVE, ENOUGH_AGAIN, ENOUGH_JUMPING, Judge
from promptmill._pacing.speed import TARGET_UTILISATION, Speed

_MINUTE: Final = 60.0
_LOOK_EVERY: Final = 0.1
"""Seconds after which a growing rate is set anew."""

_LONGEST_LOOK: Final = 10.0
"""Seconds that one look counts for: what was not asked for in between was not waited for."""

_LOOKBACK: Final = 2.0
"""Seconds over which the pace before a first cut is measured."""

_PAUSE_CALLS: Final = 5.0
_LONGEST_PAUSE: Final = 2.0
"""Calls, and seconds at most, that are left out after a cut."""

_EVEN_SECONDS: Final = 0.5
"""What may go at once, in seconds of a limit that is known, after refusals at its pace."""

_LONGEST_TRIAL: Final = 10.0
"""Seconds for which a cut on trial holds, when there are too few calls to judge it sooner."""

_JUMP: Final = 10.0
_BELIEVED_AFTER: Final = 3
"""A limit told that is so many times another is believed when it was told so often in a row: some servers describe a
second under the name of a minute, or send one odd figure."""


class Rate:
    """Units a second. ``given`` is the job's limit, ``told`` the provider's; None while unknown."""

    __slots__ = (
        "_bound",
        "_flow",
        "_gcra",
        "_looked_at",
        "_odd",
        "_slowed_at",
        "_speed",
        "_was_paced",
        "charged",
        "given",
        "judge",
        "told",
    )

    def __init__(self, now: float, given: float | None = None) -> None:
        self.given = given
        self.told: float | None = None
        self.charged = 0.0
        """All units ever charged."""
        self.judge = Judge()
        self._was_paced = False
        self._slowed_at = -math.inf
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
    def is_found(self) -> bool:
        """Whether a limit that nobody told was found twice."""
        return self._speed is not None and self._speed.times > 1

    @property
    def measured(self) -> float | None:
        return self._speed.measured if self._speed is not None else None

    def wait(self, cost: float, now: float) -> float:
        if self._gcra is None or self._speed is None:
            return 0.0
        passed = now - self._looked_at
        if passed >= _LOOK_EVERY:
            waits = self._bound and (self.judge.trial is None or now - self._slowed_at >= _LONGEST_TRIAL)
            if (waits or self._speed.jumping) and not self._speed.at_ceiling:
                self._speed.used(min(passed, _LONGEST_LOOK), cost)
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

    def give_back(self, cost: float, sent_at: float) -> None:
        """``cost`` was charged, and the provider did not count it; a negative ``cost`` was counted and not charged."""
        self.charged -= cost
        self._flow.give_back(cost)
        # What went at a higher pace than now has been paid off: given back it would be a burst into an empty bucket.
        if self._gcra is not None and (cost < 0 or sent_at > self._slowed_at):
            self._gcra.give_back(cost)

    def suspect(self, offered: float, rested: float, now: float) -> None:
        """Refusals because of this limit are too frequent: go slower on trial. ``offered``: units a second that were
        sent of late; for ``rested`` seconds in all nothing was."""
        self._was_paced = self.paced
        if self._gcra is None or self._speed is None:
            self._gcra, self._speed = self._start(offered, None, now)
        self._speed.remember(self._flow.best())
        # Where the limit is known, the provider's bucket is not: evenly spaced calls may be all it wants.
        if self._gcra.burst > _EVEN_SECONDS and self._speed.at_ceiling:
            self._pause(_EVEN_SECONDS, now)
        else:
            self.cut(rested, now)
        self._speed.note(self._flow.total, rested, now)

    def cut(self, rested: float, now: float) -> None:
        """Go slower, by as much as was refused."""
        if self._gcra is None or self._speed is None:
            return
        accepted = self.judge.stretch.accepted(self._speed.rate())
        self._speed.cut(self._flow.total, accepted, rested, now)
        self._gcra.set_rate(self._speed.rate(), now)
        self._pause(SMALL_BURST_SECONDS, now)

    def _pause(self, burst: float, now: float) -> None:
        """The bucket is empty. Without a pause calls that come a little early would go on being refused."""
        if self._gcra is None:
            return
        self._gcra.set_burst(burst, now)
        pause = min(_PAUSE_CALLS * self.judge.stretch.interval, _LONGEST_PAUSE)
        self._gcra.arrival = max(self._gcra.arrival, now + self._gcra.burst + pause)
        self._looked_at = self._slowed_at = now
        self._bound = False

    def offered(self, now: float) -> float:
        """Units a second that were sent of late."""
        return self._flow.rate(_LOOKBACK, now) or 1.0

    def jump_failed(self, now: float) -> bool:
        """Refusals are too frequent: whether that is since a rate of earlier was tried, which is over then."""
        if self._gcra is None or self._speed is None or not self._speed.jump_failed():
            return False
        self._gcra.set_rate(self._speed.rate(), now)
        self._pause(SMALL_BURST_SECONDS, now)
        return True

    def shut(self, at: float, now: float) -> None:
        """Since ``at`` nothing at all is taken."""
        if self._speed is not None and self._gcra is not None:
            self._speed.shut(self._flow.total, at)
            self._gcra.set_rate(self._speed.rate(), now)
            self.judge.forget(now)

    def forget(self) -> None:
        """What was found out about the rate has another reason."""
        if self._speed is not None and self._speed.ceiling is None:
            self._gcra = self._speed = None

    def undo(self, now: float) -> None:
        """Going slower changed nothing."""
        if self._gcra is None or self._speed is None:
            return
        if not self._was_paced:
            self._gcra = self._speed = None
            return
        self._speed.undo()
        self._gcra.set_rate(self._speed.rate(), now)

    @property
    def enough(self) -> float:
        """Refusals in excess that make a slower pace worth a trial."""
        if self._speed is None or (self._speed.measured is None and not self._speed.jumping):
            return ENOUGH
        if self._speed.jumping:
            return ENOUGH_JUMPING
        return ENOUGH_ABOVE if self._speed.growing else ENOUGH_AGAIN

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

    def _start(self, rate: float, ceiling: float | None, now: float) -> tuple[Gcra, Speed]:
        self._speed = Speed(rate, ceiling)
        self._gcra = Gcra(self._speed.rate(), now)
        self._looked_at = now
        return self._gcra, self._speed
