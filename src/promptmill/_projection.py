"""From the journal to one sink, at the sink's own pace.

A sink never sees a result that is not committed. It may fail, lag or start over: everything it has not got is in the
journal, and the journal keeps how far it has come. The other sinks and the run do not wait for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

import anyio
import msgspec

from promptmill._journal import Journal, SinkState
from promptmill.clock import Clock
from promptmill.errors import RowRejected, StorageError
from promptmill.interfaces import Sink
from promptmill.models import Result

COMMIT_SECONDS: Final = 1.0
COMMIT_ROWS: Final = 5000
"""A sink is committed this often at least, and whenever it has caught up at the end."""

READ_ROWS: Final = 1000
FRESH_ROWS: Final = 10_000
"""Results kept in memory for a sink that keeps up; one that lags reads them from the journal."""

FIRST_WAIT: Final = 0.5
LONGEST_WAIT: Final = 30.0
"""Seconds between tries while a sink fails."""

LAST_TRIES: Final = 3
"""Tries left to a failing sink when everything else is done."""

_decode = msgspec.json.Decoder(Result).decode


class Projection:
    """Keeps one sink in step with the journal."""

    def __init__(self, sink: Sink, name: str, journal: Journal, clock: Clock) -> None:
        self._sink = sink
        self._name = name
        self._journal = journal
        self._clock = clock
        self._seq = 0
        self._uncommitted = 0
        self._committed_at = clock.now()
        self._fresh: deque[tuple[int, Result]] = deque()
        self._news = anyio.Event()
        self._closing = False
        self.failure: StorageError | None = None
        """Why the sink is behind; None when it is not."""
        self.rejected = 0
        """Rows the sink does not take."""

    async def open(self) -> None:
        """Open the sink where this run left it. Raises StorageError."""
        await self._sink.aopen()
        state = await self._journal.sink(self._name)
        await self._sink.start(None if state is None else state.position)
        self._seq = 0 if state is None else state.seq
        if state is None:
            await self._commit()

    def offer(self, results: Sequence[Result], last_seq: int) -> None:
        """Tell of results committed just now, the last of them as ``last_seq``."""
        first = last_seq - len(results) + 1
        expected = self._fresh[-1][0] + 1 if self._fresh else self._seq + 1
        if first == expected and len(self._fresh) < FRESH_ROWS:
            self._fresh.extend(zip(range(first, last_seq + 1), results, strict=True))
        self._news.set()

    def close(self) -> None:
        """No more results will come; :meth:`run` ends when the sink has them all or can't take them."""
        self._closing = True
        self._news.set()

    async def run(self) -> None:
        """Write until closed."""
        wait, tries = FIRST_WAIT, 0
        while True:
            try:
                if self.failure:
                    await self._reopen()
                await self._catch_up()
            except StorageError as error:
                self.failure = error
                tries += self._closing
                if self._closing and tries >= LAST_TRIES:
                    return
                with anyio.move_on_after(min(wait, 1.0) if self._closing else wait):
                    await self._closed()
                wait = min(2 * wait, LONGEST_WAIT)
                continue
            wait = FIRST_WAIT
            if self._closing and self._seq >= self._journal.last_seq:
                return
            await self._more()

    async def aclose(self) -> None:
        await self._sink.aclose()

    async def _more(self) -> None:
        """Wait for news; commit what is written when none comes for a while."""
        if self._seq < self._journal.last_seq:
            return
        self._news = anyio.Event()
        if self._closing:
            return
        if self._uncommitted:
            with anyio.move_on_after(COMMIT_SECONDS):
                await self._news.wait()
        else:
            await self._news.wait()

    async def _closed(self) -> None:
        while not self._closing:
            self._news = anyio.Event()
            await self._news.wait()
        await anyio.sleep_forever()

    async def _catch_up(self) -> None:
        while self._seq < self._journal.last_seq:
            await self._write(await self._next())
            if self._uncommitted >= COMMIT_ROWS or self._clock.now() - self._committed_at >= COMMIT_SECONDS:
                await self._commit()
        if self._uncommitted and (self._closing or self._clock.now() - self._committed_at >= COMMIT_SECONDS):
            await self._commit()
        self.failure = None

    async def _next(self) -> list[tuple[int, Result]]:
        while self._fresh and self._fresh[0][0] <= self._seq:
            self._fresh.popleft()
        if self._fresh and self._fresh[0][0] == self._seq + 1:
            group = list(self._fresh)
            self._fresh.clear()
            return group
        rows = await self._journal.ask(lambda store: store.records(self._seq, READ_ROWS))
        if not rows:
            # All that is left behind this point has been superseded.
            self._seq = self._journal.last_seq
        return [(seq, _decode(record)) for seq, record in rows]

    async def _write(self, group: list[tuple[int, Result]]) -> None:
        while group:
            try:
                await self._sink.write([result for _, result in group])
            except RowRejected as error:
                await self._leave_out(group, error)
                continue
            self._uncommitted += len(group)
            self._seq = group[-1][0]
            return

    async def _leave_out(self, group: list[tuple[int, Result]], error: RowRejected) -> None:
        at = next((at for at, (_, result) in enumerate(group) if result.id == error.result_id), None)
        if at is None:
            raise StorageError(f"{self._name}: rejected an unknown row {error.result_id!r}: {error.message}")
        seq, _ = group.pop(at)
        self.rejected += 1
        await self._journal.reject(self._name, seq, error.message)
        if not group:
            self._seq = seq

    async def _commit(self) -> None:
        position = await self._sink.commit()
        await self._journal.put_sink(SinkState(self._name, self._seq, dict(position)))
        self._uncommitted = 0
        self._committed_at = self._clock.now()

    async def _reopen(self) -> None:
        """Begin again behind the last commit: nobody knows what became of the writes since."""
        await self._sink.aclose()
        self._fresh.clear()
        self._uncommitted = 0
        await self._sink.aopen()
        state = await self._journal.sink(self._name)
        await self._sink.start({} if state is None else state.position)
        self._seq = 0 if state is None else state.seq
