"""The way to one key of a provider, and everything that decides when a call may go through: limits, calls at once, and
whether the provider is well."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from promptmill._binding import Binding, Certainty, Reason
from promptmill._breaker import Breaker
from promptmill._concurrency import Concurrency
from promptmill._pacing import LONGEST, Cap, Charge, Learned, Pacer
from promptmill.clock import Clock
from promptmill.errors import AuthFailed, NeverSent, ProviderError, QuotaExhausted, Throttled, Transient
from promptmill.interfaces import RealtimeProvider
from promptmill.models import Response, TokenEstimate

NEW_SHARE: Final = 0.1
"""The weight of each call in the running mean of latencies."""

_OVERLOADED: Final = frozenset({503, 529})
"""What a server that is too busy answers: judged as a refusal, since it may be one for how fast we go, for how much is
under way, or for nothing that we do."""

_LATE: Final = 504
_TIMEOUT: Final = "timeout"

SHORT_REST_S: Final = 600.0
"""A longer rest is told, and requests that can go elsewhere do."""

_FORGOTTEN_AFTER: Final = 1800.0
"""Seconds without a call after which a failure says nothing about the next one."""

_LONGER: Final = 0.8
"""Of a rest; what is longer than the one that was told by more than the jitter is told, too."""


class Passage(NamedTuple):
    """A call on its way through a channel."""

    channel: Channel
    charge: Charge
    probe: bool


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """How a channel was used: what it learned of limits, the refusals, and the calls at once it found to be right (None
    where the user said so, or as many as there were to begin with were never needed)."""

    learned: tuple[Learned, ...] = ()
    refusals: int = 0
    concurrency: int | None = None
    cap: int | None = None
    """Calls in flight that the provider was found to take at most; None where no cap was found."""
    binding: Binding | None = None
    """What bounded its calls for most of the time; None before the first."""


class Channel:
    """``warn`` is told, in words for people, of rests that they should know of."""

    def __init__(
        self,
        name: str,
        provider: RealtimeProvider,
        pacer: Pacer,
        concurrency: Concurrency,
        clock: Clock,
        warn: Callable[[str], None],
        *,
        is_one_of_many: bool = False,
    ) -> None:
        self.name = name
        self.provider = provider
        self.exhausted: QuotaExhausted | None = None
        self._is_one_of_many = is_one_of_many
        self.concurrency = concurrency
        self.pacer = pacer
        self.cap = Cap()
        self.in_flight = 0
        self.latency: float | None = None
        """Seconds, a running mean over the calls that were answered; None before the first."""
        self._breaker = Breaker()
        self._clock = clock
        self._warn = warn
        self._troubled_since: float | None = None
        self._failed_at = -math.inf
        self._told_until = -math.inf
        self._held_until = -math.inf

    @property
    def full(self) -> bool:
        """Whether as many calls are under way as should be."""
        return self.in_flight >= self.at_once

    @property
    def at_once(self) -> int:
        """Calls that may be under way."""
        return min(self.concurrency.limit, self.cap.bound)

    @property
    def ill(self) -> bool:
        """Whether the provider fails nearly all calls, or rests for long: requests better go elsewhere."""
        return not self._breaker.closed or self.resting_until - self._clock.now() > SHORT_REST_S

    @property
    def resting_until(self) -> float:
        """When it may be used again (monotonic seconds); in the past when it may be now."""
        return max(self.pacer.resting_until, self._held_until)

    def silent_for(self) -> float:
        """Seconds for which nothing but failures has come. A rest that was told does not count, nor does idleness."""
        return 0.0 if self._troubled_since is None else self._clock.now() - self._troubled_since

    def wait(self, estimate: TokenEstimate) -> float:
        """Seconds until a call may go; infinite when it depends on those under way."""
        return math.inf if self.full else self.wait_when_free(estimate)

    def wait_when_free(self, estimate: TokenEstimate) -> float:
        """The same, however many calls are under way."""
        wait = self.pacer.wait(estimate)
        if wait > SHORT_REST_S:
            self._hold(wait)
        return max(self._breaker.wait(self._clock.now()), wait)

    def send(self, estimate: TokenEstimate) -> Passage:
        """A call goes now. Exactly one of the other methods is called when it has come to its end."""
        self.in_flight += 1
        return Passage(self, self.pacer.charge(estimate, self.cap, self.in_flight), self._breaker.sent())

    def answered(self, passage: Passage, response: Response) -> float:
        """It was answered. Returns the seconds it took."""
        now = self._clock.now()
        took = now - passage.charge.sent_at
        self.latency = took if self.latency is None else self.latency + NEW_SHARE * (took - self.latency)
        self.pacer.answered(passage.charge, response.usage, response.limits)
        self.concurrency.answered(now, self.in_flight, response.first_byte_s, response.usage.output_tokens)
        self._well(passage)
        self.in_flight -= 1
        return took

    def failed(self, passage: Passage, failure: ProviderError) -> None:
        """It failed."""
        now = self._clock.now()
        self.in_flight -= 1
        if self._troubled_since is None or now - self._failed_at > _FORGOTTEN_AFTER:
            self._troubled_since = now
        self._failed_at = now
        if isinstance(failure, QuotaExhausted):
            self.exhausted = failure
        if self._is_one_of_many and isinstance(failure, QuotaExhausted | AuthFailed):
            failure.message = f"{self.name}: {failure.message}"
        if isinstance(failure, Throttled):
            self._breaker.forget(passage.probe)
            self.pacer.refused(passage.charge, failure)
            self._rest(self.pacer.resting_until - now, failure)
            return
        if isinstance(failure, NeverSent):
            self.pacer.not_sent(passage.charge)
        elif failure.http_status in _OVERLOADED:
            self.pacer.refused(passage.charge, failure)
        else:
            self.pacer.failed(passage.charge)
        if isinstance(failure, NeverSent | Transient):
            if failure.code == _TIMEOUT or failure.http_status == _LATE:
                self.concurrency.lost(passage.charge.sent_at, now)
            if self._breaker.failed(passage.probe, now, self.in_flight):
                self._tell(
                    f"provider {self.name!r} fails nearly every call ({failure.message}); it is left alone for "
                    f"{self._breaker.until - now:.0f} s and then tried with one call; no request fails for that"
                )
        else:  # it answered, whatever it said
            self._well(passage)

    def dropped(self, passage: Passage) -> None:
        """It was cancelled, or came to an end that says nothing about the provider."""
        self.in_flight -= 1
        self.pacer.dropped(passage.charge)
        self._breaker.forget(passage.probe)

    @property
    def rests(self) -> bool:
        """Whether the key rests, or one call finds out if it rested for long enough."""
        return not self._breaker.closed or self.pacer.rests

    @property
    def full_because(self) -> Reason:
        """What bounds the calls in flight."""
        return "cap" if self.cap.bound < self.concurrency.limit else "concurrency"

    def binding(self, reason: Reason) -> Binding:
        """``reason`` with what is known of it."""
        limit = self.pacer.waited_for() if reason == "limit" else None
        if limit is not None:
            certainty: Certainty = "told" if limit.told else "sure" if limit.sure else "likely"
            return Binding(what=reason, name=limit.name, value=round(limit.limit, 1), certainty=certainty)
        if reason == "cap":
            certainty = "sure" if self.cap.confirmed > 1 else "likely"
            return Binding(what=reason, value=self.cap.limit, certainty=certainty)
        return Binding(what=reason, value=self.concurrency.limit if reason == "concurrency" else None)

    def traffic(self) -> Traffic:
        """What there is to say about it in the end."""
        return Traffic(
            learned=tuple(self.pacer.learned()),
            refusals=self.pacer.refusals,
            concurrency=self.concurrency.peak,
            cap=self.cap.found,
        )

    def _well(self, passage: Passage) -> None:
        self._troubled_since = None
        if self._breaker.succeeded(passage.probe):
            self._warn(f"provider {self.name!r} is back")

    def _rest(self, seconds: float, failure: Throttled) -> None:
        if seconds <= SHORT_REST_S:
            return
        now = self._clock.now()
        self._troubled_since = self._failed_at = now + seconds
        if now + _LONGER * seconds > self._told_until:
            self._told_until = now + seconds
            limit = (failure.dimension or "limit").replace("_", " ")
            self._warn(
                f"provider {self.name!r} has used up its {limit} and rests until "
                f"{_stamp(self._clock.wall() + seconds)}: {failure.message}"
            )

    def _hold(self, seconds: float) -> None:
        """A limit that is known is used up for so long."""
        now = self._clock.now()
        self._held_until = now + seconds
        if now + _LONGER * seconds > self._told_until:
            self._told_until = now + seconds
            self._warn(
                f"provider {self.name!r} is at one of its limits and rests until {_stamp(self._clock.wall() + seconds)}"
            )

    def _tell(self, message: str) -> None:
        """Warn, but not again while the same trouble lasts."""
        now = self._clock.now()
        if now > self._told_until:
            self._warn(message)
        self._told_until = max(self._told_until, now + SHORT_REST_S)


def rests_for_long(failure: ProviderError) -> bool:
    """Whether it is a refusal that people should know of, such as that of a daily limit."""
    return isinstance(failure, Throttled) and (failure.retry_after or 0.0) > SHORT_REST_S


def rests_for_good(failure: ProviderError) -> bool:
    """Whether it is a refusal that lasts longer than any limit does."""
    return isinstance(failure, Throttled) and (failure.retry_after or 0.0) > LONGEST


def _stamp(wall: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(wall))
