"""Shards: many requests in a file, for a provider that takes them as one batch."""

from promptmill._batching.book import Book, Forgetful, OpenShard, Shelf
from promptmill._batching.collecting import Collector
from promptmill._batching.collection import Collection, IsDone, all_of, items_of, refused_of
from promptmill._batching.desk import Desk, DeskSpec, Keeper
from promptmill._batching.enqueued import EnqueuedTokens
from promptmill._batching.filling import Filling, Refused, part_of
from promptmill._batching.harvest import NOT_DONE, Harvest, Outcome, Refusal, refusal_of
from promptmill._batching.polling import Intervals
from promptmill._batching.rescue import Rescue
from promptmill._batching.shards import (
    Item,
    ShardItems,
    ShardWriter,
    clear_files,
    clear_shard,
    new_tag,
    shards_in,
    wire_id,
    wire_path,
)

__all__ = [
    "NOT_DONE",
    "Book",
    "Collection",
    "Collector",
    "Desk",
    "DeskSpec",
    "EnqueuedTokens",
    "Filling",
    "Forgetful",
    "Harvest",
    "Intervals",
    "IsDone",
    "Item",
    "Keeper",
    "OpenShard",
    "Outcome",
    "Refusal",
    "Refused",
    "Rescue",
    "ShardItems",
    "ShardWriter",
    "Shelf",
    "all_of",
    "clear_files",
    "clear_shard",
    "items_of",
    "new_tag",
    "part_of",
    "refusal_of",
    "refused_of",
    "shards_in",
    "wire_id",
    "wire_path",
]
