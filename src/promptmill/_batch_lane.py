"""The lane of a batch provider: requests are written to shards, and full or lingering shards become batches."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Final

import anyio
import msgspec
from anyio.abc import TaskGroup

from promptmill._batches import Batches, BatchesSpec, work_of
from promptmill._batching import (
    Desk,
    DeskSpec,
    Filling,
    Item,
    OpenShard,
    Refused,
    Rescue,
    Shelf,
    clear_shard,
    items_of,
    new_tag,
)
from promptmill._binding import Binding
from promptmill._channel import Traffic
from promptmill._queue import LaneQueue, Queued
from promptmill._work import BatchOutcome, Pricer, Work
from promptmill.batch import BatchProvider
from promptmill.clock import Clock
from promptmill.errors import ProviderError, QuotaExhausted, StorageError, Transient
from promptmill.models import Response, Tier, Usage

LOW_WATER: Final = 2000
"""Requests kept ready to be written; below that the lane is hungry and the feeder reads on."""

GROUP: Final = 500
"""Requests written to shards at a time."""

LOOK_AGAIN_S: Final = 30.0
"""How often a deadline is thought of while as many batches are under way as may be."""


class BatchLaneSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A batch provider and how to use it; the options are those of ``options.BatchProviderOptions``, in seconds.

    ``cancel``: send nothing; cancel the batches of earlier processes and collect what has finished of them.
    """

    name: str
    provider: BatchProvider
    shelf: Shelf
    run_id: str
    price: Pricer | None = None
    timeout: float = 3600.0
    poll_interval: float = 30.0
    linger: float = 10.0
    max_batches: int = 20
    enqueued_tokens: int | None = None
    cancel: bool = False

    def lane(self, outcome: BatchOutcome, clock: Clock, on_hungry: Callable[[], None]) -> BatchLane:
        return BatchLane(self, outcome, clock, on_hungry)


