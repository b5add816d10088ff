"""From finished results to whoever wants them: first made durable, then seen.

Results are taken in groups: while one group is written, the next one gathers, so that the cost of a commit is shared
by as many results as the disk is slow.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import anyio

from promptmill.errors import StorageError
from promptmill.interfaces import Sink
from promptmill.models import Result

LINGER_SECONDS: Final = 0.05
LINGER_RESULTS: Final = 256
"""A group is taken when it has this many results or is this old, where each group costs a sync of the disk."""

BACKLOG: Final = 4096
"""Results that may wait for the sinks; beyond that the workers wait, and so nothing is sent that cannot be stored."""

Consumer = Callable[[Sequence[Result]], Awaitable[None]]


class Delivery:
    """Takes results from the workers and hands them to the sinks, then to the consumer, in the order of completion.

    A sink that fails is left out from then on and reported once to ``on_failure``; the others go on.
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        *,
        on_failure: Callable[[StorageError], None],
        consumer: Consumer | None = None,
        linger: bool = False,
    ) -> None:
        self._sinks = list(sinks)
        self._on_failure = on_failure
        self._consumer = consumer
        self._failure: StorageError | None = None
        self._put = 0
        self._stored = 0
        self._moved = anyio.Event()
        self._waiting: list[Result] = []
        self._closed = False
        self._arrived = anyio.Event()
        self._linger = linger
        self._enough = anyio.Event()
        self._room = anyio.Event()

    async def put(self, result: Result) -> None:
        """Take a finished result, then wait while the backlog is full. A cancelled wait loses nothing."""
        self._waiting.append(result)
        self._put += 1
        self._arrived.set()
        if len(self._waiting) >= LINGER_RESULTS:
            self._enough.set()
        while len(self._waiting) >= BACKLOG:
            await self._room.wait()

    async def flush(self) -> None:
        """Return when every sink has what was put so far. Raises StorageError when one of them failed."""
        wanted = self._put
        self._enough.set()
        while self._stored < wanted:
            await self._moved.wait()
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """No more results will come; :meth:`run` ends when all are delivered."""
        self._closed = True
        self._arrived.set()
        self._enough.set()

    async def run(self) -> None:
        """Deliver until closed."""
        while True:
            await self._arrived.wait()
            if self._linger:
                with anyio.move_on_after(LINGER_SECONDS):
                    await self._enough.wait()
            group = self._take()
            if group:
                await self._store(group)
                if self._consumer:
                    await self._consumer(group)
            elif self._closed and not self._waiting:
                return

    async def drain(self) -> None:
        """Write what has come to the sinks, without the consumer; for a run that was cancelled."""
        self._closed = True
        while group := self._take():
            await self._store(group)

    def _take(self) -> list[Result]:
        group, self._waiting = self._waiting, []
        if not self._closed:
            self._arrived = anyio.Event()
            self._enough = anyio.Event()
        self._room.set()
        self._room = anyio.Event()
        return group

    async def _store(self, group: Sequence[Result]) -> None:
        """Write a group to every sink. Not interrupted half way: what was begun is finished."""
        with anyio.CancelScope(shield=True):
            for sink in tuple(self._sinks):
                try:
                    await sink.write(group)
                    await sink.commit()
                except StorageError as error:
                    self._sinks.remove(sink)
                    self._failure = error
                    self._on_failure(error)
        self._stored += len(group)
        moved, self._moved = self._moved, anyio.Event()
        moved.set()
