"""One configured provider: its queue, its limits, its workers.

A lane never holds another one up. Workers take turns at the head of the queue: the one whose turn it is waits for work
and for the pacer, the others wait for their turn, so there is one waiter a lane and no task a request.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping

import anyio
import msgspec
from anyio.abc import TaskGroup

from promptmill._queue import LaneQueue, Queued
from promptmill._quota import Pacer
from promptmill._ratecap import RateCap
from promptmill._retry import BackoffHeap
from promptmill._work import Outcome, Pricer, Work
from promptmill.clock import Clock
from promptmill.errors import Permanent, ProviderError, QuotaExhausted, StorageError, Transient
from promptmill.interfaces import RealtimeProvider
from promptmill.models import Request, Response, Tier, TokenEstimate, Usage

QUEUE_AHEAD = 2
"""Requests kept ready for each worker; below that the lane is hungry and the feeder reads on."""

LEAST_AHEAD = 64

BACKOFF_AHEAD = 4
"""Requests that may wait for another attempt, for each worker; with more, no new one is begun. An outage then costs
as many calls as there are workers, not as many as there are requests, and memory stays bounded."""


ASSUMED_LATENCY_S = 5.0
"""Seconds a call is taken to last before one has been made."""

NEW_SHARE = 0.1
"""The weight of each call in the running mean of latencies."""


class LaneSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A provider and how to use it. ``timeout`` in seconds a call; ``limits`` by name as in ``options.Limits``."""

    name: str
    provider: RealtimeProvider
    concurrency: int
    timeout: float
    limits: Mapping[str, float] = {}
    calls_per_second: float | None = None
    price: Pricer | None = None

    def lane(self, outcome: Outcome, clock: Clock, on_hungry: Callable[[], None]) -> Lane:
        return Lane(self, outcome, clock, on_hungry)


