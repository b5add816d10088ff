"""One configured provider: its queue, its limits, its workers.

A lane never holds another one up. Workers take turns at the head of the queue: the one whose turn it is waits for work
and for the pacer, the others wait for their turn, so there is one waiter a lane and no task a request.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import anyio
import msgspec
from anyio.abc import TaskGroup

from promptmill._binding import Binding, Reason, Waits
from promptmill._calling import Caller
from promptmill._channel import Channel, Traffic
from promptmill._concurrency import MOST, Adaptive, Fixed
from promptmill._pacing import Pacer
from promptmill._pool import Pool
from promptmill._queue import Queued
from promptmill._ratecap import RateCap
from promptmill._timeouts import Next, TimedScope
from promptmill._turn import Turn
from promptmill._waiting import LEAST_AHEAD, Waiting
from promptmill._work import Outcome, Pricer, Work
from promptmill.clock import Clock
from promptmill.errors import Permanent, ProviderError, QuotaExhausted, StorageError, Transient
from promptmill.interfaces import RealtimeProvider
from promptmill.models import Request, Tier, TokenEstimate, Usage

QUEUE_AHEAD = 2
"""Requests kept ready for each worker; below that the lane is hungry and the feeder reads on."""

QUEUE_MEMORY = 512
"""Requests of each priority that are kept in memory at least, times two."""

ASSUMED_LATENCY_S = 5.0
"""Seconds a call is taken to last before one has been made."""


class Key(NamedTuple):
    """Another key or deployment of the same model, with its own limits."""

    provider: RealtimeProvider
    limits: Mapping[str, float]


class LaneSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A provider and how to use it. ``timeout`` in seconds a call; ``limits`` by name as in ``options.Limits``;
    without ``concurrency`` it is found out, up to ``most``."""

    name: str
    provider: RealtimeProvider
    concurrency: int | None = None
    most: int = MOST
    timeout: float
    limits: Mapping[str, float] = {}
    others: tuple[Key, ...] = ()
    calls_per_second: float | None = None
    price: Pricer | None = None
    hedge: float | None = None
    limit_group: str | None = None
    """Lanes of the same group count against the same limits."""
    shared_pacer: Pacer | None = None
    """The one of its group."""

    def lane(self, outcome: Outcome, clock: Clock, on_hungry: Callable[[], None]) -> Lane:
        return Lane(self, outcome, clock, on_hungry)


