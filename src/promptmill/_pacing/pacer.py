"""One pacer over all limits of one key: those of the job, those the provider tells, and those found out by refusals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from promptmill._pacing.cap import Cap
from promptmill._pacing.charges import Charge, Fate
from promptmill._pacing.gate import Gate
from promptmill._pacing.judgement import Verdict
from promptmill._pacing.order import Order
from promptmill._pacing.rates import Rate
from promptmill._pacing.tokens import TokenBook
from promptmill._pacing.windows import Window
from promptmill.clock import Clock
from promptmill.errors import ProviderError, Throttled
from promptmill.interfaces import Admission, Charging
from promptmill.models import LimitedThing, LimitReading, TokenEstimate, Usage

_MINUTE: Final = 60.0
_DAY: Final = 86400.0
_LONG: Final = 600.0
"""A limit for longer than this many seconds is a number to use up, not a pace."""

_NAMES: Final[Mapping[str, tuple[LimitedThing, float]]] = {
    "rpm": ("requests", _MINUTE),
    "tpm": ("tokens", _MINUTE),
    "itpm": ("input_tokens", _MINUTE),
    "otpm": ("output_tokens", _MINUTE),
    "rpd": ("requests", _DAY),
    "tpd": ("tokens", _DAY),
}
_BY_PLACE: Final = {place: name for name, place in _NAMES.items()}

_ONE_REQUEST: Final[Mapping[LimitedThing, float]] = {
    "requests": 1.0,
    "tokens": 0.0,
    "input_tokens": 0.0,
    "output_tokens": 0.0,
}


class Learned(msgspec.Struct, frozen=True, kw_only=True):
    """A limit: ``told``, or else found out by refusals; ``sure`` when it was found twice."""

    name: str
    limit: float
    told: bool
    sure: bool = False


class Pacer:
    """Keeps to the limits given by name (``rpm``, ``rpd``, ``tpm``, ``tpd``, ``itpm``, ``otpm``), and to others as they
    become known, never above those given."""

    def __init__(
        self,
        limits: Mapping[str, float],
        clock: Clock,
        *,
        charging: Charging = "reserve",
        admission: Admission = "sum",
    ) -> None:
        self._clock = clock
        self._settles = charging == "settle"
        self._takes_the_higher = admission == "max"
        self._book = TokenBook()
        self._costed: tuple[TokenEstimate | None, Mapping[LimitedThing, float]] = (None, _ONE_REQUEST)
        """What was worked out last, and holds until the book learns: a request is asked for three times in a row."""
        self._gate = Gate()
        self._rates: dict[LimitedThing, Rate] = {}
        self._windows: dict[tuple[LimitedThing, float], Window] = {}
        self._order = Order(self._judge)
        self._lowered: Cap | None = None
        """A cap that is lowered on trial."""
        self._heard_from = clock.now()
        self._slowest: Rate | None = None
        """The limit that was waited for last."""
        self.refusals = 0
        self.counts_tokens = any(_NAMES[name][0] != "requests" for name in limits)
        """Whether it matters how large a request is."""
        for name, limit in limits.items():
            what, seconds = _NAMES[name]
            if seconds > _LONG:
                self._windows[what, seconds] = Window(limit, seconds)
            else:
                self._rates[what] = Rate(clock.now(), given=limit / seconds)

    # Before a call.

    def oversized(self, estimate: TokenEstimate) -> str | None:
        """The name of a limit this request is larger than, so that waiting would never help."""
        costs = self._costs(estimate)
        for what, rate in self._rates.items():
            if what != "requests" and rate.known is not None and costs[what] > rate.known * _MINUTE:
                return _BY_PLACE[what, _MINUTE]
        for (what, seconds), window in self._windows.items():
            if what != "requests" and costs[what] > window.limit:
                return _BY_PLACE.get((what, seconds), what)
        return None

    def wait(self, estimate: TokenEstimate) -> float:
        """Seconds until this request may go; 0 when it may go now."""
        now = self._clock.now()
        longest = self._gate.until - now
        if longest > 0:
            return longest
        if self._gate.probing:
            self._order.look(now)
            longest = max(self._order.known_in(now) if self._gate.probing else self._gate.until - now, 0.0)
        if longest > 0 or not (self._rates or self._windows):
            return max(longest, 0.0)
        longest = 0.0
        costs = self._costs(estimate)
        slowest: Rate | None = None
        for what, rate in self._rates.items():
            wait = rate.wait(costs[what], now)
            if wait > longest:
                longest, slowest = wait, rate
        for (what, _), window in self._windows.items():
            wait = window.wait(costs[what], now)
            if wait > longest:
                longest, slowest = wait, None
        if slowest is not None:
            slowest.binds()
            self._slowest = slowest
        return longest

    def charge(self, estimate: TokenEstimate, cap: Cap | None = None, level: int = 1) -> Charge:
        """Count a request that goes now against every limit, as the ``level``-th under way where ``cap`` holds."""
        now = self._clock.now()
        costs = self._costs(estimate)
        before = {what: rate.charged for what, rate in self._rates.items()}
        self._requests.charge(1.0, now)
        for what, rate in self._rates.items():
            if what != "requests":
                rate.charge(costs[what], now)
        windows = [(what, window) for (what, _), window in self._windows.items()]
        for what, window in windows:
            window.charge(costs[what], now)
        charge = Charge(now, estimate, costs, before, windows, cap, level, level, self._gate.sent())
        self._order.sent(charge, now)
        return charge

    # After it, exactly once for each charge.

    def answered(self, charge: Charge, usage: Usage, readings: Iterable[LimitReading] = ()) -> None:
        """The provider took the request. What it used is settled where the provider settles."""
        if not self._close(charge, Fate.TAKEN):
            return
        self._book.reported(charge.estimate, usage)
        self._costed = (None, _ONE_REQUEST)
        if self._settles:
            self._settle(charge, usage)
        for reading in readings:
            self._heard(reading, charge)

    def failed(self, charge: Charge) -> None:
        """Nobody knows whether the provider counted it, so it stays counted; refused it was not."""
        self._close(charge, Fate.TAKEN)

    def dropped(self, charge: Charge) -> None:
        """It came to an end that says nothing about the provider; it stays counted."""
        self._close(charge, Fate.UNKNOWN)

    def not_sent(self, charge: Charge) -> None:
        """The provider never saw it."""
        if self._close(charge, Fate.UNKNOWN):
            self._give_back(charge)

    def refused(self, charge: Charge, failure: ProviderError) -> None:
        """The provider refused it: for a limit, or for nothing we could do about."""
        if charge.fate is not Fate.UNDER_WAY:
            return
        self.refusals += 1
        charge.failure = failure
        self._give_back(charge)
        if isinstance(failure, Throttled):
            for reading in failure.limits:
                self._heard(reading, charge)
        self._close(charge, Fate.REFUSED)

    # What is known.

    @property
    def resting_until(self) -> float:
        """When the whole key may be used again (monotonic seconds); in the past when it may be now."""
        return self._gate.until

    @property
    def rests(self) -> bool:
        """Whether the whole key rests, or one call finds out if it did for long enough."""
        return self._gate.probing or self._gate.until > self._clock.now()

    def seconds_for(self, requests: int, each: TokenEstimate) -> float:
        """How long so many requests like ``each`` take at the pace of the slowest limit."""
        now = self._clock.now()
        costs = self._costs(each)
        return max([0.0, *(rate.seconds_for(requests * costs[what], now) for what, rate in self._rates.items())])

    def owed(self) -> dict[str, float]:
        """Seconds until what was charged is paid off, by limit: how long a sole user of it needs."""
        now = self._clock.now()
        paced = {_BY_PLACE[what, _MINUTE]: rate.owed(now) for what, rate in self._rates.items() if rate.paced}
        return {**paced, **{_BY_PLACE[place]: window.owed() for place, window in self._windows.items()}}

    def learned(self) -> list[Learned]:
        """The limits that were not given."""
        found = []
        for what, rate in self._rates.items():
            name = _BY_PLACE[what, _MINUTE]
            if rate.told is not None and (rate.given is None or rate.told < rate.given):
                found.append(Learned(name=name, limit=rate.told * _MINUTE, told=True))
            elif rate.measured is not None and rate.judge.trial is None:
                limit = rate.measured * _MINUTE
                found.append(Learned(name=name, limit=limit, told=False, sure=rate.is_found))
        return found

    def waited_for(self) -> Learned | None:
        """The limit that was waited for last, and how sure it is; None when none was, or it is one of hours or days."""
        for what, rate in self._rates.items():
            limit = rate.known if rate.measured is None else rate.measured
            if rate is self._slowest and limit is not None:
                name = _BY_PLACE[what, _MINUTE]
                return Learned(name=name, limit=limit * _MINUTE, told=rate.measured is None, sure=rate.is_found)
        return None

    @property
    def _requests(self) -> Rate:
        rate = self._rates.get("requests")
        if rate is None:
            rate = self._rates["requests"] = Rate(self._clock.now())
        return rate

    def _costs(self, estimate: TokenEstimate) -> Mapping[LimitedThing, float]:
        if not self.counts_tokens:
            return _ONE_REQUEST
        known, costs = self._costed
        if known is estimate:
            return costs
        taken = self._book.input(estimate)
        given = self._book.output(estimate, self._settles)
        both = max(taken, given) if self._takes_the_higher else taken + given
        costs = {"requests": 1.0, "tokens": both, "input_tokens": taken, "output_tokens": given}
        self._costed = (estimate, costs)
        return costs

    def _close(self, charge: Charge, fate: Fate) -> bool:
        """Note what became of it. False when that was known already."""
        if charge.fate is not Fate.UNDER_WAY:
            return False
        charge.fate = fate
        self._order.ended(charge, self._clock.now())
        return True

    def _judge(self, charge: Charge, now: float) -> None:
        """Take note of a call, in the order they were sent: whether it was refused, and what that says."""
        if charge.fate is Fate.UNKNOWN:
            self._gate.unknown(charge.probe)
        elif charge.fate is Fate.REFUSED:
            self._judge_refused(charge, now)
        else:
            self._judge_taken(charge, now)

    def _judge_taken(self, charge: Charge, now: float) -> None:
        self._gate.taken(charge.sent_at)
        if charge.cap is not None:
            charge.cap.taken(charge, self._order.delay, now)
        for what, rate in self._rates.items():
            if not rate.judge.quiet and not charge.probe:
                self._act(rate, rate.judge.taken(charge.sent_at, charge.costs[what]), charge, now)

    def _judge_refused(self, charge: Charge, now: float) -> None:
        failure = charge.failure
        if charge.cap is not None:
            explained = charge.cap.explains(charge.tried)
            charge.cap.refused(charge, now)
            if explained:
                self._gate.unknown(charge.probe)
                return
        named = failure.dimension if isinstance(failure, Throttled) else None
        rate = self._rate_of(named, charge)
        if isinstance(failure, Throttled):
            sent_at, probe, for_all = charge.sent_at, charge.probe, named is not None
            if self._gate.refused(sent_at, failure.retry_after, now, probe=probe, for_all=for_all):
                for what, one in self._rates.items():
                    one.empty_until(self._gate.until, charge.costs[what])
                if self._gate.is_long:
                    rate.shut(self._gate.shut_at, now)
        if not charge.probe:  # those say how long a rest has to be, not how fast to go
            self._act(rate, rate.judge.refused(charge.sent_at, rate.enough, now), charge, now)

    def _act(self, rate: Rate, verdict: Verdict | None, charge: Charge, now: float) -> None:
        judge = rate.judge
        if verdict is Verdict.SUSPECT:
            self._suspect(rate, charge, now)
        elif verdict is not None and self._lowered is not None:
            self._lowered.lowered(now, helped=verdict is Verdict.HELPED)
            self._lowered = None
            judge.forget(now)
        elif verdict is Verdict.DEEPER:
            judge.deepen()
            rate.cut(self._gate.rested, now)
            judge.try_from(now)
        elif verdict is Verdict.USELESS:
            rate.undo(now)
            judge.end(useless=True, now=now)
        elif verdict is Verdict.HELPED:
            judge.end(useless=False, now=now)

    def _suspect(self, rate: Rate, charge: Charge, now: float) -> None:
        """Refusals are too frequent: see what they depend on, the simplest first."""
        judge, cap = rate.judge, charge.cap if rate is self._rates.get("requests") else None
        limit = cap.suspect(now) if cap is not None and not rate.is_found else None
        if rate.jump_failed(now):
            judge.forget(now)
        elif cap is not None and limit is not None:
            cap.begin(limit, self._order.delay, now)
            rate.forget()
            judge.forget(now)
        elif cap is not None and cap.lower(now):
            self._lowered = cap
            judge.try_from(now)
        else:
            each = charge.costs[next(what for what, one in self._rates.items() if one is rate)]
            rate.suspect(self._requests.offered(now) * each, self._gate.rested, now)
            judge.try_from(now)

    def _rate_of(self, dimension: str | None, charge: Charge) -> Rate:
        """That of the limit which a refusal names, else that of requests."""
        what: LimitedThing = next((one for one in charge.costs if one == dimension), "requests")
        if not charge.costs[what]:
            # Nobody had asked for sizes until now. From now on they are known, and until then requests are what counts.
            self.counts_tokens = True
            what = "requests"
        rate = self._rates.get(what)
        if rate is None:
            rate = self._rates[what] = Rate(self._clock.now())
        return rate

    def _give_back(self, charge: Charge) -> None:
        for what, rate in self._rates.items():
            if what in charge.before:
                rate.give_back(charge.costs[what], charge.sent_at)
        for what, window in charge.windows:
            window.give_back(charge.costs[what])

    def _settle(self, charge: Charge, usage: Usage) -> None:
        taken = charge.costs["input_tokens"] if usage.input_tokens is None else float(usage.input_tokens)
        given = charge.costs["output_tokens"] if usage.output_tokens is None else float(usage.output_tokens)
        used: dict[LimitedThing, float] = {"tokens": taken + given, "input_tokens": taken, "output_tokens": given}
        for what, rate in self._rates.items():
            if what in used and what in charge.before:
                rate.give_back(charge.costs[what] - used[what], charge.sent_at)
        for what, window in charge.windows:
            if what in used:
                window.give_back(charge.costs[what] - used[what])

    def _heard(self, reading: LimitReading, charge: Charge) -> None:
        now = self._clock.now()
        what, seconds = reading.what, reading.window or _MINUTE
        if seconds > _LONG:
            self._heard_of_window(reading, seconds, now)
            return
        rate = self._rates.get(what)
        if rate is None:
            if reading.limit is None:
                return
            rate = self._rates[what] = Rate(now)
            self.counts_tokens = self.counts_tokens or what != "requests"
        if reading.limit is not None:
            rate.hear(reading.limit / seconds, now)
        # An older reading than the last is out of date, and a limit that is not paced needs no clamp.
        if reading.remaining is not None and charge.sent_at >= self._heard_from and what in charge.before:
            self._heard_from = charge.sent_at
            since = rate.charged - charge.before[what] - charge.costs[what]
            rate.leave_at_most(reading.remaining - since, now - charge.sent_at, now)

    def _heard_of_window(self, reading: LimitReading, seconds: float, now: float) -> None:
        window = self._windows.get((reading.what, seconds))
        if window is None:
            if reading.limit is None:
                return
            window = self._windows[reading.what, seconds] = Window(reading.limit, seconds)
            self.counts_tokens = self.counts_tokens or reading.what != "requests"
        if reading.remaining is not None:
            window.told(reading.remaining, reading.reset_in, now)
