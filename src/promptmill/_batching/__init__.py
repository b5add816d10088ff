"""Shards: many requests in a file, for a provider that takes them as one batch."""

from promptmill._batching.collecting import Collector
from promptmill._batching.desk import Desk, DeskSpec, Keeper
from promptmill._batching.polling import Intervals
from promptmill._batching.shards import Item, ShardItems, ShardWriter, new_tag, wire_id

__all__ = [
    "Collector",
    "Desk",
    "DeskSpec",
    "Intervals",
    "Item",
    "Keeper",
    "ShardItems",
    "ShardWriter",
    "new_tag",
    "wire_id",
]