class Lane:
    """The queue and the workers of one provider."""

    def __init__(self, spec: LaneSpec, outcome: Outcome, clock: Clock, on_hungry: Callable[[], None]) -> None:
        self.name = spec.name
        self.provider = spec.provider
        self.concurrency = spec.concurrency
        self.in_flight = 0
        self.reached = False
        """Whether the provider has ever answered anything."""
        self.unreached_since: float | None = None
        self.exhausted: QuotaExhausted | None = None
        self._price = spec.price
        self._timeout = spec.timeout
        self._outcome = outcome
        self._clock = clock
        self._on_hungry = on_hungry
        self._low_water = max(QUEUE_AHEAD * spec.concurrency, LEAST_AHEAD)
        self._most_retrying = max(BACKOFF_AHEAD * spec.concurrency, LEAST_AHEAD)
        self._paused_until = -math.inf
        self._queue = LaneQueue(memory=2 * self._low_water)
        self._backoff: BackoffHeap[Work] = BackoffHeap()
        self._pacer = Pacer(spec.limits, clock)
        self._rate_cap = RateCap(spec.calls_per_second) if spec.calls_per_second else None
        self._turn = anyio.Lock(fast_acquire=True)
        self._changed = anyio.Event()
        self._group: TaskGroup | None = None
        self._workers = 0
        self._idle = 0
        self._closed = False
        self._latency: float | None = None

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
        return len(self._queue) < self._low_water

    @property
    def busy(self) -> int:
        return self.in_flight

    @property
    def retrying(self) -> int:
        """Requests that wait for their next attempt."""
        return len(self._backoff)

    @property
    def queued(self) -> int:
        """Requests that wait for their first attempt here."""
        return len(self._queue)

    async def recall(self) -> None:
        """Nothing outlives a process here."""

    def start(self, group: TaskGroup) -> None:
        """Let workers run in ``group``, as many as are needed, up to the concurrency."""
        self._group = group

    def put(self, queued: Queued) -> None:
        """Queue a request. Its chain begins with this lane's name."""
        self._queue.append(queued)
        self._wake()

    def resume(self, work: Work) -> None:
        """Take over a request that another lane gave up. It goes first: it has waited long enough.

        When many wait already it is queued, where the disk holds what memory should not.
        """
        if len(self._backoff) < self._most_retrying:
            self._backoff.push(work, self._clock.now())
        else:
            self._queue.append(Queued(work.request, work.chain, work.attempts, 0, work.due))
        self._wake()

    def retry(self, work: Work, after: float) -> None:
        """Queue another attempt, due ``after`` seconds from now."""
        self._backoff.push(work, self._clock.now() + after)
        self._wake()

    def pause(self, seconds: float) -> None:
        """Begin nothing for a while: the provider asked to be left alone, and means all calls alike."""
        self._paused_until = max(self._paused_until, self._clock.now() + seconds)

    def all_fed(self) -> None:
        """Nothing to do: a request never waits for others."""

    def too_late(self, work: Work) -> bool:  # noqa: ARG002 - the sooner the better, also after a deadline
        """Never."""
        return False

    def seconds_for(self, requests: int, tokens: int) -> float:
        """About how long so many more requests with so many tokens would take here."""
        count = requests + len(self._queue) + len(self._backoff)
        latency = ASSUMED_LATENCY_S if self._latency is None else self._latency
        each = TokenEstimate(tokens // max(requests, 1), 0)
        return max(latency * (1 + count / self.concurrency), self._pacer.seconds_for(count, each))

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
        self._queue.close()

    def _wake(self) -> None:
        self._changed.set()
        waiting = len(self._queue) + len(self._backoff)
        if self._idle <= waiting and self._workers < self.concurrency and self._group and not self._closed:
            self._workers += 1
            self._idle += 1
            self._group.start_soon(self._work, name=f"lane {self.name}")

    async def _work(self) -> None:
        try:
            while (work := await self._next()) is not None:
                self._idle -= 1
                await self._attempt(work)
                self._idle += 1
        except StorageError as error:  # of a queue on disk: what is in flight is paid and must not be cancelled for it
            self._outcome.storage_failed(error)

    async def _next(self) -> Work | None:
        """The next request that may be sent now; None when the lane is closed."""
        async with self._turn:
            while not self._closed:
                if self._paused_until > self._clock.now():
                    await self._wait_for_change(self._paused_until)
                    continue
                work = self._take()
                if work is None:
                    await self._wait_for_change(self._backoff.next_due)
                elif await self._admit(work):
                    return work
            return None

    def _take(self) -> Work | None:
        work = self._backoff.pop_due(self._clock.now())
        if work is None and len(self._backoff) < self._most_retrying:
            queued = self._queue.popleft()
            if queued is not None:
                work = Work(request=queued.request, chain=queued.chain, attempts=queued.attempts, due=queued.due)
            if self.hungry:
                self._on_hungry()
        return work

    async def _wait_for_change(self, until: float | None) -> None:
        if self._closed:
            return
        self._changed = anyio.Event()
        if until is None:
            await self._changed.wait()
        else:
            with anyio.move_on_after(max(until - self._clock.now(), 0.0)):
                await self._changed.wait()

    async def _admit(self, work: Work) -> bool:
        """Wait until the limits let ``work`` go, and charge it. False when it may not go or the lane closed."""
        refusal = self._refusal(work.request)
        if refusal is not None:
            await anyio.lowlevel.checkpoint()  # a whole queue may be refused, and the other lanes want their turn
            await self._outcome.failed(self, work, refusal, None)
            return False
        if not await self._afford(work):
            return False
        if self._rate_cap:
            await self._rate_cap.acquire()
        if self._pacer:
            return await self._pace(work)
        return not self._closed

    async def _afford(self, work: Work) -> bool:
        """Wait until there is money for ``work``. False when there is none to come, or the lane closed."""
        while not (verdict := self._outcome.afford(self, work.request)) and not self._closed:
            await self._wait_for_change(None)
        if isinstance(verdict, ProviderError):
            await self._outcome.failed(self, work, verdict, None)
            return False
        return verdict

    def _refusal(self, request: Request) -> ProviderError | None:
        """Why ``request`` cannot be sent here at all."""
        if self.exhausted:
            return self.exhausted
        if request.operation not in self.provider.operations:
            return Permanent(
                f"provider {self.name!r} cannot do {request.operation!r}, only {', '.join(self.provider.operations)}",
                code="unsupported_operation",
            )
        return None

    async def _pace(self, work: Work) -> bool:
        try:
            estimate = self.provider.estimate(work.request)
        except Exception as error:  # noqa: BLE001 - a broken plugin costs its request, not the run
            await self._outcome.broke(self, work, error, None)
            return False
        limit = self._pacer.oversized(estimate)
        if limit is not None:
            tokens = estimate.input_tokens + (estimate.output_tokens or 0)
            message = f"about {tokens} tokens are more than the whole {limit} limit of provider {self.name!r}"
            await self._outcome.failed(self, work, Permanent(message, code="over_limit"), None)
            return False
        while (wait := self._pacer.wait(estimate)) > 0:
            await self._wait_for_change(self._clock.now() + wait)
            if self._closed:
                return False
        self._pacer.charge(estimate)
        return not self._closed

    async def _attempt(self, work: Work) -> None:
        work.attempts += 1
        work.lane_attempts += 1
        if not self._outcome.sending(self, work):
            return
        started = self._clock.now()
        if work.started is None:
            work.started = started
        self.in_flight += 1
        try:
            with anyio.fail_after(self._timeout):
                response = await self.provider.complete(work.request, timeout=self._timeout)
            if not isinstance(response, Response):
                raise TypeError(f"complete() returned {type(response).__name__}, not a Response")
        except TimeoutError:
            failure = Transient(f"no answer within {self._timeout:g} s", code="timeout")
            outcome = self._outcome.failed(self, work, failure, self._clock.now() - started)
        except ProviderError as failure:
            outcome = self._outcome.failed(self, work, failure, self._clock.now() - started)
        except Exception as error:  # noqa: BLE001 - a broken plugin costs its request, not the run
            outcome = self._outcome.broke(self, work, error, self._clock.now() - started)
        except asyncio.CancelledError as error:
            if _is_cancelled():
                raise
            # The provider's own: let through, it would end all workers without a word, and the run with them.
            outcome = self._outcome.broke(self, work, error, self._clock.now() - started)
        else:
            self.reached = True
            latency = self._clock.now() - started
            self._latency = latency if self._latency is None else self._latency + NEW_SHARE * (latency - self._latency)
            outcome = self._outcome.succeeded(self, work, response, latency)
        finally:
            self.in_flight -= 1
        await outcome


def _is_cancelled() -> bool:
    """Whether somebody wants this task to end, rather than what it waited for."""
    task = asyncio.current_task()
    return anyio.current_effective_deadline() == -math.inf or (task is not None and task.cancelling() > 0)
