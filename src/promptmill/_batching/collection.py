"""Taking in what a batch has to give: results at once, and what may be sent again only when those are safe."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, TypeAlias

from promptmill._batching.book import OpenShard
from promptmill._batching.desk import Desk
from promptmill._batching.harvest import Harvest
from promptmill._batching.shards import Item, ShardItems, results_directory
from promptmill.batch import BatchProvider, BatchStatus
from promptmill.clock import Clock
from promptmill.errors import Permanent, ProviderError, Transient
from promptmill.models import PRIORITIES, Response

GROUP: Final = 500

RESULTS_GONE: Final = "results_gone"
"""The provider's word that there is nothing to fetch any more; any other refusal may be mended, and stops the run."""

IsDone: TypeAlias = Callable[[int], bool]
"""Whether there is a result for the input row with this index, from an earlier process."""


class Collection:
    """The results of one batch that is over. First :meth:`final` to its end, then :meth:`rest`."""

    def __init__(
        self, provider: BatchProvider, desk: Desk, shard: OpenShard, status: BatchStatus, is_done: IsDone, clock: Clock
    ) -> None:
        self._desk = desk
        self._shard = shard
        self._status = status
        self._is_done = is_done
        self._clock = clock
        self._harvest = Harvest(provider, shard.shard, status.state, clock)
        self._held: list[tuple[int, int, ProviderError]] = []

    async def final(self) -> AsyncIterator[tuple[Item, Response | ProviderError]]:
        """Fetch the results and yield those that are final: answers, and failures that another try would not mend.

        Raises:
            ProviderError: the results cannot be fetched, and may be later.
            StorageError: they cannot be stored, or the requests of the shard cannot be read.
        """
        try:
            paths = await self._desk.fetch(self._status.handle, results_directory(self._shard.shard))
        except Permanent as failure:
            if failure.code != RESULTS_GONE:
                raise
            # The answers were paid for and cannot be had any more: only the user can say whether to pay again.
            gone = Permanent(failure.message, code=failure.code, http_status=failure.http_status)
            async for item, _ in items_of(self._shard, range(self._shard.shard.requests), self._is_done, self._clock):
                yield item, gone
            return
        async for group in self._harvest.outcomes(paths):
            for number, item, outcome in group:
                if self._is_done(item.request.index):
                    continue
                if isinstance(outcome, ProviderError) and outcome.retryable:
                    self._held.append((PRIORITIES.index(item.request.priority), number, outcome))
                else:
                    yield item, outcome

    async def rest(self) -> AsyncIterator[tuple[Item, ProviderError]]:
        """Yield the requests that may be sent again, the urgent ones first. Raises StorageError."""
        self._held.sort(key=lambda one: one[:2])
        failures = {number: failure for _, number, failure in self._held}
        async for item, number in items_of(self._shard, list(failures), self._is_done, self._clock):
            yield item, failures[number]

    def oddities(self) -> Iterator[str]:
        """What was strange about the lines, in words."""
        counts, handle = self._harvest.counts, self._status.handle
        if counts.duplicates:
            yield f"batch {handle!r} has {counts.duplicates} lines for requests that had one already; the first counts"
        if counts.unknown:
            yield f"batch {handle!r} has {counts.unknown} lines for requests that are not in it; they are left out"


async def items_of(
    shard: OpenShard, numbers: Iterable[int], is_done: IsDone, clock: Clock
) -> AsyncIterator[tuple[Item, int]]:
    """Yield those requests of a shard, with their numbers, that have no result from an earlier process.

    Raises:
        StorageError: they cannot be read.
    """
    left = iter(numbers)
    items = ShardItems(shard.shard.path.parent, shard.shard.tag, shard.shard.requests)
    await clock.blocking(items.__enter__)
    try:
        while group := list(islice(left, GROUP)):
            for item, number in await clock.blocking(_read, items, group):
                if not is_done(item.request.index):
                    yield item, number
    finally:
        items.__exit__(None, None, None)


def _read(items: ShardItems, numbers: Sequence[int]) -> list[tuple[Item, int]]:
    return [(items[number], number) for number in numbers]


async def refused_of(
    shard: OpenShard, bad: Mapping[int, ProviderError], is_done: IsDone, clock: Clock
) -> AsyncIterator[tuple[Item, ProviderError]]:
    """Yield the requests that spoil a shard, each with what is wrong with it. Raises StorageError."""
    async for item, number in items_of(shard, sorted(bad), is_done, clock):
        yield item, bad[number]


async def all_of(
    shard: OpenShard, failure: Transient, is_done: IsDone, clock: Clock
) -> AsyncIterator[tuple[Item, ProviderError]]:
    """Yield all requests of a shard, the urgent ones first, as failed in this way. Raises StorageError."""
    ranked: list[tuple[int, int]] = []
    everything = range(shard.shard.requests)
    async for item, number in items_of(shard, everything, is_done, clock):
        ranked.append((PRIORITIES.index(item.request.priority), number))
    async for item, _ in items_of(shard, [number for _, number in sorted(ranked)], is_done, clock):
        yield item, failure
