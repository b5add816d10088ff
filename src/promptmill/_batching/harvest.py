"""What became of each request of a batch that is over: every one once, from whatever came back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from promptmill._batching.collecting import Collector
from promptmill._batching.shards import Item, ShardItems
from promptmill.batch import BatchProvider, BatchState, BatchStatus, LineProblem, Shard
from promptmill.clock import Clock
from promptmill.errors import Permanent, ProviderError, Transient
from promptmill.models import Response

GROUP: Final = 500
"""Requests without a line that are reported at a time."""

Outcome: TypeAlias = tuple[int, Item, Response | ProviderError]
"""The number of a request in its shard, the request, and what became of it."""

NOT_DONE: Final = frozenset({"batch_missing", "batch_expired", "batch_cancelled", "batch_failed", "too_late"})
"""Codes of failures of requests that were not carried out, and so not billed."""

_WHY_MISSING: Final[Mapping[BatchState, tuple[str, str]]] = {
    "completed": ("batch_missing", "the batch is complete and has no line for this request"),
    "expired": ("batch_expired", "the batch expired before this request was done"),
    "cancelled": ("batch_cancelled", "the batch was cancelled before this request was done"),
    "failed": ("batch_failed", "the batch failed as a whole and nothing of it ran"),
}


class Harvest:
    """Reads what was downloaded of one batch. ``counts`` is there when it has been read to its end."""

    def __init__(self, provider: BatchProvider, shard: Shard, state: BatchState, clock: Clock) -> None:
        self._provider = provider
        self._shard = shard
        self._state = state
        self._clock = clock
        self.counts = Collector(shard.tag, shard.requests)

    async def outcomes(self, paths: Sequence[Path]) -> AsyncIterator[Sequence[Outcome]]:
        """Yield each request of the shard once: those with a line first, in the order of the lines, then the others.

        Those without a line failed in a way that may be tried again, since nothing was done for them.

        Raises:
            StorageError: the requests of the shard cannot be read.
        """
        items = ShardItems(self._shard.path.parent, self._shard.tag, self._shard.requests)
        await self._clock.blocking(items.__enter__)
        try:
            for path in paths:
                async for lines in self._provider.read(path):
                    taken = [(self.counts.take(line.wire_id), line.outcome) for line in lines]
                    found = [(number, outcome) for number, outcome in taken if number is not None]
                    if found:
                        yield await self._clock.blocking(_with_items, items, found)
            missing = self.counts.missing()
            while numbers := list(islice(missing, GROUP)):
                found = [(number, self._missing()) for number in numbers]
                yield await self._clock.blocking(_with_items, items, found)
        finally:
            items.__exit__(None, None, None)

    def _missing(self) -> ProviderError:
        code, message = _WHY_MISSING[self._state]
        return Transient(message, code=code)


def _with_items(items: ShardItems, found: Sequence[tuple[int, Response | ProviderError]]) -> list[Outcome]:
    return [(number, items[number], outcome) for number, outcome in found]


class Refusal(msgspec.Struct, frozen=True):
    """What to make of a batch that its provider refused as a whole.

    ``bad`` has the requests at fault, by number, which fail for good; ``parts`` the numbers of the others, each part to
    be handed in as a shard of its own.
    """

    bad: Mapping[int, ProviderError]
    parts: Sequence[Sequence[int]]


def refusal_of(status: BatchStatus, requests: int) -> Refusal:
    """Find the requests that spoil a batch: by the lines the provider names, else by halves."""
    everything = range(requests)
    bad = {
        problem.line - 1: _at_fault(problem)
        for problem in status.problems
        if problem.line is not None and 0 < problem.line <= requests
    }
    if bad:
        rest = [number for number in everything if number not in bad]
        return Refusal(bad, [rest] if rest else [])
    if requests <= 1:
        problem = next(iter(status.problems), LineProblem(code="batch_failed", message="the batch failed"))
        return Refusal(dict.fromkeys(everything, _at_fault(problem)), [])
    half = requests // 2
    return Refusal({}, [everything[:half], everything[half:]])


def _at_fault(problem: LineProblem) -> ProviderError:
    return Permanent(problem.message, code=problem.code)