class BatchLane:
    """The queue, the shards and the batches of one provider."""

    def __init__(self, spec: BatchLaneSpec, outcome: BatchOutcome, clock: Clock, on_hungry: Callable[[], None]) -> None:
        self.name = spec.name
        self.provider = spec.provider
        self.reached = True
        self.unreached_since: float | None = None
        self.exhausted: QuotaExhausted | None = None
        self._spec = spec
        self._outcome = outcome
        self._clock = clock
        self._on_hungry = on_hungry
        self._left = tuple(spec.shelf.open_shards(spec.name))
        self._queue = LaneQueue(memory=2 * LOW_WATER)
        self._rescue = Rescue(clock, spec.provider.limits, outcome.seconds_for, self._with_deadline)
        self._batches = Batches(self._batches_spec(), self, outcome, self._rescue, self._batch_ended)
        self._filling = Filling(spec.shelf.directory, spec.provider, self._new_tag, self._batches.tokens_limit)
        self._earliest: Queued | None = None
        """The request with the nearest deadline that may go another way."""
        self._full: deque[OpenShard] = deque()
        """Shards that wait until another batch may be begun."""
        self._head: Queued | None = None
        """The request that waits for money."""
        self._in_hand = 0
        """1 while requests are between the queue and a shard."""
        self._hurry = False
        self._closed = False
        self._changed = anyio.Event()

    @property
    def held(self) -> int:
        """Requests in shards of earlier processes."""
        return sum(one.pending for one in self._left)

    @property
    def away(self) -> int:
        """Requests whose batch the provider has."""
        return self._batches.away

    @property
    def batches(self) -> int:
        """Batches the provider has."""
        return self._batches.submitted

    @property
    def in_flight(self) -> int:
        """Calls that must not be cut short: none, since what is in batches stays there."""
        return 0

    @property
    def busy(self) -> int:
        """Batches under way, and shards to be."""
        return len(self._batches) + len(self._full) + (self._filling.oldest is not None) + self._in_hand

    @property
    def retrying(self) -> int:
        return 0

    @property
    def queued(self) -> int:
        """Requests that wait to be written to a shard."""
        return len(self._queue)

    @property
    def hungry(self) -> bool:
        """Whether more requests should be read for it."""
        return not self._spec.cancel and len(self._queue) < LOW_WATER

    async def recall(self) -> None:
        """Tell of what earlier processes sent, since it may still cost something. Raises StorageError."""
        for shard in self._left:
            async for item, _ in items_of(shard, range(shard.shard.requests), self._spec.shelf.is_done, self._clock):
                self._outcome.hold(self, item.request)

    def start(self, group: TaskGroup) -> None:
        """Go on with the shards of earlier processes, and fill new ones."""
        self._batches.start(group)
        for shard in self._left:
            self._batches.launch(shard)
        if self._spec.cancel:
            self._end_if_cancelled()
        else:
            group.start_soon(self._fill, name=f"lane {self.name}")

    def put(self, queued: Queued) -> None:
        """Queue a request. Its chain begins with this lane's name."""
        if queued.due is not None and len(queued.chain) > 1:
            known = self._earliest
            self._earliest = queued if known is None or queued.due < (known.due or math.inf) else known
        self._queue.append(queued)
        self._wake()

    def resume(self, work: Work) -> None:
        """Take over a request that another lane gave up."""
        self.put(Queued(work.request, work.chain, work.attempts, 0, work.due))

    def retry(self, work: Work, after: float) -> None:  # noqa: ARG002 - a batch lingers longer than any back-off
        """Queue a request for another batch."""
        self.put(Queued(work.request, work.chain, work.attempts, work.lane_attempts, work.due))

    @property
    def traffic(self) -> Traffic:
        return Traffic()

    @property
    def binding(self) -> Binding | None:
        """A batch waits for its provider."""
        return None

    @property
    def concurrency(self) -> int:
        return 0

    @property
    def rests_for(self) -> float:
        return 0.0

    def use_up(self, failure: QuotaExhausted) -> None:
        self.exhausted = failure

    def silent_for(self) -> float:
        """A batch takes its time: never."""
        return 0.0

    def all_fed(self) -> None:
        """Nothing more comes from the input, so no shard need wait for it."""
        self._hurry = True
        self._wake()

    def too_late(self, work: Work) -> bool:
        """Whether another batch would not come back in time, and there is another way."""
        return self._is_late(work.chain, work.due)

    def seconds_for(self, requests: int, tokens: int) -> float:  # noqa: ARG002
        """How long so many requests would take: nobody knows."""
        return math.inf

    def cost(self, usage: Usage, model: str | None, tier: Tier) -> float | None:
        """USD for an answer of this lane; None when it is not known."""
        return self._spec.price(usage, model, tier) if self._spec.price else None

    def money_came_back(self) -> None:
        """Try again what could not be afforded."""
        self._wake()

    def close(self) -> None:
        """Start nothing more. Batches are left to their provider; what is being collected is finished."""
        self._closed = True
        self._batches.close()
        self._wake()

    def discard(self) -> None:
        """Drop what still waits; nothing of it was sent."""
        self._queue.close()

    async def succeeded(self, work: Work, response: Response, latency: float) -> None:
        await self._outcome.succeeded(self, work, response, latency)

    async def failed(self, work: Work, failure: ProviderError, latency: float | None) -> None:
        await self._outcome.failed(self, work, failure, latency)

    async def _fill(self) -> None:
        try:
            while not self._closed:
                changed = self._changed
                if not await self._fill_some():
                    await self._wait_for_more(changed)
        except StorageError as error:
            self._outcome.storage_failed(error)
        finally:
            with anyio.CancelScope(shield=True):
                await self._clock.blocking(self._drop)

    async def _fill_some(self) -> bool:
        """Write what waits, and send what is full or old. False when there was nothing to do."""
        items = await self._take() if self._may_take() else []
        late = [item for item in items if self._is_late(item.chain, item.due)]
        timely = [item for item in items if not self._is_late(item.chain, item.due)]
        refused: list[Refused] = []
        if timely:
            full, refused = await self._clock.blocking(self._filling.add, timely, self._clock.now())
            self._full += full
        self._in_hand = 0
        self._full += await self._ripe()
        launched = False
        while self._full and self._may_begin():
            self._batches.launch(self._full.popleft())
            launched = True
        for item in late:
            await self._refuse(item, Transient("a batch would be too late for it", code="too_late"))
        for one in refused:
            await self._refuse(one.item, one.reason)
        return bool(items) or launched

    def _drop(self) -> None:
        """Delete what nobody has heard of; the next process begins with its requests."""
        self._filling.drop()
        while self._full:
            clear_shard(self._full.pop().shard)

    async def _ripe(self) -> list[OpenShard]:
        """The shards that have waited for more requests long enough."""
        oldest, now = self._filling.oldest, self._clock.now()
        if self._hurry and (self._head or not self._queue):
            self._hurry = self._head is not None  # what comes after it is not waited for either
            return await self._clock.blocking(self._filling.seal, now, 0.0)
        if oldest is not None and now >= oldest + self._spec.linger:
            return await self._clock.blocking(self._filling.seal, now, self._spec.linger)
        return []

    def _may_take(self) -> bool:
        return not self._full and self._may_begin()

    def _may_begin(self) -> bool:
        """Whether one more batch may be begun; and when a deadline is near, in any case."""
        near = self._earliest is not None and self._is_late(self._earliest.chain, self._earliest.due)
        return near or len(self._batches) < self._spec.max_batches

    async def _take(self) -> list[Item]:
        """The next requests there is money for."""
        items: list[Item] = []
        while len(items) < GROUP and (one := self._head or self._queue.popleft()) is not None:
            self._head = None
            item = Item(one.request, one.chain, one.attempts, one.lane_attempts, one.due)
            verdict = self._outcome.afford(self, one.request)
            if isinstance(verdict, ProviderError):
                await self._refuse(item, verdict)
            elif verdict:
                items.append(item)
                self._in_hand = 1
            else:
                # What has been written is sent without waiting for more: its money may come back in time.
                self._head, self._hurry = one, True
                break
        if items and self.hungry:
            self._on_hungry()
        return items

    async def _refuse(self, item: Item, reason: Exception) -> None:
        work = work_of(item, made=0)
        if isinstance(reason, ProviderError):
            await self._outcome.failed(self, work, reason, None)
        else:
            await self._outcome.broke(self, work, reason, None)

    async def _wait_for_more(self, changed: anyio.Event) -> None:
        oldest = self._filling.oldest
        until = math.inf if oldest is None else oldest + self._spec.linger
        if self._queue or self._full:
            until = min(until, self._clock.now() + LOOK_AGAIN_S)
        with anyio.move_on_after(None if until == math.inf else max(until - self._clock.now(), 0.0)):
            await changed.wait()

    def _batch_ended(self) -> None:
        self._wake()
        self._outcome.moved()
        if self._spec.cancel:
            self._end_if_cancelled()

    def _end_if_cancelled(self) -> None:
        if not len(self._batches):
            self._outcome.lane_ended(self)

    def _is_late(self, chain: tuple[str, ...], due: float | None) -> bool:
        return len(chain) > 1 and self._rescue.is_near(chain, due)

    def _with_deadline(self) -> tuple[int, int]:
        requests, tokens = self._batches.with_deadline()
        return requests + (len(self._queue) if self._earliest is not None else 0), tokens

    def _new_tag(self) -> str:
        return new_tag(self._spec.run_id)

    def _wake(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    def _batches_spec(self) -> BatchesSpec:
        spec = self._spec
        book = spec.shelf.book(spec.name)
        desk = DeskSpec(
            provider=spec.provider,
            keeper=book,
            clock=self._clock,
            poll_interval=spec.poll_interval,
            timeout=spec.timeout,
            warn=self._outcome.warn,
        )
        return BatchesSpec(
            name=spec.name,
            provider=spec.provider,
            desk=Desk(desk),
            book=book,
            clock=self._clock,
            is_done=spec.shelf.is_done,
            new_tag=self._new_tag,
            enqueued_tokens=spec.enqueued_tokens,
            cancel=spec.cancel,
        )
