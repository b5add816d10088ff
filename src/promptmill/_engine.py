"""The way of a prompt: from the feeder through the lanes to delivery, on one task group.

::

    requests -> router -> lane queue -> worker -> provider
                             ^                       |
                             +-- backoff, fallback --+
                                                     v
              consumer <- sinks <- delivery <- results
"""

from __future__ import annotations

import traceback
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import anyio

from promptmill import _stops as stops
from promptmill._batch_lane import BatchLaneSpec
from promptmill._causes import only_cause
from promptmill._channel import rests_for_good, rests_for_long
from promptmill._delivery import Consumer, Delivery
from promptmill._engine_spec import EngineSpec, Entry
from promptmill._lane_totals import LaneTotals
from promptmill._observers import Audience
from promptmill._queue import Queued
from promptmill._results import failed_result, ok_result
from promptmill._work import AnyLane, Work
from promptmill.errors import (
    AuthFailed,
    NeverSent,
    Permanent,
    PromptmillError,
    ProviderError,
    QuotaExhausted,
    RunStopped,
    StorageError,
    Transient,
)
from promptmill.interfaces import AttemptFailed, Decision, Fail, Fallback, Retry
from promptmill.models import Request, Response, Result

UNREACHABLE_AGAIN_SECONDS: Final = 30.0
"""Wait for a provider that was reached before, when the policy has given up and there is no other."""

GRACE_SECONDS: Final = 30.0
"""How long calls in flight may take to finish after a stop: they are paid already."""