class Lane:
    """The queue and the workers of one provider."""

    def __init__(self, spec: LaneSpec, outcome: Outcome, clock: Clock, on_hungry: Callable[[], None]) -> None:
        self.name = spec.name
        self.provider = spec.provider
        self.reached = False
        """Whether the provider has ever answered anything."""
        self.unreached_since: float | None = None
        self._pool = _pool_of(spec, clock, outcome.warn)
        self._price = spec.price
        self._outcome = outcome
        self._clock = clock
        self._on_hungry = on_hungry
        self._waiting = Waiting(memory=2 * max(self._low_water, QUEUE_MEMORY))
        self._rate_cap = RateCap(spec.calls_per_second) if spec.calls_per_second else None
        self._caller = Caller(self._pool, outcome, clock, self._waiting.retries, spec.timeout, spec.hedge)
        self._turn = Turn()
        self._waits = Waits()
        self._changed = anyio.Event()
        self._waits_for_calls = False
        self._group: TaskGroup | None = None
        self._workers = 0
        self._idle = 0
        self._closed = False

    @property
    def in_flight(self) -> int:
        return self._pool.in_flight

    @property
    def concurrency(self) -> int:
        """Calls that may be in flight now."""
        return self._pool.concurrency

    @property
    def traffic(self) -> Traffic:
        traffic, mostly = self._pool.traffic(), self._waits.mostly(self._clock.now())
        if mostly is None:
            return traffic
        reason, share = mostly
        binding = msgspec.structs.replace(self._pool.binding(reason), share=round(share, 3))
        return msgspec.structs.replace(traffic, binding=binding)

    @property
    def binding(self) -> Binding | None:
        """Why no call is made just now; None while calls are."""
        if self._waits.present is None:
            return None
        seconds = self._waits.seconds_left(self._clock.now())
        return msgspec.structs.replace(self._pool.binding(self._waits.present), seconds=seconds)

    @property
    def exhausted(self) -> QuotaExhausted | None:
        """Why it has no quota left; None while it has."""
        return self._pool.exhausted

    def use_up(self, failure: QuotaExhausted) -> None:
        """Nothing to do: the key that it is about knows."""

    @property
    def rests_for(self) -> float:
        return max(self._pool.resting_until - self._clock.now(), 0.0)

    def silent_for(self) -> float:
        return self._pool.silent_for()

    @property
    def _low_water(self) -> int:
        return max(QUEUE_AHEAD * self._pool.concurrency, LEAST_AHEAD)

    @property
    def held(self) -> int:
        """Nothing outlives a process here."""
        return 0

    @property
    def away(self) -> int:
        return 0

    @property
    def batches(self) -> int:
        return 0

    @property
    def hungry(self) -> bool:
        """Whether more requests should be read for it."""
        return self._waiting.new < self._low_water

    @property
    def busy(self) -> int:
        return self.in_flight

    @property
    def retrying(self) -> int:
        """Requests that wait for their next attempt."""
        return self._waiting.retrying

    @property
    def queued(self) -> int:
        """Requests that wait for their first attempt here."""
        return self._waiting.new

    async def recall(self) -> None:
        """Nothing outlives a process here."""

    def start(self, group: TaskGroup) -> None:
        """Let workers run in ``group``, as many as are needed, up to the concurrency."""
        self._group = group
        self._waits.started = self._clock.now()

    def put(self, queued: Queued) -> None:
        """Queue a request. Its chain begins with this lane's name."""
        self._waiting.put(queued)
        self._wake()

    def resume(self, work: Work) -> None:
        """Take over a request that another lane gave up. It goes first: it has waited long enough."""
        self._waiting.put_first(work, self._clock.now(), self.concurrency)
        self._wake()

    def retry(self, work: Work, after: float) -> None:
        """Queue another attempt, due ``after`` seconds from now."""
        self._waiting.retry(work, self._clock.now() + after)
        self._wake()

    def all_fed(self) -> None:
        """Nothing to do: a request never waits for others."""

    def too_late(self, work: Work) -> bool:  # noqa: ARG002 - the sooner the better, also after a deadline
        """Never."""
        return False

    def seconds_for(self, requests: int, tokens: int) -> float:
        """About how long so many more requests with so many tokens would take here."""
        count = requests + len(self._waiting)
        latency = ASSUMED_LATENCY_S if self._pool.latency is None else self._pool.latency
        each = TokenEstimate(tokens // max(requests, 1), 0)
        return max(latency * (1 + count / self.concurrency), self._pool.seconds_for(count, each))

    def cost(self, usage: Usage, model: str | None, tier: Tier) -> float | None:
        """USD for an answer of this lane; None when it is not known."""
        return self._price(usage, model, tier) if self._price else None

    def money_came_back(self) -> None:
        """Try again what could not be afforded."""
        self._changed.set()

    def close(self) -> None:
        """Start nothing more. Attempts in flight are finished by their workers."""
        self._closed = True
        self._changed.set()

    def discard(self) -> None:
        """Drop what still waits; nothing of it was sent."""
        self._caller.close()
        self._waiting.close()

    def _wake(self) -> None:
        self._changed.set()
        if self._idle <= len(self._waiting) and self._workers < self.concurrency and self._group and not self._closed:
            self._workers += 1
            self._idle += 1
            self._group.start_soon(self._work, name=f"lane {self.name}")

    async def _work(self) -> None:
        try:
            while await self._work_until_late():
                pass
        except StorageError as error:  # of a queue on disk: what is in flight is paid and must not be cancelled for it
            self._outcome.storage_failed(error)

    async def _work_until_late(self) -> bool:
        """Make calls until the lane is closed, or until one takes too long and ends the scope of them all (True)."""
        timed = TimedScope()
        then: Next | None = None
        with timed.scope:
            while (work := await self._next()) is not None:
                self._idle -= 1
                then = await self._attempt(work, timed)
                if timed.is_late:
                    break
                await self._go_on(then)
        if timed.is_late:
            await self._go_on(timed.then or then)
        return timed.is_late

    async def _next(self) -> Work | None:
        """The next request that may be sent now; None when the lane is closed."""
        if self._turn.taken:
            await self._turn.wait()
        self._turn.taken = True
        try:
            while not self._closed:
                if self._pool.full:
                    await self._wait_for_change(math.inf, self._pool.full_because)
                    continue
                now = self._clock.now()
                if self._pool.resting_until > now and not self._pool.ill:
                    await self._wait_for_change(self._pool.resting_until, "rest")
                    continue
                work = self._take(now)
                if work is None:
                    await self._wait_for_change(self._next_due(), "retries" if self._waiting.retrying else "input")
                elif await self._admit(work):
                    return work
            return None
        finally:
            self._turn.leave()

    def _take(self, now: float) -> Work | None:
        work = self._waiting.take(now, self._pool.concurrency)
        if self._waiting.new <= self._low_water // 2:  # the feeder is woken for many requests, not for each
            self._on_hungry()
        return work

    def _next_due(self) -> float | None:
        """When it is worth looking again; infinity when a retry is due that calls under way leave no room for."""
        due = self._waiting.next_due
        return math.inf if due is not None and due <= self._clock.now() and self.in_flight else due

    async def _wait_for_change(self, until: float | None, reason: Reason) -> None:
        """Wait until told of a change, or until then; infinity: until a call has come to its end."""
        if self._closed:
            return
        self._changed = anyio.Event()
        self._waits_for_calls = until == math.inf or self._pool.is_partly_full
        now = self._clock.now()
        self._waits.begin(reason, until, now)
        if until is None or until == math.inf:
            await self._changed.wait()
        else:
            with anyio.move_on_after(max(until - now, 0.0)):
                await self._changed.wait()
        self._waits.end(self._clock.now())
        self._waits_for_calls = False

    async def _admit(self, work: Work) -> bool:
        """Wait until the limits let ``work`` go, and charge it. False when it may not go or the lane closed."""
        refusal = self._refusal(work.request)
        if refusal is not None:
            await anyio.lowlevel.checkpoint()  # a whole queue may be refused, and the other lanes want their turn
            await self._outcome.failed(self, work, refusal, None)
            return False
        if self._outcome.afford(self, work.request) is not True and not await self._afford(work):
            return False
        if self._rate_cap:
            await self._rate_cap.acquire()
        return await self._pace(work)

    async def _afford(self, work: Work) -> bool:
        """Wait until there is money for ``work``. False when there is none to come, or the lane closed."""
        while not (verdict := self._outcome.afford(self, work.request)) and not self._closed:
            await self._wait_for_change(None, "budget")
        if isinstance(verdict, ProviderError):
            await self._outcome.failed(self, work, verdict, None)
            return False
        return verdict

    def _refusal(self, request: Request) -> ProviderError | None:
        """Why ``request`` cannot be sent here at all."""
        exhausted = self._pool.exhausted
        if exhausted:
            return exhausted
        if request.operation not in self.provider.operations:
            return Permanent(
                f"provider {self.name!r} cannot do {request.operation!r}, only {', '.join(self.provider.operations)}",
                code="unsupported_operation",
            )
        return None

    async def _pace(self, work: Work) -> bool:
        if self._pool.counts_tokens:
            try:
                work.estimate = self.provider.estimate(work.request)
            except Exception as error:  # noqa: BLE001 - a broken plugin costs its request, not the run
                await self._outcome.broke(self, work, error, None)
                return False
            limit = self._pool.oversized(work.estimate)
            if limit is not None:
                tokens = work.estimate.input_tokens + (work.estimate.output_tokens or 0)
                message = f"about {tokens} tokens are more than the whole {limit} limit of provider {self.name!r}"
                await self._outcome.failed(self, work, Permanent(message, code="over_limit"), None)
                return False
        while (wait := self._pool.wait(work.estimate, work.request)) > 0:
            if self._pool.ill and len(work.chain) > 1:
                failure = Transient(f"provider {self.name!r} is left alone for a while", code="left_alone")
                await self._outcome.failed(self, work, failure, None)
                return False
            await self._wait_for_change(self._clock.now() + wait, "rest" if self._pool.rests else "limit")
            if self._closed:
                return False
        return not self._closed

    async def _attempt(self, work: Work, timed: TimedScope) -> Next | None:
        try:
            return await self._caller.call(self, work, timed)
        finally:
            if self._waits_for_calls:
                self._changed.set()

    async def _go_on(self, then: Next | None) -> None:
        """See to what a call came to, then be idle again."""
        if then is not None:
            await then()
            if not self._idle and self._workers < self.concurrency:  # there is room for more at once than before
                self._wake()
        self._idle += 1


def pacer_of(provider: RealtimeProvider, limits: Mapping[str, float], clock: Clock) -> Pacer:
    """A pacer that counts as ``provider`` does."""
    return Pacer(limits, clock, charging=provider.charging, admission=provider.admission)


def _pool_of(spec: LaneSpec, clock: Clock, warn: Callable[[str], None]) -> Pool:
    def channel(name: str, provider: RealtimeProvider, limits: Mapping[str, float]) -> Channel:
        pacer = spec.shared_pacer or pacer_of(provider, limits, clock)
        adaptive = spec.concurrency is None
        concurrency = Adaptive(spec.most, queues=provider.queues) if adaptive else Fixed(spec.concurrency or 1)
        return Channel(name, provider, pacer, concurrency, clock, warn, is_one_of_many=bool(spec.others))

    if not spec.others:
        return Pool([channel(spec.name, spec.provider, spec.limits)])
    keys = [Key(spec.provider, spec.limits), *spec.others]
    return Pool([channel(f"{spec.name}[{at}]", key.provider, key.limits) for at, key in enumerate(keys)])
