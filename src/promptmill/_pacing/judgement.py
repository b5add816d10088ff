"""What refusals say: that we go too fast, or nothing that going slower would change.

A refusal is no limit. Gateways and shared capacity refuse single calls for reasons that have nothing to do with our
pace, and read as limits they would slow a run down without end. So a pace is cut on trial only, and by as much as was
refused: it costs what the refusals cost anyway. If they get rarer it was a limit; if they do not, the cut is undone,
and as many refusals as there were are what there is from then on (``floor``).

**To suspect**, refusals are counted in the order the calls were sent. Each adds 1 to a sum, each call taken subtracts
the share that is put up with (half a percent, and one and a half times the floor); at ``ENOUGH`` the share is too high.
With refusals at random within what is put up with, that happens about once in 2,000 calls by mistake; above twice of
it, after some ``ENOUGH / (share - put up with)`` calls.

**To decide**, Wald's sequential test compares the calls sent after the cut: *useless*, six tenths of the refusals go
on, against *it helps*, an eighth of them. Both errors are 5 % by its bounds (ln 19). Six tenths and not all of them,
since a stretch is looked at because it was bad, so that its share is rather too high. With a share of 4 % it takes
about 150 calls, with 50 % about 8. A wrong *it helps* costs the share refused until the pace has grown again, a wrong
*useless* is tried again after a minute.
"""

from __future__ import annotations

import math
from enum import Enum
from typing import Final

import msgspec

ENOUGH: Final = 5.0
"""Refusals in excess that make a limit suspected, where none is known."""

ENOUGH_AGAIN: Final = 3.0
"""The same where one was found, at its pace."""

ENOUGH_ABOVE: Final = 3.0
"""The same while more is tried than was found."""

ENOUGH_JUMPING: Final = 2.0
"""The same while a much higher rate of earlier is tried again."""

_TOLERATED: Final = 0.005
_TOLERATED_OF_FLOOR: Final = 1.5
_MOST_TOLERATED: Final = 0.9
_HIGHEST_FLOOR: Final = 0.5
_FLOOR_MEMORY: Final = 0.01
"""The weight of one call in the floor: it follows the last 100, up to what was found on trial."""

_GONE_ON: Final = 0.6
_HELPED: Final = 0.125
_LEAST_SHARE: Final = 0.001
_MOST_SHARE: Final = 0.98
_SURE: Final = math.log(19.0)
_LEAST_HELPED: Final = 6

_AGAIN_S: Final = 60.0
_AGAIN_REFUSED: Final = 20
"""What was taken for noise is tried again after so many seconds and so many of its refusals: it may have become a
limit meanwhile. A trial costs about as many calls as five of its refusals take, at the share they have."""

_MOSTLY: Final = 0.35
_DEEPER: Final = 3
"""So many cuts in a row are tried while a larger share than this is refused."""

_WORTH_A_TRIAL: Final = 0.01

_MORE_BY_FLOOR: Final = 50.0
_MOST_MORE: Final = 10.0
"""Refusals at random clump the more by chance the more there are: with a floor of 10 % another five are asked for, and
chance has as much to do with it as without a floor."""

_LEAST_TAKEN: Final = 0.2
_MEASURED_OVER: Final = 20
"""Calls from which the accepted units a second of a stretch are measured; of fewer only the share says something."""


class Verdict(Enum):
    SUSPECT = 1
    """Refusals are more frequent than what is put up with: cut the pace on trial."""
    HELPED = 2
    DEEPER = 3
    """The cut did not make them rarer, but most calls were refused, of which few are enough to suspect a limit and too
    few to tell how far below it is: cut once more."""
    USELESS = 4
    """The cut did not make them rarer: undo it."""


class Stretch(msgspec.Struct):
    """Calls in the order they were sent, from the first refusal on. ``units`` are those of the calls taken,
    ``between`` those of them that were sent before the last refusal."""

    begun: float = 0.0
    last: float = 0.0
    calls: int = 0
    refused: int = 0
    units: float = 0.0
    between: float = 0.0
    calls_between: int = 0
    last_refused: float = 0.0

    @property
    def share(self) -> float:
        return self.refused / self.calls if self.calls else 0.0

    @property
    def interval(self) -> float:
        """Seconds from one call to the next."""
        return (self.last - self.begun) / max(self.calls - 1, 1)

    def accepted(self, offered: float) -> float:
        """Units a second that were taken, when ``offered`` were sent: a limit's bucket was empty at the first refusal
        and at the last, so what was taken in between is what it grants."""
        seconds = self.last_refused - self.begun
        if self.calls_between >= _MEASURED_OVER and seconds > 0:
            return min(self.between / seconds, offered)
        taken = (self.calls - self.refused + 1) / (self.calls + 2)
        return offered * max(taken - math.sqrt(taken * (1 - taken) / (self.calls + 2)), _LEAST_TAKEN)

    def add(self, refused: bool, units: float, sent_at: float) -> None:
        if not self.calls:
            self.begun = sent_at
        self.calls += 1
        self.last = sent_at
        if refused:
            self.refused += 1
            self.between, self.calls_between, self.last_refused = self.units, self.calls, sent_at
        else:
            self.units += units


