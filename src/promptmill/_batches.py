"""The batches of one provider: each shard has a task that submits it, follows its batch to the end and collects what
there is.

What may be sent again waits until all results of its batch are safe, so that no request is ever in two shards whose
results are still to come.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final, Protocol

import anyio
import msgspec
from anyio.abc import TaskGroup

from promptmill import _stops as stops
from promptmill._batching import (
    Book,
    Collection,
    Desk,
    EnqueuedTokens,
    IsDone,
    Item,
    OpenShard,
    Rescue,
    all_of,
    clear_shard,
    part_of,
    refusal_of,
    refused_of,
)
from promptmill._causes import only_cause
from promptmill._work import BatchOutcome, Work
from promptmill.batch import BatchProvider, BatchStatus
from promptmill.clock import Clock
from promptmill.errors import (
    AuthFailed,
    NeverSent,
    Permanent,
    ProviderError,
    QuotaExhausted,
    RunStopped,
    StorageError,
    Throttled,
    Transient,
)
from promptmill.models import Response

LOOK_AGAIN_S: Final = 30.0
"""How often is looked whether there is room for more tokens: batches of other programs end too."""

MOST_REFUSALS: Final = 6
"""Batches refused in a row without naming a line, none of them accepted: then it is no line that is at fault."""

LET_GO: Final = frozenset({"batch_gone", "batch_stuck"})
"""Batches that are left alone when the user has asked to cancel all."""


class Report(Protocol):
    """What the lane makes of the requests in its batches."""

    async def succeeded(self, work: Work, response: Response, latency: float) -> None: ...

    async def failed(self, work: Work, failure: ProviderError, latency: float | None) -> None: ...


class BatchesSpec(msgspec.Struct, frozen=True, kw_only=True):
    """All that is needed to follow batches. ``cancel``: end those there are, and collect what they have."""

    name: str
    provider: BatchProvider
    desk: Desk
    book: Book
    clock: Clock
    is_done: IsDone
    new_tag: Callable[[], str]
    enqueued_tokens: int | None
    cancel: bool


class Batches:
    """Shards under way. ``on_change`` is called when one of them has come to its end."""

    def __init__(
        self, spec: BatchesSpec, report: Report, outcome: BatchOutcome, rescue: Rescue, on_change: Callable[[], None]
    ) -> None:
        self._spec = spec
        self._report = report
        self._outcome = outcome
        self._rescue = rescue
        self._on_change = on_change
        self._clock = spec.clock
        self._desk = spec.desk
        self._book = spec.book
        self._under_way: dict[str, OpenShard] = {}
        self._away: dict[str, int] = {}
        self._enqueued: dict[str | None, EnqueuedTokens] = {}
        self._refusals = 0
        self._closed = False
        self._waits: set[anyio.CancelScope] = set()
        self._changed = anyio.Event()
        self._group: TaskGroup | None = None

    def __len__(self) -> int:
        """Shards that have not come to their end."""
        return len(self._under_way)

    @property
    def submitted(self) -> int:
        """Batches the provider has."""
        return len(self._away)

    @property
    def away(self) -> int:
        """Requests in them."""
        return sum(self._away.values())

    def with_deadline(self) -> tuple[int, int]:
        """Requests, and their tokens, in shards that have a deadline."""
        shards = [one for one in self._under_way.values() if one.due is not None]
        return sum(one.pending for one in shards), sum(one.shard.tokens for one in shards)

    def tokens_limit(self, model: str | None) -> int | None:
        """The tokens that may wait in batches of ``model``, if that is known."""
        known = self._enqueued.get(model)
        return self._spec.enqueued_tokens if known is None else known.limit

    def start(self, group: TaskGroup) -> None:
        self._group = group

    def launch(self, shard: OpenShard) -> None:
        """Take a shard on its way. After :meth:`close` one that nobody has heard of is left to the next process."""
        if self._group is None or (self._closed and not shard.known):
            return
        tag = shard.shard.tag
        self._under_way[tag] = shard
        if shard.handle is not None:
            self._away[tag] = shard.pending
            self._tokens(shard).add(tag, shard.shard.tokens)
        self._group.start_soon(self._shepherd, shard, name=f"batch {tag}")

    def close(self) -> None:
        """Submit nothing more and leave batches to their provider. What is being collected is finished."""
        self._closed = True
        self._wake()
        for scope in tuple(self._waits):
            scope.cancel()

    async def _shepherd(self, shard: OpenShard) -> None:
        try:
            await self._take_through(shard)
        except StorageError as error:
            self._outcome.storage_failed(error)
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything; its batch is still there
            self._outcome.stop(self._reason(error))
        finally:
            tag = shard.shard.tag
            self._under_way.pop(tag, None)
            self._away.pop(tag, None)
            self._tokens(shard).remove(tag)
            self._wake()
            self._on_change()

    def _reason(self, error: Exception) -> RunStopped:
        if isinstance(error, AuthFailed):
            return stops.auth(self._spec.name, error)
        if isinstance(error, QuotaExhausted):
            return stops.quota(self._spec.name, error)
        if isinstance(error, ProviderError):
            return stops.batch_trouble(self._spec.name, error)
        return stops.broken(self._spec.name, error)

    async def _take_through(self, shard: OpenShard) -> None:
        again: OpenShard | None = shard
        while again is not None:
            shard, began = again, self._clock.now()
            handle = await self._submitted(shard)
            status = None if handle is None else await self._followed(shard, handle)
            if status is None:
                return
            if status.state == "failed":
                again = await self._refused(shard, status)
            else:
                self._refusals = 0
                await self._collect(shard, status, self._clock.now() - began)
                return

    async def _submitted(self, shard: OpenShard) -> str | None:
        """The handle of the batch of ``shard``; None when there is none and is to be none."""
        if shard.handle is not None:
            return shard.handle
        if self._spec.cancel:
            return await self._found(shard)
        if not shard.known and not await self._has_room(shard):
            return None
        self._tokens(shard).add(shard.shard.tag, shard.shard.tokens)
        status = await self._desk.submit(shard.shard, known=shard.known)
        self._away[shard.shard.tag] = shard.pending
        self._outcome.moved()
        return status.handle

    async def _found(self, shard: OpenShard) -> str | None:
        found = await self._desk.find(shard.shard)
        if found is not None:
            await self._book.submitted(shard.shard, found.handle)
            return found.handle
        await self._drop(shard)
        return None

    async def _has_room(self, shard: OpenShard) -> bool:
        """Wait until the provider lets as many tokens wait. False when it is not to be submitted any more."""
        while not self._closed:
            if len(shard.chain) > 1 and self._rescue.is_near(shard.chain, shard.due):
                await self._give_up(shard, "too_late", made=0)
                return False
            if self._tokens(shard).fits(shard.shard.tokens):
                return True
            await self._wait_for_change(LOOK_AGAIN_S)
        return False

    async def _followed(self, shard: OpenShard, handle: str) -> BatchStatus | None:
        """How the batch ended; None when this was left or given up before its end."""
        if self._spec.cancel:
            await self._desk.cancel(handle)
        try:
            with self._until_closed():
                if shard.due is None or len(shard.chain) == 1:
                    return await self._desk.follow(shard.shard, handle)
                return await self._followed_until(shard, handle, shard.due)
        except Permanent as failure:
            if not self._spec.cancel or failure.code not in LET_GO:
                raise
            self._outcome.warn(f"{failure.message}; it is let go")
            await self._drop(shard)
        return None

    async def _followed_until(self, shard: OpenShard, handle: str, due: float) -> BatchStatus | None:
        """Follow a batch that has a deadline: cancel it in time, and give it up when it does not end then."""
        status = await self._unless(partial(self._rescue.wait, shard.chain, due), shard, handle)
        if status is not None:
            return status
        message = "would miss the deadline: it is cancelled, and what is not done goes to the fallback"
        self._outcome.warn(f"batch {handle!r} {message}")
        await self._desk.cancel(handle)
        status = await self._unless(partial(self._rescue.wait_longer, shard.chain, due), shard, handle)
        if status is None:
            await self._give_up(shard, "batch_late", made=1)
        return status

    async def _unless(self, moment: Callable[[], Awaitable[None]], shard: OpenShard, handle: str) -> BatchStatus | None:
        """Follow a batch to its end; None when ``moment`` comes first."""
        status: BatchStatus | None = None

        async def wait() -> None:
            await moment()
            group.cancel_scope.cancel()

        try:
            async with anyio.create_task_group() as group:
                group.start_soon(wait)
                status = await self._desk.follow(shard.shard, handle)
                group.cancel_scope.cancel()
        except BaseExceptionGroup as errors:
            raise only_cause(errors) from None
        return status

    async def _collect(self, shard: OpenShard, status: BatchStatus, latency: float) -> None:
        """Take in everything the batch has to give, and only then send the rest another way."""
        collection = Collection(self._spec.provider, self._desk, shard, status, self._spec.is_done, self._clock)
        async for item, outcome in collection.final():
            work = work_of(item, made=1, now=self._clock.now())
            if isinstance(outcome, ProviderError):
                await self._report.failed(work, outcome, latency)
            else:
                await self._report.succeeded(work, outcome, latency)
            self._away[shard.shard.tag] -= 1
        for oddity in collection.oddities():
            self._outcome.warn(oddity)
        await self._outcome.flushed()
        await self._book.collected(shard.shard)
        self._away.pop(shard.shard.tag, None)
        if not self._spec.cancel:
            async for item, failure in collection.rest():
                await self._report.failed(work_of(item, made=1, now=self._clock.now()), _counted(failure), latency)
        self._outcome.moved()
        await self._desk.forget(status.handle)
        await self._clock.blocking(clear_shard, shard.shard)

    async def _give_up(self, shard: OpenShard, code: str, *, made: int) -> None:
        """Send all requests of a shard another way, whatever its batch may still come to."""
        await self._book.collected(shard.shard)
        self._away.pop(shard.shard.tag, None)
        failure = Transient("no batch could answer it before the deadline", code=code)
        async for item, failed in all_of(shard, failure, self._spec.is_done, self._clock):
            await self._report.failed(work_of(item, made=made, now=self._clock.now()), failed, 0.0 if made else None)
        await self._clock.blocking(clear_shard, shard.shard)

    async def _refused(self, shard: OpenShard, status: BatchStatus) -> OpenShard | None:
        """What to submit once more of a shard that was refused as a whole, nothing of it having run."""
        tag = shard.shard.tag
        self._away.pop(tag, None)
        if self._spec.cancel:
            await self._drop(shard)
            return None
        if isinstance(status.failure, Throttled | Transient):
            self._outcome.warn(f"batch {status.handle!r} was refused for now: {status.failure.message}")
            if self._tokens(shard).refused(tag, status.enqueued_limit):
                await self._wait_for_change(LOOK_AGAIN_S)
                return msgspec.structs.replace(shard, known=False, handle=None)
            half = shard.shard.requests // 2
            await self._split(shard, [range(half), range(half, shard.shard.requests)])
            return None
        refusal = refusal_of(status, shard.shard.requests)
        self._refusals += not refusal.bad
        if self._refusals >= MOST_REFUSALS:
            raise status.failure or Permanent("the batch failed as a whole", code="batch_failed")
        if refusal.bad:
            async for item, failure in refused_of(shard, refusal.bad, self._spec.is_done, self._clock):
                await self._report.failed(work_of(item, made=1, now=self._clock.now()), failure, 0.0)
            await self._outcome.flushed()
        await self._split(shard, refusal.parts)
        return None

    async def _split(self, shard: OpenShard, parts: Sequence[Sequence[int]]) -> None:
        """Hand in a refused shard in parts. They are on record nowhere before the whole is off it."""
        made = []
        for numbers in parts:
            part = await self._clock.blocking(
                part_of, shard, numbers, self._spec.provider, self._spec.new_tag(), self._spec.is_done
            )
            if part is not None:
                made.append(part)
        await self._drop(shard)
        for part in made:
            self.launch(part)

    async def _drop(self, shard: OpenShard) -> None:
        await self._book.dropped(shard.shard)
        await self._clock.blocking(clear_shard, shard.shard)

    def _tokens(self, shard: OpenShard) -> EnqueuedTokens:
        model = shard.shard.model
        if model not in self._enqueued:
            self._enqueued[model] = EnqueuedTokens(self._spec.enqueued_tokens)
        return self._enqueued[model]

    @contextmanager
    def _until_closed(self) -> Iterator[None]:
        with anyio.CancelScope() as scope:
            self._waits.add(scope)
            try:
                if self._closed:
                    scope.cancel()
                yield
            finally:
                self._waits.discard(scope)

    def _wake(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    async def _wait_for_change(self, seconds: float) -> None:
        changed = self._changed
        if not self._closed:
            with anyio.move_on_after(seconds):
                await changed.wait()


def work_of(item: Item, *, made: int, now: float | None = None) -> Work:
    """A request of a shard with ``made`` more calls made for it."""
    return Work(
        request=item.request,
        chain=item.chain,
        attempts=item.attempts + made,
        lane_attempts=item.lane_attempts + made,
        started=now,
        due=item.due,
    )


def _counted(failure: ProviderError) -> ProviderError:
    """Said of a line of a batch, a rate limit is as any other failure that may pass: hours have gone by."""
    if isinstance(failure, Throttled | NeverSent):
        return Transient(failure.message, code=failure.code, http_status=failure.http_status)
    return failure
