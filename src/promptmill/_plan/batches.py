"""The work of one batch provider: how many batches it would be, and when the last of them is over at the latest."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final, NamedTuple

import msgspec

from promptmill._batching import EnqueuedTokens
from promptmill._plan.records import BatchPlan, ProviderPlan
from promptmill.batch import MAX_WIRE_ID, BatchProvider
from promptmill.clock import Clock
from promptmill.errors import ProviderError
from promptmill.models import Request, TokenEstimate
from promptmill.options import BatchProviderOptions, ProviderOptions

_WIRE_ID: Final = "x" * MAX_WIRE_ID


class Group(NamedTuple):
    """What requests of different routes have to have in common to go into one batch."""

    chain: tuple[str, ...]
    deadline_s: float | None


class Batch(msgspec.Struct):
    """A batch that would be sent. ``latest_s``: seconds from now; infinite when the provider promises nothing."""

    group: Group
    model: str | None
    requests: int = 0
    bytes: int = 0
    tokens: int = 0
    latest_s: float = math.inf


class BatchTally:
    """Sorts rows into batches as a run would that has all of them at once."""

    def __init__(self, options: ProviderOptions, provider: BatchProvider, clock: Clock) -> None:
        own = options if isinstance(options, BatchProviderOptions) else None
        self.provider = provider
        self.rows = 0
        self._refused: Counter[str] = Counter()
        self._clock = clock
        self._enqueued_tokens = own.enqueued_tokens if own else None
        self._max_batches = own.max_batches if own else BatchProviderOptions.model_fields["max_batches"].default
        self._filling: dict[tuple[str, str | None, Group], Batch] = {}
        self._batches: list[Batch] = []

    def admit(self, request: Request, group: Group) -> TokenEstimate | None:
        """Count ``request``; None when it would not be sent."""
        if request.operation not in self.provider.operations:
            self._refused["unsupported_operation"] += 1
            return None
        try:
            size = len(self.provider.encode(request, _WIRE_ID)) + 1
        except ProviderError as failure:
            self._refused[failure.code] += 1
            return None
        estimate = self.provider.estimate(request)
        batch = self._with_room(request, group, size, estimate.input_tokens)
        batch.requests += 1
        batch.bytes += size
        batch.tokens += estimate.input_tokens
        self.rows += 1
        return estimate

    def plan(self) -> ProviderPlan:
        rounds = self._take_turns()
        window = self.provider.limits.window_s
        latest = None if window is None else rounds * window
        batch = BatchPlan(
            batches=len(self._batches),
            bytes=sum(one.bytes for one in self._batches),
            tokens=sum(one.tokens for one in self._batches),
            enqueued_tokens=self._enqueued_tokens,
            rounds=rounds,
            window_s=window,
            latest_finish_s=latest,
            latest_finish=at_time(self._clock, latest),
        )
        return ProviderPlan(rows=self.rows, refused=dict(self._refused), batch=batch)

    def late(self, deadline_s: float, group: Group | None = None) -> Iterator[Batch]:
        """The batches, of ``group`` or of all, that may take longer than that. Only after :meth:`plan`."""
        return (one for one in self._batches if one.latest_s > deadline_s and group in (None, one.group))

    def _with_room(self, request: Request, group: Group, size: int, tokens: int) -> Batch:
        limits = self.provider.limits
        model = request.model or self.provider.model
        kind = (request.operation, model, group)
        batch = self._filling.get(kind)
        if batch is not None and (
            batch.requests >= limits.requests
            or batch.bytes + size > limits.bytes
            or (self._enqueued_tokens is not None and batch.tokens + tokens > self._enqueued_tokens)
        ):
            batch = None
        if batch is None:
            batch = self._filling[kind] = Batch(group, model)
            self._batches.append(batch)
        return batch

    def _take_turns(self) -> int:
        """Say when each batch is over at the latest, and how many rounds that takes."""
        number, count, window = 1, 0, self.provider.limits.window_s
        waiting: defaultdict[str | None, EnqueuedTokens] = defaultdict(self._room)
        for batch in self._batches:
            if count >= self._max_batches or not waiting[batch.model].fits(batch.tokens):
                number, count = number + 1, 0
                waiting.clear()
            waiting[batch.model].add(str(count), batch.tokens)
            count += 1
            batch.latest_s = math.inf if window is None else number * window
        return number if self._batches else 0

    def _room(self) -> EnqueuedTokens:
        return EnqueuedTokens(self._enqueued_tokens)


def at_time(clock: Clock, seconds: float | None) -> str | None:
    """The time in so many seconds (UTC), to the minute."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(clock.wall() + seconds, UTC).strftime("%Y-%m-%dT%H:%MZ")