class Engine(LaneTotals):
    """Runs requests once. Make a new one for the next run."""

    def __init__(self, spec: EngineSpec, consumer: Consumer | None = None) -> None:
        self._spec = spec
        self._clock = spec.clock
        self._router = spec.router
        self._purse = spec.purse
        self._audience = Audience(spec.observers)
        self._room = anyio.Event()
        self.lanes = {one.name: one.lane(self, spec.clock, self._make_room) for one in spec.lanes}
        self._delivery = Delivery(
            spec.sinks,
            on_failure=self.storage_failed,
            consumer=consumer,
            linger=spec.ledger is not None,
        )
        self._stopping = anyio.Event()
        self._feeding = anyio.CancelScope()
        self._working = anyio.CancelScope()
        self.stopped: RunStopped | None = None
        """Why the run ended early; None while it runs, and when it came to its end."""
        self.grace = GRACE_SECONDS
        self.fed = sum(lane.held for lane in self.lanes.values())
        self.finished = 0
        self.failed_count = 0
        self._all_fed = False
        self._feed_error: Exception | None = None
        self._broken_in_a_row = 0
        self._spent_up: RunStopped | None = None
        """Set when there is no money for what is left: nothing more is sent, and what is under way is waited for."""
        self._collecting = sum(isinstance(one, BatchLaneSpec) for one in spec.lanes)

    async def run(self, entries: AsyncIterator[Sequence[Entry]]) -> None:
        """Take every request to its result, or until stopped; :attr:`stopped` tells which.

        What ``entries`` raises is raised here, after the calls in flight have finished and are delivered.
        """
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._delivery.run)
                await self._mill(entries)
                self._delivery.close()
        except BaseExceptionGroup as errors:
            raise only_cause(errors) from None
        finally:
            with anyio.CancelScope(shield=True):
                await self._delivery.drain()
            for lane in self.lanes.values():
                lane.discard()
        if self._feed_error:
            if isinstance(self._feed_error, PromptmillError):
                self._feed_error.calls_made = self.finished > 0
            raise self._feed_error

    def stop(self, reason: RunStopped, *, grace: float = GRACE_SECONDS) -> None:
        """Start nothing more, let the calls in flight finish for ``grace`` seconds, then cancel them.

        The first reason counts. Call it from the event loop's own thread.
        """
        if self.stopped is None:
            self.stopped = reason
            self.grace = grace
        for lane in self.lanes.values():
            lane.close()
        self._stopping.set()
        self._feeding.cancel()

    def abort(self, reason: RunStopped) -> None:
        """Stop, and cancel the calls in flight now."""
        self.stop(reason)
        self._working.cancel()

    async def _mill(self, entries: AsyncIterator[Sequence[Entry]]) -> None:
        async with anyio.create_task_group() as workers:
            self._working = workers.cancel_scope
            for lane in self.lanes.values():
                if self._purse:
                    await lane.recall()
                    self._purse.on_freed(lane.money_came_back)
            for lane in self.lanes.values():
                lane.start(workers)
            async with self._deadline():
                await self._feed_and_wait(entries)
            for lane in self.lanes.values():
                lane.close()
            if self.stopped:
                workers.cancel_scope.deadline = anyio.current_time() + self.grace

    @asynccontextmanager
    async def _deadline(self) -> AsyncIterator[None]:
        """Stop the run when its deadline comes."""

        async def watch(due: float) -> None:
            while (left := due - self._clock.wall()) > 0:
                await self._clock.sleep(left)
            self.stop(stops.deadline())

        async with anyio.create_task_group() as group:
            if self._spec.due is not None:
                group.start_soon(watch, self._spec.due)
            yield
            group.cancel_scope.cancel()

    async def _feed_and_wait(self, entries: AsyncIterator[Sequence[Entry]]) -> None:
        with self._feeding:
            try:
                await self._feed(entries)
            except Exception as error:  # noqa: BLE001 - raised again when what is paid for is safe
                self._feed_error = error
                self.stop(RunStopped(f"the input failed: {error}", code="E0307", exit_code=2))
            self._all_fed = True
            for lane in self.lanes.values():
                lane.all_fed()
            self._end_if_done()
            await self._stopping.wait()

    async def _feed(self, entries: AsyncIterator[Sequence[Entry]]) -> None:
        async for group in entries:
            for entry in group:
                self.fed += 1
                if isinstance(entry, Result):
                    await self._finish(entry)
                else:
                    while not self._has_room():
                        self._room = anyio.Event()
                        await self._room.wait()
                    number = self._router.number(entry)
                    chain = self._router.chains[number]
                    self.lanes[chain[0]].put(Queued(entry, chain, due=self._spec.dues.get(number)))

    def _has_room(self) -> bool:
        return True in [lane.hungry for lane in self.lanes.values()]

    def _make_room(self) -> None:
        self._room.set()

    def _end_if_done(self) -> None:
        if self._stopping.is_set():
            return
        if self._spent_up:
            busy = sum(lane.busy for lane in self.lanes.values())
            if busy <= (self.batches if self._spec.detach else 0):
                self.stop(self._spent_up)
            return
        if self._all_fed and self.finished == self.fed:
            self._stopping.set()
        elif self._may_leave and self.away and self.finished + self.away == self.fed:
            self.stop(stops.detached(self.away, self.batches))

    @property
    def _may_leave(self) -> bool:
        return self._spec.detach and (self._all_fed or self._spec.all_read())

    # What becomes of an attempt: called by the lanes.

    def sending(self, lane: AnyLane, work: Work) -> bool:
        """Whether an attempt may be made; notes that it is."""
        ledger = self._spec.ledger
        if ledger is None:
            return True
        reserved, scopes = self._purse.reserved(work.request) if self._purse else (0.0, ())
        try:
            ledger.sending(work.request, work.attempts, lane.name, reserved, scopes)
        except StorageError as error:
            self.storage_failed(error)
            return False
        return True

    async def succeeded(self, lane: AnyLane, work: Work, response: Response, latency: float) -> None:
        self._broken_in_a_row = 0
        result = ok_result(lane, work, response, latency)
        if self._purse:
            self._purse.settle(work.request, result.cost_usd)
        if self._spec.ledger:
            self._spec.ledger.received(work.request, result, response.body)
        self._note_spent()
        await self._finish(result)

    async def failed(self, lane: AnyLane, work: Work, failure: ProviderError, latency: float | None) -> None:
        if self._purse and self._purse.failed(work.request, failure):
            self._note_spent()
        if self._spec.ledger and latency is not None:
            self._spec.ledger.refused(work.request)
        if isinstance(failure, AuthFailed):
            self.stop(stops.auth(lane.name, failure))
            return
        if isinstance(failure, QuotaExhausted):
            lane.use_up(failure)
            decision: Decision = Fallback() if lane.exhausted else Retry(0.0)
        elif isinstance(failure, NeverSent) and self._unreachable(lane, work):
            self.stop(stops.unreachable(lane.name, failure))
            return
        else:
            if latency is None:
                # Refused here, without a call: that says nothing about the provider, and repeating it changes nothing.
                decision = Fallback()
            else:
                lane.reached = lane.reached or not isinstance(failure, NeverSent)
                elapsed = self._clock.now() - (work.started or 0.0)
                attempts = work.unsent if isinstance(failure, NeverSent) else work.lane_attempts
                decision = self._spec.policy.decide(failure, attempts, elapsed)
        if isinstance(decision, Retry) and lane.too_late(work):
            decision = Fallback()
        if isinstance(decision, Fallback) and len(work.chain) == 1 and latency is not None:
            decision = self._last_way_out(lane, work, failure)
        self._tell_attempt_failed(lane, work, failure, latency, decision)
        if lane.silent_for() >= stops.PATIENCE_SECONDS and len(work.chain) == 1:
            self.stop(stops.silent(lane.name, failure))
        elif isinstance(decision, Retry):
            lane.retry(work, decision.after)
            self._end_if_done()  # there may be no money to send it again
        elif isinstance(decision, Fallback) and len(work.chain) > 1:
            chain = work.chain[1:]
            self.lanes[chain[0]].resume(Work(request=work.request, chain=chain, attempts=work.attempts, due=work.due))
        elif isinstance(failure, QuotaExhausted) or rests_for_good(failure):
            self.stop(stops.quota(lane.name, failure))
        elif isinstance(failure, NeverSent) and not lane.reached:
            self.stop(stops.unreachable(lane.name, failure))
        else:
            await self._fail(lane, work, failure, latency)

    def _last_way_out(self, lane: AnyLane, work: Work, failure: ProviderError) -> Decision:
        """The policy would go elsewhere and there is nowhere: a request is not failed for what is not its fault."""
        if isinstance(failure, NeverSent) and lane.reached:
            return Retry(UNREACHABLE_AGAIN_SECONDS)
        if rests_for_long(failure) and not rests_for_good(failure):
            work.started = None  # the patience of a policy is for a provider that throttles, not for one that rests
            return Retry(failure.retry_after or 0.0)
        return Fallback()

    async def broke(self, lane: AnyLane, work: Work, error: BaseException, latency: float | None) -> None:
        """The provider raised something that is no ProviderError: its bug, this request's bad luck."""
        trace = "".join(traceback.format_exception(error, limit=-3))
        failure = Permanent(f"provider {lane.name!r} raised {trace}", code="provider_bug")
        self._tell_attempt_failed(lane, work, failure, latency, Fail())
        if self._purse and latency is not None:
            self._purse.settle(work.request, None)
            self._note_spent()
        await self._fail(lane, work, failure, latency)
        self._broken_in_a_row += 1
        if self._broken_in_a_row >= stops.BROKEN_IN_A_ROW:
            self.stop(stops.broken_again(lane.name, error))

    async def _fail(self, lane: AnyLane, work: Work, failure: ProviderError, latency: float | None) -> None:
        result = failed_result(lane, work, failure, latency)
        if self._spec.ledger:
            self._spec.ledger.received(work.request, result, b"")
        await self._finish(result)

    async def _finish(self, result: Result) -> None:
        self.finished += 1
        self.failed_count += result.status == "failed"
        if self._audience:
            self._audience.tell(lambda observer: observer.request_finished(result))
        self._end_if_done()
        limit = self._spec.stop_when
        if limit and not self._stopping.is_set() and limit.is_passed(self.failed_count, self.finished):
            self.stop(stops.failure_rate(self.failed_count, self.finished, limit.failure_rate))
        await self._delivery.put(result)

    def _unreachable(self, lane: AnyLane, work: Work) -> bool:
        """Whether the provider has never been reached, for long enough, with nowhere else to go."""
        if lane.reached or len(work.chain) > 1:
            return False
        now = self._clock.now()
        if lane.unreached_since is None:
            lane.unreached_since = now
        return now - lane.unreached_since >= stops.UNREACHABLE_SECONDS

    def _tell_attempt_failed(
        self, lane: AnyLane, work: Work, failure: ProviderError, latency: float | None, decision: Decision
    ) -> None:
        if not self._audience:
            return
        event = AttemptFailed(
            request_id=work.request.id,
            provider=lane.name,
            attempt=work.attempts,
            failure=failure,
            latency_s=latency,
            retry_in=decision.after if isinstance(decision, Retry) else None,
        )
        self._audience.tell(lambda observer: observer.attempt_failed(event))

    def afford(self, lane: AnyLane, request: Request) -> bool | ProviderError:
        """Set aside what ``request`` may cost. When there will never be enough, the run ends with what is under way."""
        if self._purse is None:
            return True
        if self._spent_up:
            return False
        verdict = self._purse.afford(lane, request)
        if verdict is False and (scope := self._purse.used_up(lane, request)):
            self._spent_up = stops.budget(scope)
            self._end_if_done()
        return verdict

    def sending_second(self, lane: AnyLane, work: Work) -> bool:
        """Whether another call may be made besides the one that takes long; notes that it is."""
        if self._spent_up or (self._purse and not self._purse.afford_second(lane, work.request)):
            return False
        work.attempts += 1
        return self.sending(lane, work)

    def outrun(self, lane: AnyLane, work: Work, latency: float) -> None:
        """Of two calls for a request this one was not needed."""
        failure = Transient("another call for the same request was quicker", code="outrun")
        self._tell_attempt_failed(lane, work, failure, latency, Fail())

    def _note_spent(self) -> None:
        if self._purse and self._spec.ledger:
            self._spec.ledger.spent(self._purse.spent())

    # What lanes ask for whose requests go on without this process.

    def warn(self, message: str) -> None:
        """Tell observers of something that is not as it should be."""
        self._audience.tell(lambda observer: observer.warned(message))

    def hold(self, lane: AnyLane, request: Request) -> None:
        """Count the cost of a request that an earlier process sent as set aside."""
        if self._purse:
            self._purse.hold(lane, request)

    def moved(self) -> None:
        """More requests, or fewer, are away now."""
        self._end_if_done()

    def lane_ended(self, lane: AnyLane) -> None:  # noqa: ARG002
        """A lane that only collects has nothing left to collect."""
        self._collecting -= 1
        if not self._collecting and not self._stopping.is_set():
            self.stop(stops.batches_cancelled(self.fed - self.finished))

    def seconds_for(self, chain: tuple[str, ...], requests: int, tokens: int) -> float:
        """How long so many requests with so many tokens would take at the first of these providers."""
        return self.lanes[chain[0]].seconds_for(requests, tokens)

    async def flushed(self) -> None:
        """Return when every result so far is stored. Raises StorageError when one cannot be."""
        await self._delivery.flush()

    def storage_failed(self, error: StorageError) -> None:
        """Stop, since results cannot be stored as they should."""
        self.stop(RunStopped(error.message, code=error.code, exit_code=error.exit_code, hint=error.hint))
