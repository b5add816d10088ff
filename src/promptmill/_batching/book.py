"""What is remembered of shards, wherever it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from promptmill._batching.desk import Keeper
from promptmill.batch import Shard


class OpenShard(msgspec.Struct, frozen=True, kw_only=True):
    """A shard whose results are still to come.

    ``known``: its provider may have it; ``handle``: it has, under this name. All its requests have the same ``chain``
    of providers and the same deadline ``due`` (seconds since the epoch). ``pending`` is how many have no result yet.
    """

    shard: Shard
    chain: tuple[str, ...]
    due: float | None
    pending: int
    known: bool = False
    handle: str | None = None


class Book(Keeper, Protocol):
    """The shards of one provider. All methods raise StorageError."""

    async def collected(self, shard: Shard) -> None:
        """Every result there was is safe: nothing more comes from ``shard``."""
        ...

    async def dropped(self, shard: Shard) -> None:
        """The provider has nothing of ``shard``, and its requests go another way."""
        ...


class Shelf(Protocol):
    """Where the files of shards lie, and what is known of those of earlier processes."""

    directory: Path

    def open_shards(self, provider: str) -> Sequence[OpenShard]:
        """Those of earlier processes that have requests without a result."""
        ...

    def is_done(self, index: int) -> bool:
        """Whether an earlier process has a result for the input row ``index``."""
        ...

    def book(self, provider: str) -> Book: ...


class Forgetful:
    """A shelf that lives as long as the process: for a pipeline without a journal, on a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def open_shards(self, provider: str) -> Sequence[OpenShard]:  # noqa: ARG002 - there are none
        return ()

    def is_done(self, index: int) -> bool:  # noqa: ARG002
        return False

    def book(self, provider: str) -> Book:  # noqa: ARG002
        return _NoBook()


class _NoBook:
    async def submitting(self, shard: Shard) -> None:
        pass

    async def submitted(self, shard: Shard, handle: str) -> None:
        pass

    async def collected(self, shard: Shard) -> None:
        pass

    async def dropped(self, shard: Shard) -> None:
        pass
