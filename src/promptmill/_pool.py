"""Several keys or deployments of one model as one provider: a request goes to the one that can take it the soonest."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from promptmill._binding import Binding, Reason
from promptmill._channel import Channel, Passage, Traffic
from promptmill._pacing import Learned
from promptmill.errors import QuotaExhausted
from promptmill.models import Request, TokenEstimate

SHARED_PREFIX: Final = 3_500
"""Characters at the start of a request that providers keep in their prompt caches: about 1,024 tokens, the least that
any of them keeps."""

_PREFIXES_KEPT: Final = 4096


class Pool:
    """Channels that are as good as each other. Those without quota are left out."""

    def __init__(self, channels: Sequence[Channel]) -> None:
        self.channels = tuple(channels)
        self._chosen = self.channels[0]
        # Nearly all pools have one key only, and everything here is asked for each request.
        self._only = self.channels[0] if len(self.channels) == 1 else None
        self._last_for: OrderedDict[int, Channel] = OrderedDict()

    @property
    def usable(self) -> Sequence[Channel]:
        return self.channels if self._only else [one for one in self.channels if one.exhausted is None] or self.channels

    @property
    def exhausted(self) -> QuotaExhausted | None:
        """Why none can be used any longer; None while one can."""
        if self._only:
            return self._only.exhausted
        failures = [one.exhausted for one in self.channels]
        return None if None in failures else failures[-1]

    @property
    def full(self) -> bool:
        """Whether as many calls are under way as should be."""
        return self._only.full if self._only else all(one.full for one in self.usable)

    @property
    def rests(self) -> bool:
        """Whether all are left alone for a while."""
        return self.ill or (self._only is not None and self._only.rests)

    @property
    def full_because(self) -> Reason:
        """What bounds the calls in flight."""
        return self.usable[0].full_because

    def binding(self, reason: Reason) -> Binding:
        """``reason`` with what is known of it; of several channels only the reason is."""
        return self._only.binding(reason) if self._only else Binding(what=reason)

    @property
    def is_partly_full(self) -> bool:
        """Whether there is one that may be free before the others have to be waited for."""
        return not self._only and any(one.full for one in self.usable)

    @property
    def ill(self) -> bool:
        """Whether requests better go elsewhere."""
        return self._only.ill if self._only else all(one.ill for one in self.usable)

    @property
    def resting_until(self) -> float:
        """When the first of them may be used again (monotonic seconds); in the past when one may be now."""
        return self._only.resting_until if self._only else min(one.resting_until for one in self.usable)

    @property
    def counts_tokens(self) -> bool:
        return self._only.pacer.counts_tokens if self._only else any(one.pacer.counts_tokens for one in self.channels)

    @property
    def in_flight(self) -> int:
        return self._only.in_flight if self._only else sum(one.in_flight for one in self.channels)

    @property
    def concurrency(self) -> int:
        """Calls that may be in flight now."""
        return self._only.at_once if self._only else sum(one.at_once for one in self.usable)

    @property
    def latency(self) -> float | None:
        """Seconds of a call, a running mean; None before the first."""
        known = [one.latency for one in self.channels if one.latency is not None]
        return sum(known) / len(known) if known else None

    def silent_for(self) -> float:
        return min(one.silent_for() for one in self.channels)

    def oversized(self, estimate: TokenEstimate) -> str | None:
        """The limit this request is larger than everywhere."""
        if self._only:
            return self._only.pacer.oversized(estimate)
        names = [one.pacer.oversized(estimate) for one in self.usable]
        return None if None in names else names[0]

    def seconds_for(self, requests: int, each: TokenEstimate) -> float:
        """How long so many requests like ``each`` take at the pace of all limits together."""
        return max(one.pacer.seconds_for(math.ceil(requests / len(self.usable)), each) for one in self.usable)

    def wait(self, estimate: TokenEstimate, request: Request) -> float:
        """Seconds until a call may go through one of them; infinite when it depends on those under way."""
        if self._only:
            return self._only.wait(estimate)
        waits = [(one.wait(estimate), one) for one in self.usable if one.pacer.oversized(estimate) is None]
        shortest = min(wait for wait, _ in waits)
        if shortest > 0:
            return shortest
        ready = [one for wait, one in waits if wait <= 0]
        self._chosen = self._best(ready, request)
        return 0.0

    def send(self, estimate: TokenEstimate) -> Passage:
        """A call goes now, through the one that :meth:`wait` found."""
        return self._chosen.send(estimate)

    def for_second(self, estimate: TokenEstimate, first: Channel) -> Channel | None:
        """Where a second call may go at once, however many are under way: rather not where the first went. None when
        no limit lets it."""
        able = [one for one in self.usable if one.wait_when_free(estimate) <= 0]
        return min(able, key=lambda one: one is first, default=None)

    def traffic(self) -> Traffic:
        """What there is to say about them in the end, added up."""
        all_traffic = [one.traffic() for one in self.channels]
        learned: dict[str, Learned] = {}
        for one in (limit for traffic in all_traffic for limit in traffic.learned):
            before = learned.get(one.name)
            limit, told = (one.limit, one.told) if before is None else (before.limit + one.limit, one.told)
            learned[one.name] = Learned(name=one.name, limit=limit, told=told)
        caps = [one.cap for one in all_traffic]
        found = [one.concurrency for one in all_traffic if one.concurrency is not None]
        return Traffic(
            learned=tuple(learned.values()),
            refusals=sum(one.refusals for one in all_traffic),
            concurrency=sum(found) if found else None,
            cap=None if None in caps else sum(one for one in caps if one is not None),
        )

    def _best(self, ready: Sequence[Channel], request: Request) -> Channel:
        """The one that has this request's beginning in its cache, else the one with the most room."""
        start = request.messages[0].text[:SHARED_PREFIX] if request.messages else ""
        key = hash(start) if len(start) >= SHARED_PREFIX else None
        cached = None if key is None else self._last_for.get(key)
        chosen = next((one for one in ready if one is cached), None)
        if chosen is None:
            chosen = min(ready, key=lambda one: one.in_flight / one.at_once)
        if key is not None:
            self._last_for[key] = chosen
            self._last_for.move_to_end(key)
            if len(self._last_for) > _PREFIXES_KEPT:
                self._last_for.popitem(last=False)
        return chosen
