"""What a batch provider implements, and the words it speaks.

A batch provider takes many requests in one file and answers hours later at a lower price. The engine collects requests
into shards on disk, one provider batch each, and names every shard by a tag. Nothing a provider does here may be
repeated blindly: :meth:`BatchProvider.create` is called again only when :meth:`BatchProvider.find` finds no such tag.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec

from promptmill.errors import ProviderError
from promptmill.interfaces import Provider
from promptmill.models import Request, Response

MAX_WIRE_ID: Final = 64
"""Longest id of a line that every known provider takes; of letters, digits, ``_`` and ``-``."""

BatchState: TypeAlias = Literal["pending", "running", "cancelling", "completed", "failed", "expired", "cancelled"]
"""``failed`` means refused as a whole before anything ran. The last four are final; each may come with results."""

FINAL_STATES: Final[frozenset[BatchState]] = frozenset({"completed", "failed", "expired", "cancelled"})


class BatchLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one batch may hold. ``bytes`` of the file; ``window_s`` the seconds a batch may take, None: no promise;
    ``cancel_s`` the seconds its end may take once it is cancelled."""

    requests: int
    bytes: int
    window_s: float | None = None
    cancel_s: float = 600.0


class Shard(msgspec.Struct, frozen=True, kw_only=True):
    """A closed file of requests. ``tag`` is its name for ever, unique over runs; ``model`` is that of every line;
    ``tokens`` is the estimate of their input."""

    tag: str
    path: Path
    requests: int
    bytes: int
    operation: str
    model: str | None
    tokens: int = 0


class LineProblem(msgspec.Struct, frozen=True, kw_only=True):
    """Why a batch failed as a whole. ``line`` is the 1-based line of the file that is at fault, when it is known."""

    code: str
    message: str
    line: int | None = None


class BatchStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider says about a batch.

    ``raw_state`` is its own word. Counts are None while it does not say; they may lag behind. ``expires_in`` are the
    seconds until the provider gives up, by its own clock. ``failure`` says, for a batch that failed as a whole, whether
    the same file may be sent again later (Throttled, Transient) or not (Permanent); ``enqueued_limit`` is the limit of
    tokens waiting in batches that the provider named as its reason.
    """

    handle: str
    state: BatchState
    raw_state: str
    total: int | None = None
    completed: int | None = None
    failed: int | None = None
    expires_in: float | None = None
    problems: Sequence[LineProblem] = ()
    failure: ProviderError | None = None
    enqueued_limit: int | None = None

    @property
    def is_final(self) -> bool:
        return self.state in FINAL_STATES


class BatchLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of results: the id it was sent under and what became of it. The order of lines says nothing."""

    wire_id: str
    outcome: Response | ProviderError


class BatchProvider(Provider):
    """Answers many requests at once, later.

    The engine never calls two of these at once for one shard, waits between polls, and cancels a call that takes too
    long. All of them raise ProviderError, whose subclass tells what the failure means.
    """

    tier = "batch"
    limits: BatchLimits

    @abstractmethod
    def encode(self, request: Request, wire_id: str) -> bytes:
        """The line of the file for ``request``, without a newline at its end.

        Raises:
            ProviderError: the request cannot be sent in a batch.
        """

    @abstractmethod
    async def find(self, tag: str) -> BatchStatus | None:
        """The batch made for ``tag``, if there is one; looks through all there are, other people's too.

        Batches that failed as a whole do not count: nothing of them ran, and the same file may have been sent again. Of
        several others, the oldest.
        """

    @abstractmethod
    async def create(self, shard: Shard) -> BatchStatus:
        """Send the shard's file, unless one of this tag is there already, and create its batch.

        After a failure the batch may exist all the same.
        """

    @abstractmethod
    async def poll(self, handle: str) -> BatchStatus:
        """How the batch stands. Raises Permanent with code ``batch_not_found`` when it cannot be seen (any more)."""

    @abstractmethod
    async def download(self, handle: str, directory: Path) -> Sequence[Path]:
        """Bring all results there are of a batch in a final state into ``directory``, whole and synced.

        Files are named by what is in them, so that a second call finds those of the first. No results: no files.

        Raises:
            Permanent: with code ``results_gone`` when the provider has results no more.
        """

    @abstractmethod
    def read(self, path: Path) -> AsyncIterator[Sequence[BatchLine]]:
        """Yield the lines of a downloaded file, in groups. Never raises for what a line holds: a line that makes no
        sense is skipped if it names no id, else its outcome is a BadOutput."""

    @abstractmethod
    async def cancel(self, handle: str) -> None:
        """Ask for an end of the batch. What has finished is kept. Quiet when it is over already."""

    async def forget(self, handle: str) -> None:
        """Delete what the provider keeps of the batch, once all results are safe. Best effort; default: nothing."""
