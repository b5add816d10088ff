"""The shards of a run on disk and in its journal: what earlier processes left to be collected."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from anyio import to_thread

from promptmill._batching import Book, Item, OpenShard, ShardItems, clear_files, clear_shard, shards_in, wire_path
from promptmill._journal import Journal, ShardRecord, ShardState, Store
from promptmill.batch import Shard
from promptmill.files import make_directory

DIRECTORY: Final = "run/shards"
"""Below the directory of a run, among the files that are set aside together."""


class JournalShelf:
    """The shelf of a run with a journal. Make it with :func:`open_shelf`."""

    def __init__(self, journal: Journal, done: bytearray, shards: Sequence[tuple[ShardRecord, OpenShard]]) -> None:
        self.directory = journal.directory / DIRECTORY
        self._journal = journal
        self._done = done
        self._shards = shards

    def open_shards(self, provider: str) -> Sequence[OpenShard]:
        return [shard for record, shard in self._shards if record.provider == provider]

    def is_done(self, index: int) -> bool:
        return index < len(self._done) and bool(self._done[index])

    def book(self, provider: str) -> Book:
        return JournalBook(self._journal, provider)

    def items(self) -> Iterator[Item]:
        """The requests whose batch is not collected and that have no result. Blocks. Raises StorageError."""
        for _, shard in self._shards:
            yield from (item for item in _items(shard.shard) if not self.is_done(item.request.index))

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to collect."""
        return not self._shards


class JournalBook:
    """Keeps the shards of one provider in the journal."""

    def __init__(self, journal: Journal, provider: str) -> None:
        self._journal = journal
        self._provider = provider

    async def submitting(self, shard: Shard) -> None:
        await self._put(shard, "submitting")

    async def submitted(self, shard: Shard, handle: str) -> None:
        await self._put(shard, "submitted", handle)

    async def collected(self, shard: Shard) -> None:
        await self._put(shard, "collected")

    async def dropped(self, shard: Shard) -> None:
        await self._put(shard, "dropped")

    async def _put(self, shard: Shard, state: ShardState, handle: str | None = None) -> None:
        record = ShardRecord(
            tag=shard.tag,
            provider=self._provider,
            state=state,
            handle=handle,
            requests=shard.requests,
            bytes=shard.bytes,
            tokens=shard.tokens,
            operation=shard.operation,
            model=shard.model,
        )
        await self._journal.ask(lambda store: store.put_shard(record))


async def open_shelf(journal: Journal, run_id: str) -> JournalShelf:
    """Look at what earlier processes left of the run. Shards that nobody has heard of, or that hold nothing new, are
    deleted; what is named otherwise is none of ours, and left where it is.

    Raises:
        StorageError: a shard's requests cannot be read.
    """
    left = [one for one in await journal.ask(Store.shards) if one.is_open]
    # Only what is in a batch may have a result that nobody must count again; a million rows take half a second.
    done = await journal.ask(_finished) if left else bytearray()
    shards = await to_thread.run_sync(_read_all, journal.directory / DIRECTORY, run_id, left, done)
    book = {record.provider: JournalBook(journal, record.provider) for record, _ in shards}
    for record, shard in shards:
        if not shard.pending:
            await book[record.provider].collected(shard.shard)
            await to_thread.run_sync(clear_shard, shard.shard)
    return JournalShelf(journal, done, [(record, shard) for record, shard in shards if shard.pending])


async def look_at_shelf(journal: Journal) -> JournalShelf:
    """The same, and nothing is deleted or noted. Raises StorageError."""
    left = [one for one in await journal.ask(Store.shards) if one.is_open]
    done = await journal.ask(_finished) if left else bytearray()
    directory = journal.directory / DIRECTORY
    shards = [(one, await to_thread.run_sync(_open_shard, directory, one, done)) for one in left]
    return JournalShelf(journal, done, [(record, shard) for record, shard in shards if shard.pending])


def _finished(store: Store) -> bytearray:
    done = bytearray()
    for index in store.finished_indexes():
        if index >= len(done):
            done.extend(bytes(max(index + 1 - len(done), len(done))))
        done[index] = 1
    return done


def _read_all(
    directory: Path, run_id: str, records: Sequence[ShardRecord], done: bytearray
) -> list[tuple[ShardRecord, OpenShard]]:
    make_directory(directory)
    known = {record.tag for record in records}
    for tag in shards_in(directory, run_id) - known:
        clear_files(directory, tag)
    return [(record, _open_shard(directory, record, done)) for record in records]


def _open_shard(directory: Path, record: ShardRecord, done: bytearray) -> OpenShard:
    shard = Shard(
        tag=record.tag,
        path=wire_path(directory, record.tag),
        requests=record.requests,
        bytes=record.bytes,
        operation=record.operation,
        model=record.model,
        tokens=record.tokens,
    )
    pending = 0
    first: Item | None = None
    for item in _items(shard):
        first = first or item
        index = item.request.index
        pending += not (index < len(done) and done[index])
    return OpenShard(
        shard=shard,
        chain=first.chain if first else (record.provider,),
        due=first.due if first else None,
        pending=pending,
        known=True,
        handle=record.handle,
    )


def _items(shard: Shard) -> Iterator[Item]:
    with ShardItems(shard.path.parent, shard.tag, shard.requests) as items:
        yield from items
