"""The shards of a run: requests that were sent, or are about to be sent, as one batch of a provider.

A shard gets its row before its provider hears of it, so that no process ever makes a second batch of it unasked.
"""

from __future__ import annotations

import re
import sqlite3
from typing import Final, Literal, TypeAlias

import msgspec

ShardState: TypeAlias = Literal["submitting", "submitted", "collected", "dropped"]
"""``submitting``: the provider may have it, look it up; ``submitted``: it has it, under ``handle``; ``collected``:
every result there was is in the journal; ``dropped``: the provider surely has nothing of it, and its requests are
pending again."""

_TAG: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")

OPEN_STATES: Final[frozenset[ShardState]] = frozenset({"submitting", "submitted"})


class ShardRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One shard. ``tokens`` is the estimate of its input, what a provider counts as enqueued."""

    tag: str
    provider: str
    state: ShardState
    handle: str | None = None
    requests: int
    bytes: int
    tokens: int
    operation: str
    model: str | None

    @property
    def is_open(self) -> bool:
        """Whether results of it may still come."""
        return self.state in OPEN_STATES


_PUT: Final = """
INSERT OR REPLACE INTO shard (tag, provider, state, handle, requests, bytes, tokens, operation, model)
VALUES (:tag, :provider, :state, :handle, :requests, :bytes, :tokens, :operation, :model)
"""
_READ: Final = "SELECT tag, provider, state, handle, requests, bytes, tokens, operation, model FROM shard ORDER BY tag"


def put_shard(run: sqlite3.Connection, shard: ShardRecord) -> None:
    """Write a shard as it is now, inside a transaction."""
    run.execute(_PUT, msgspec.structs.asdict(shard))


def read_shards(run: sqlite3.Connection) -> list[ShardRecord]:
    """All shards, by tag. Raises ValueError for a tag that is none of ours: files are named by it."""
    shards = [ShardRecord(**dict(zip(ShardRecord.__struct_fields__, row, strict=True))) for row in run.execute(_READ)]
    for shard in shards:
        if not (isinstance(shard.tag, str) and _TAG.fullmatch(shard.tag)):
            raise ValueError(f"{shard.tag!r} cannot be the tag of a batch")
    return shards
