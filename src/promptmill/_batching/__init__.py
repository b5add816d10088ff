"""Shards: many requests in a file, for a provider that takes them as one batch."""

from promptmill._batching.collecting import Collector
from promptmill._batching.desk import Desk, DeskSpec, Keeper
from promptmill._batching.enqueued import EnqueuedTokens
from promptmill._batching.harvest import Harvest, Outcome, Refusal, refusal_of
from promptmill._batching.polling import Intervals
from promptmill._batching.shards import Item, ShardItems, ShardWriter, new_tag, wire_id

__all__ = [
    "Collector",
    "Desk",
    "DeskSpec",
    "EnqueuedTokens",
    "Harvest",
    "Intervals",
    "Item",
    "Keeper",
    "Outcome",
    "Refusal",
    "ShardItems",
    "ShardWriter",
    "new_tag",
    "refusal_of",
    "wire_id",
]
