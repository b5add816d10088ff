"""Shards that are being filled: one for each kind of requests that may share a batch. All of it blocks: call it in a
worker thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from promptmill._batching.book import OpenShard
from promptmill._batching.shards import Item, ShardItems, ShardWriter
from promptmill.batch import BatchProvider, Shard
from promptmill.errors import StorageError

MOST_OPEN: Final = 16
"""Shards that are filled at once; each holds two files open. With more models than that the oldest goes as it is."""


class Kind(NamedTuple):
    """What is the same for all requests of a shard."""

    operation: str
    model: str | None
    chain: tuple[str, ...]
    due: float | None


class Refused(NamedTuple):
    """A request that cannot be put into a batch, and why."""

    item: Item
    reason: Exception


class Filling:
    """Sorts requests into shards. ``tokens_limit`` says how many tokens a batch of a model may have, where known."""

    def __init__(
        self,
        directory: Path,
        provider: BatchProvider,
        new_tag: Callable[[], str],
        tokens_limit: Callable[[str | None], int | None],
    ) -> None:
        self._directory = directory
        self._provider = provider
        self._new_tag = new_tag
        self._tokens_limit = tokens_limit
        self._writers: dict[Kind, tuple[ShardWriter, float]] = {}

    @property
    def oldest(self) -> float | None:
        """When the oldest shard was begun; None without any."""
        return min((began for _, began in self._writers.values()), default=None)

    def add(self, items: Sequence[Item], now: float) -> tuple[list[OpenShard], list[Refused]]:
        """Write ``items``; returns the shards that became full and the requests that cannot be written.

        Raises:
            StorageError: the disk does not take them.
        """
        full: list[OpenShard] = []
        refused: list[Refused] = []
        for item in items:
            model = item.request.model or self._provider.model
            kind = Kind(item.request.operation, model, item.chain, item.due)
            try:
                tokens = self._provider.estimate(item.request).input_tokens
                writer, line = self._fitting(kind, item, tokens, now, full)
                writer.add(item, line, tokens)
            except StorageError:
                raise
            except Exception as reason:  # noqa: BLE001 - a broken plugin costs its request, not the run
                refused.append(Refused(item, reason))
        return full, refused

    def seal(self, now: float, linger: float) -> list[OpenShard]:
        """Close the shards that have lingered for so many seconds."""
        return [self._sealed(kind) for kind, (_, began) in list(self._writers.items()) if now >= began + linger]

    def drop(self) -> None:
        """Delete what is not sealed; nobody has heard of it."""
        for writer, _ in self._writers.values():
            writer.drop()
        self._writers.clear()

    def _fitting(
        self, kind: Kind, item: Item, tokens: int, now: float, full: list[OpenShard]
    ) -> tuple[ShardWriter, bytes]:
        """A writer with room for the request, and its line there. A shard that is full by that goes to ``full``."""
        if kind in self._writers:
            writer, _ = self._writers[kind]
            line = self._provider.encode(item.request, writer.next_wire_id)
            limit = self._tokens_limit(kind.model)
            if writer.has_room(line) and (limit is None or not writer.requests or writer.tokens + tokens <= limit):
                return writer, line
            full.append(self._sealed(kind))
        writer = ShardWriter(
            self._directory, self._new_tag(), self._provider.limits, operation=kind.operation, model=kind.model
        )
        try:
            line = self._provider.encode(item.request, writer.next_wire_id)
        except BaseException:
            writer.drop()
            raise
        if len(self._writers) >= MOST_OPEN:
            full.append(self._sealed(min(self._writers, key=lambda one: self._writers[one][1])))
        self._writers[kind] = writer, now
        return writer, line

    def _sealed(self, kind: Kind) -> OpenShard:
        writer, _ = self._writers.pop(kind)
        shard = writer.seal()
        return OpenShard(shard=shard, chain=kind.chain, due=kind.due, pending=shard.requests)


def part_of(
    whole: OpenShard, numbers: Sequence[int], provider: BatchProvider, tag: str, is_done: Callable[[int], bool]
) -> OpenShard | None:
    """A new shard of the requests with these numbers that have no result; None when all have. Raises StorageError."""
    shard = whole.shard
    writer = ShardWriter(shard.path.parent, tag, provider.limits, operation=shard.operation, model=shard.model)
    try:
        with ShardItems(shard.path.parent, shard.tag, shard.requests) as items:
            for number in numbers:
                item = items[number]
                if not is_done(item.request.index):
                    tokens = provider.estimate(item.request).input_tokens
                    writer.add(item, provider.encode(item.request, writer.next_wire_id), tokens)
        if not writer.requests:
            writer.drop()
            return None
        part: Shard = writer.seal()
    except BaseException:
        writer.drop()
        raise
    return OpenShard(shard=part, chain=whole.chain, due=whole.due, pending=part.requests)