class Judge:
    """Of the refusals of one limit. Told of each call in the order they were sent."""

    __slots__ = (
        "_again_at",
        "_deeper",
        "_highest",
        "_lately",
        "_since",
        "_sum",
        "_weights",
        "floor",
        "stretch",
        "trial",
    )

    def __init__(self) -> None:
        self.floor = 0.0
        """The share of calls that is refused whatever the pace, as far as that is known."""
        self.stretch = Stretch()
        self.trial: Stretch | None = None
        """Since the pace was cut on trial; None when none is under way."""
        self._highest = 0.0
        self._sum = 0.0
        self._since = -math.inf
        self._weights = (0.0, 0.0)
        self._again_at = math.inf
        self._lately = Stretch()
        self._deeper = 0

    @property
    def quiet(self) -> bool:
        """Whether calls that are taken change nothing."""
        return not self._sum and not self.floor and self.trial is None

    def taken(self, sent_at: float, units: float) -> Verdict | None:
        """A call was not refused."""
        if self.floor:
            self._follow(0.0)
            self._lately.add(False, units, sent_at)
        if sent_at <= self._since:
            return None
        if self.trial is not None:
            return self._weigh(refused=False, sent_at=sent_at)
        if self._sum:
            tolerated = self._tolerated()
            self.stretch.add(False, units, sent_at)
            self._sum -= tolerated / (1 - tolerated)
            if self._sum <= 0:
                self._sum = 0.0
                self.stretch = Stretch()
        return None

    def refused(self, sent_at: float, enough: float, now: float) -> Verdict | None:
        """A call was refused. ``enough``: refusals in excess that are too many."""
        self._follow(1.0)
        if sent_at <= self._since:
            return None  # sent before what was done last: that says nothing of it
        if self.trial is not None:
            return self._weigh(refused=True, sent_at=sent_at)
        self._sum += 1.0
        self.stretch.add(True, 0.0, sent_at)
        self._lately.add(True, 0.0, sent_at)
        if self._sum >= enough + min(_MORE_BY_FLOOR * self.floor, _MOST_MORE):
            return Verdict.SUSPECT
        if now >= self._again_at and self._lately.refused >= _AGAIN_REFUSED and self.floor >= _WORTH_A_TRIAL:
            self.stretch, self.floor = self._lately, 0.0
            return Verdict.SUSPECT
        return None

    def try_from(self, now: float) -> None:
        """The pace has been cut; what is sent from now on is weighed."""
        excess = max(self.stretch.share - self.floor, self.stretch.share / 2, _LEAST_SHARE)
        below = max(self.stretch.share - excess, 0.0)
        gone_on = min(max(below + _GONE_ON * excess, 2 * _LEAST_SHARE), _MOST_SHARE)
        helped = min(max(below + _HELPED * excess, _LEAST_SHARE), gone_on / 2)
        self._weights = math.log(gone_on / helped), math.log((1 - gone_on) / (1 - helped))
        self._since = now
        self._sum = 0.0
        self.trial = Stretch()

    def deepen(self) -> None:
        """What was seen since the last cut is what the next one goes by."""
        if self.trial is not None:
            self.stretch = self.trial
            self._deeper += 1

    def forget(self, now: float) -> None:
        """Begin anew: what was seen has been explained otherwise."""
        self._since = now
        self._sum = 0.0
        self._deeper = 0
        self.stretch = Stretch()
        self.trial = None

    def end(self, *, useless: bool, now: float) -> None:
        """The trial is over."""
        if useless and self.trial is not None:
            calls = self.stretch.calls + self.trial.calls
            share = (self.stretch.refused + self.trial.refused) / max(calls, 1)
            self.floor = self._highest = min(share, _HIGHEST_FLOOR)
            self._again_at = now + _AGAIN_S
            self._lately = Stretch()
        elif self.trial is not None:
            self.floor = min(self.floor, (self.trial.refused + 1) / (self.trial.calls + 2))
        self.forget(now)

    def _tolerated(self) -> float:
        return min(_TOLERATED + _TOLERATED_OF_FLOOR * self.floor, _MOST_TOLERATED)

    def _follow(self, refused: float) -> None:
        if self._highest:
            self.floor = min(self.floor + _FLOOR_MEMORY * (refused - self.floor), self._highest)
            if self.floor < _LEAST_SHARE:
                self.floor = self._highest = 0.0

    def _weigh(self, *, refused: bool, sent_at: float) -> Verdict | None:
        if self.trial is None:
            return None
        self.trial.add(refused, 0.0, sent_at)
        self._sum += self._weights[0] if refused else self._weights[1]
        if self._sum >= _SURE:
            return Verdict.DEEPER if self.trial.share > _MOSTLY and self._deeper < _DEEPER else Verdict.USELESS
        return Verdict.HELPED if self._sum <= -_SURE and self.trial.calls >= _LEAST_HELPED else None
