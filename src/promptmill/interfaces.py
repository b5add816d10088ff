"""What a plugin implements: small abstract classes for what is opened and closed, protocols for what is asked.

A component is made by its options class (:mod:`promptmill.options`) and registered under a name
(:mod:`promptmill.hookspecs`). All of it runs on anyio's asyncio backend.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Final, Literal, Protocol, Self, TypeAlias

import anyio
import msgspec

from promptmill.errors import ProviderError
from promptmill.jsontext import JSON
from promptmill.models import BadRow, Request, Response, Result, Row, Tier, TokenEstimate

BYTES_PER_TOKEN: Final = 3.5
"""Offline estimate of input tokens: a slight overestimate over eight kinds of text, measured against o200k."""

TOKENS_PER_MESSAGE: Final = 4
TOKENS_PER_REPLY: Final = 3

Charging: TypeAlias = Literal["reserve", "settle"]
"""How a provider counts a request against its token limit: ``reserve`` keeps the estimate made at admission,
``settle`` corrects it to the tokens used."""


Admission: TypeAlias = Literal["sum", "max"]
"""How input and output count together against a limit of tokens at admission: as their sum, or as the higher one."""


class Opened(ABC):
    """Something with a lifetime: ``async with component:``. Override :meth:`aopen` and :meth:`aclose` as needed."""

    async def aopen(self) -> None:
        """Acquire what the component needs. Called before anything else; a closed component may be opened again."""

    async def aclose(self) -> None:
        """Release it. Called once for each opening, also after a failure or a cancellation."""

    async def __aenter__(self) -> Self:
        await self.aopen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A cancelled task would be cancelled again at the first thing the closing waits for.
        with anyio.CancelScope(shield=True):
            await self.aclose()


class Provider(Opened):
    """What realtime and batch providers share. Set the attributes on the class or in ``__init__``."""

    model: str | None = None
    """The model that answers when a request names none."""

    operations: frozenset[str] = frozenset({"chat"})
    """The operations it can do; requests for others fail without a call."""

    charging: Charging = "reserve"

    admission: Admission = "sum"

    queues: bool = False
    """Whether it lets calls wait that it cannot do yet, as one's own server does, so that more calls at once than it
    can do bring nothing."""

    in_one_process: bool = False
    """Whether its calls have to be made in the process that opened it, also where a job asks for workers: for one that
    holds a model, or anything else that there should be one of. Otherwise each worker opens a provider of its own."""

    concurrency: int | None = None
    """How many calls at once suit it when the user says nothing; None leaves it to the engine."""

    price_vendor: str | None = None
    """Whose prices apply, by the id in the price table (genai-prices). None: nobody knows what a call costs."""

    free: bool = False
    """Whether calls cost nothing, as those of a model in this process."""

    tier: Tier = "realtime"
    """How its calls are meant to be billed; a response says how they were."""

    def estimate(self, request: Request) -> TokenEstimate:
        """Tokens this request will take, without asking anyone."""
        overhead = TOKENS_PER_MESSAGE * len(request.messages) + TOKENS_PER_REPLY
        limit = request.params.get("max_completion_tokens") or request.params.get("max_tokens")
        return TokenEstimate(
            input_tokens=math.ceil(request.prompt_bytes / BYTES_PER_TOKEN) + overhead,
            output_tokens=limit if isinstance(limit, int) else None,
        )


class RealtimeProvider(Provider):
    """Answers one request at a time, many at once."""

    @abstractmethod
    async def complete(self, request: Request, *, timeout: float) -> Response:
        """Answer ``request`` within ``timeout`` seconds.

        The engine cancels the call when the time is up, so a provider need only pass the time on where that helps.
        It never retries and never sleeps.

        Raises:
            ProviderError: the subclass tells what the failure means.
        """


class Retry(msgspec.Struct, frozen=True):
    """Try again on the same provider after ``after`` seconds."""

    after: float


class Fallback(msgspec.Struct, frozen=True):
    """Give the request to the next provider of its route; without one it fails."""


class Fail(msgspec.Struct, frozen=True):
    """The request has failed for good."""


Decision: TypeAlias = Retry | Fallback | Fail


class RetryPolicy(Protocol):
    """Says what to do after a failed attempt. A pure function of what it is told, apart from jitter."""

    def decide(self, failure: ProviderError, attempts: int, elapsed: float) -> Decision:
        """``attempts`` counts the calls made for this request on this provider so far (at least 1), ``elapsed`` the
        seconds since its first attempt. Not asked about failures that stop the run (auth)."""
        ...


class Condition(Protocol):
    """A routing predicate."""

    def matches(self, request: Request) -> bool: ...


class Source(Opened):
    """Where rows come from. It can be read more than once: once to check, once to run."""

    @abstractmethod
    def rows(self) -> AsyncIterator[Sequence[Row | BadRow]]:
        """Yield the rows in a stable order, in groups of a size that suits the source (a few hundred).

        A row that cannot be read is yielded as a :class:`BadRow`; it never ends the iteration. Blocking work belongs
        into a worker thread.

        Raises:
            InputError: the source as a whole cannot be read.
        """

    @abstractmethod
    async def fingerprint(self) -> str:
        """A short text that changes when the content does."""

    def notes(self) -> Sequence[str]:
        """What the last pass found that is worth saying, for people: what was taken otherwise than it stands there."""
        return ()


Position: TypeAlias = Mapping[str, JSON]
"""How far a sink has come, in its own words; a small JSON object."""


class Sink(Opened):
    """Takes results. Called from one task; a group at a time."""

    @abstractmethod
    async def start(self, position: Position | None) -> None:
        """Make ready to write behind ``position``, dropping whatever was written after it.

        None: this run has never written here, so the target must be new or empty. An empty position (``{}``): from
        nothing, dropping what an earlier process of this run wrote. Called after :meth:`aopen`, before :meth:`write`.

        Raises:
            StorageError: the target cannot be written, or holds something that is not ours to touch.
        """

    async def probe(self, position: Position | None) -> None:
        """Say what :meth:`start` would refuse with this position, without changing anything. Called without
        :meth:`aopen`, when a job is only checked; what cannot be found out that way is left to the run.

        Raises:
            StorageError: the target could not be written, or holds something that is not ours to touch.
        """

    async def set_aside(self) -> str | None:
        """Move what an earlier run left out of the way, without deleting it, and say where it is now.

        Called before :meth:`start` when the user starts over. None: there was nothing to move.

        Raises:
            StorageError: it cannot be moved.
        """
        return None

    def room(self) -> int | None:
        """How many results are missing until a commit is worth its while; None when it always is.

        For sinks that write in large pieces, such as files that cannot be appended to: no group is larger than this,
        and unless it is 0 a commit is asked for only at the end. What is not committed is delivered again after a kill.
        """
        return None

    @abstractmethod
    async def write(self, results: Sequence[Result]) -> None:
        """Take a group of results. May buffer.

        Raises:
            RowRejected: one result cannot be taken; none of the group was.
            StorageError: none can, for now.
        """

    @abstractmethod
    async def commit(self) -> Position:
        """Make everything written so far durable and return the position behind it."""


class RunStarted(msgspec.Struct, frozen=True, kw_only=True):
    """The run begins. ``total`` is None when the number of requests is not known."""

    run_id: str
    total: int | None


class AttemptFailed(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt failed. ``latency_s`` is None when no call was made; ``retry_in`` is the seconds until the next
    attempt, None when there is none on this provider."""

    request_id: str
    provider: str
    attempt: int
    failure: ProviderError
    latency_s: float | None
    retry_in: float | None


class RunFinished(msgspec.Struct, frozen=True, kw_only=True):
    """The run is over; ``reason`` is None when it came to its end by itself."""

    reason: str | None


class Observer(ABC):
    """Watches a run. Override what you want to hear; be quick, the engine waits for you."""

    def run_started(self, event: RunStarted) -> None:
        pass

    def attempt_failed(self, event: AttemptFailed) -> None:
        pass

    def request_finished(self, result: Result) -> None:
        pass

    def warned(self, message: str) -> None:
        """Something is not as it should be, and the run goes on."""

    def run_finished(self, event: RunFinished) -> None:
        pass
