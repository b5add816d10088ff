"""The journal: the truth about a run, from which everything else can be rebuilt."""

from promptmill._journal.identity import prompt_digest, request_digest
from promptmill._journal.journal import DATABASE, Journal
from promptmill._journal.lock import Owner, RunLock
from promptmill._journal.shards import ShardRecord, ShardState
from promptmill._journal.store import Finished, Rejection, SinkState, Store, damaged

__all__ = [
    "DATABASE",
    "Finished",
    "Journal",
    "Owner",
    "Rejection",
    "RunLock",
    "ShardRecord",
    "ShardState",
    "SinkState",
    "Store",
    "damaged",
    "prompt_digest",
    "request_digest",
]
