"""Makes a call, and a second one where that is wanted, and says what is to be done about how it ended."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from functools import partial

import anyio

from promptmill._channel import Passage
from promptmill._hedging import Hedge, raced
from promptmill._pool import Pool
from promptmill._retry_budget import RetryBudget
from promptmill._timeouts import Next, TimedScope, Timeouts
from promptmill._work import AnyLane, Outcome, Work
from promptmill.clock import Clock
from promptmill.errors import NeverSent, ProviderError, QuotaExhausted, Throttled, Transient
from promptmill.models import Response


class Caller:
    """Calls through ``pool``, ``timeout`` seconds each. ``hedge``: a second call is made when the first takes longer
    than this share of calls (0 to 1); None: never."""

    def __init__(
        self, pool: Pool, outcome: Outcome, clock: Clock, retries: RetryBudget, timeout: float, hedge: float | None
    ) -> None:
        self._pool = pool
        self._outcome = outcome
        self._clock = clock
        self._retries = retries
        self._timeouts = Timeouts(timeout)
        self._hedge = Hedge(hedge) if hedge else None

    async def call(self, lane: AnyLane, work: Work, scope: TimedScope) -> Next | None:
        """Make the call that ``work`` has been admitted for, within ``scope``, and return what comes next, outside of
        it if that was cancelled; None when the call may not be made."""
        retry = work.lane_attempts > 0 and not work.free
        work.attempts += 1
        work.lane_attempts += 1
        if not self._outcome.sending(lane, work):
            return None
        if work.started is None:
            work.started = self._clock.now()
        passage = self._pool.send(work.estimate)
        self._retries.sent(retry)
        try:
            return await self._called(lane, work, passage, scope)
        finally:
            self._retries.ended(retry)

    def close(self) -> None:
        """No call will be made any more."""
        self._timeouts.close()

    async def _called(self, lane: AnyLane, work: Work, passage: Passage, scope: TimedScope) -> Next:
        first, sent_at = passage, passage.charge.sent_at
        self._timeouts.begin(scope)
        try:
            response, passage = await self._complete(lane, work, passage)
            if not isinstance(response, Response):
                raise TypeError(f"complete() returned {type(response).__name__}, not a Response")
        except TimeoutError:
            return self._late(lane, work, first)
        except ProviderError as failure:
            return self._failed(lane, work, first, failure)
        except Exception as error:  # noqa: BLE001 - a broken plugin costs its request, not the run
            passage.channel.dropped(passage)
            return partial(self._outcome.broke, lane, work, error, self._clock.now() - sent_at)
        except asyncio.CancelledError as error:
            if scope.is_late:
                scope.then = self._late(lane, work, first)
                raise
            first.channel.dropped(first)
            if _is_cancelled():
                raise
            # The provider's own: let through, it would end all workers without a word, and the run with them.
            return partial(self._outcome.broke, lane, work, error, self._clock.now() - sent_at)
        except BaseException:
            first.channel.dropped(first)
            raise
        finally:
            self._timeouts.end(scope)
        lane.reached = True
        latency = passage.channel.answered(passage, response)
        if self._hedge:
            self._hedge.answered(latency)
        return partial(self._outcome.succeeded, lane, work, response, latency)

    def _late(self, lane: AnyLane, work: Work, passage: Passage) -> Next:
        failure = Transient(f"no answer within {self._timeouts.seconds:g} s", code="timeout")
        return self._failed(lane, work, passage, failure)

    def _failed(self, lane: AnyLane, work: Work, passage: Passage, failure: ProviderError) -> Next:
        latency = self._clock.now() - passage.charge.sent_at
        passage.channel.failed(passage, failure)
        work.free = isinstance(failure, Throttled | NeverSent | QuotaExhausted)
        if isinstance(failure, NeverSent):
            work.lane_attempts -= 1
            work.unsent += 1
        return partial(self._outcome.failed, lane, work, failure, latency)

    async def _complete(self, lane: AnyLane, work: Work, passage: Passage) -> tuple[Response, Passage]:
        """The answer, and the call that brought it. If that is the second, the first is over; else the second is."""
        after = self._hedge.after if self._hedge else None
        if after is None:
            return await self._asked(work, passage), passage
        second: list[Passage] = []

        async def ask_again() -> Response:
            try:
                return await self._asked(work, second[0])
            except ProviderError as failure:
                second[0].channel.failed(second.pop(), failure)
                raise

        def begin() -> Callable[[], Awaitable[Response]] | None:
            # Only what the budget of retries and the limits let go at once.
            channel = self._pool.for_second(work.estimate, passage.channel) if self._retries.allows_more() else None
            if channel is None or not self._outcome.sending_second(lane, work):
                return None
            second.append(channel.send(work.estimate))
            self._retries.sent(True)
            return ask_again

        attempts = work.attempts
        lost = second
        try:
            response, won = await raced(lambda: self._asked(work, passage), begin, after)
            if won:
                lost = [passage]
            return response, second[0] if won else passage
        finally:
            for one in lost:
                one.channel.dropped(one)
            if work.attempts > attempts:
                self._retries.ended(True)
                self._outcome.outrun(lane, work, self._clock.now() - passage.charge.sent_at - after)

    def _asked(self, work: Work, passage: Passage) -> Awaitable[Response]:
        return passage.channel.provider.complete(work.request, timeout=self._timeouts.seconds)


def _is_cancelled() -> bool:
    """Whether somebody wants this task to end, rather than what it waited for."""
    task = asyncio.current_task()
    return anyio.current_effective_deadline() == -math.inf or (task is not None and task.cancelling() > 0)
