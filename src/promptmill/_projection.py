"""From the journal to one sink, at the sink's own pace.

A sink never sees a result that is not committed. It may fail, lag or start over: everything it has not got is in the
journal, and the journal keeps how far it has come. The other sinks and the run do not wait for it.

Before each group the journal is asked whether the run is still this process's. What remains: a process that is stopped
between the question and the write, on another machine, with a file system that has no locks. On one machine a sink
that appends to a file holds a lock on it, so that nobody can take the run over while a process that writes lives.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import anyio
import msgspec

from promptmill._cursors import Cursor, Numbered
from promptmill._journal import Journal, Rejection, SinkState
from promptmill.clock import Clock
from promptmill.errors import RowRejected, StorageError
from promptmill.interfaces import Position, Sink
from promptmill.models import Result

COMMIT_SECONDS: Final = 1.0
COMMIT_ROWS: Final = 5000
"""A sink is committed this often at least, and whenever it has caught up at the end."""

GROUP_ROWS: Final = 1000
"""The most a sink gets at once, so that a row it rejects does not cost it much that it takes."""

FIRST_WAIT: Final = 0.5
LONGEST_WAIT: Final = 30.0
"""Seconds between tries while a sink fails."""

LAST_TRIES: Final = 3
"""Tries left to a failing sink when everything else is done."""

GIVE_UP_AFTER: Final = 20
"""Rows rejected once more, one after the other, before the rest of them is not offered again in this process."""

_decode = msgspec.json.Decoder(Result).decode


class Projection:
    """Keeps one sink in step with the journal."""

    def __init__(self, sink: Sink, name: str, journal: Journal, clock: Clock, cursor: Cursor) -> None:
        self._sink = sink
        self._name = name
        self._journal = journal
        self._clock = clock
        self._cursor = cursor
        self._uncommitted = 0
        self._committed_at = clock.now()
        self._news = anyio.Event()
        self._closing = False
        self.failure: StorageError | None = None
        """Why the sink is behind; None when it is not."""
        self._rejected: dict[int, Rejection] = {}
        self._offered_again = False

    @property
    def name(self) -> str:
        return self._name

    @property
    def rejected(self) -> list[Rejection]:
        """The rows the sink does not take, those offered by earlier processes too."""
        return list(self._rejected.values())

    async def missing(self) -> int:
        """How many results of the journal the sink does not have."""
        return await self._cursor.behind() + len(self._rejected)

    async def open(self) -> None:
        """Open the sink where this run left it. Raises StorageError."""
        await self._sink.aopen()
        state = await self._journal.sink(self._name)
        await self._start(state, None)
        if state is None:
            # From here on what is in the target is ours, also if this process dies before its first commit.
            await self._journal.put_sink(SinkState(self._name, 0, {}))

    def offer(self, results: Sequence[Result], last_seq: int) -> None:
        """Tell of results committed just now, the last of them as ``last_seq``."""
        self._cursor.offer(results, last_seq)
        self._news.set()

    def close(self) -> None:
        """No more results will come; :meth:`run` ends when the sink has them all or can't take them."""
        self._closing = True
        self._news.set()

    async def run(self) -> None:
        """Write until closed."""
        wait, tries = FIRST_WAIT, 0
        while True:
            closing = self._closing
            self._news = anyio.Event()
            try:
                if self.failure:
                    await self._reopen()
                if not self._offered_again:
                    await self._offer_again()
                await self._catch_up(closing)
            except StorageError as error:
                self.failure = error
                tries += closing
                if tries >= LAST_TRIES:
                    return
                await self._pause(wait)
                wait = min(2 * wait, LONGEST_WAIT)
                continue
            wait = FIRST_WAIT
            if closing:
                return
            await self._more()

    async def aclose(self) -> None:
        with anyio.CancelScope(shield=True):
            await self._sink.aclose()

    async def _more(self) -> None:
        """Wait for news; but not for long when something is not committed."""
        waits_for_time = self._uncommitted and self._sink.room() is None
        with anyio.move_on_after(COMMIT_SECONDS if waits_for_time else math.inf):
            await self._news.wait()

    async def _pause(self, seconds: float) -> None:
        """Let a failing sink rest; less so when everything waits for it."""
        if self._closing:
            await anyio.sleep(FIRST_WAIT)
            return
        with anyio.move_on_after(seconds):
            while not self._closing:
                self._news = anyio.Event()
                await self._news.wait()

    async def _catch_up(self, closing: bool) -> None:
        while news := await self._cursor.next():
            while news:
                size = min(self._sink.room() or GROUP_ROWS, GROUP_ROWS)
                await self._write(news[:size])
                del news[:size]
                await self._commit_if(self._is_due())
        await self._commit_if(closing or self._is_due())
        self.failure = None

    async def _write(self, group: list[Numbered]) -> None:
        await self._journal.check_owner()
        last = group[-1][0]
        while group:
            try:
                await self._sink.write([result for _, result in group])
                break
            except RowRejected as error:
                await self._leave_out(group, error)
        self._uncommitted += len(group)
        self._cursor.at = last

    async def _leave_out(self, group: list[Numbered], error: RowRejected) -> None:
        at = next((at for at, (_, result) in enumerate(group) if result.id == error.result_id), None)
        if at is None:
            raise StorageError(f"{self._name}: rejected an unknown row {error.result_id!r}: {error.message}")
        _, rejected = group.pop(at)
        await self._journal.reject(self._name, rejected.index, error.message)
        self._rejected[rejected.index] = Rejection(0, rejected.index, rejected.id, error.message)

    def _is_due(self) -> bool:
        room = self._sink.room()
        if room is not None:
            return room == 0
        late = self._clock.now() - self._committed_at >= COMMIT_SECONDS
        return self._uncommitted >= COMMIT_ROWS or (self._uncommitted > 0 and late)

    async def _commit_if(self, wanted: bool) -> None:
        if wanted:
            position = await self._sink.commit()
            await self._journal.put_sink(SinkState(self._name, self._cursor.at, dict(position)))
            self._uncommitted = 0
            self._committed_at = self._clock.now()

    async def _reopen(self) -> None:
        """Begin again behind the last commit: nobody knows what became of the writes since."""
        await self._journal.check_owner()
        await self._sink.aclose()
        self._cursor.forget()
        self._uncommitted = 0
        await self._sink.aopen()
        await self._start(await self._journal.sink(self._name), {})

    async def _start(self, state: SinkState | None, otherwise: Position | None) -> None:
        await self._sink.start(otherwise if state is None else state.position)
        self._cursor.at = 0 if state is None else state.seq
        await self._recall()

    async def _recall(self) -> None:
        """Take note of what the journal says was rejected; rows behind the place are offered again anyway."""
        known = await self._journal.ask(lambda store: store.rejections(self._name))
        again = [one.seq for one in known if self._cursor.number(one) > self._cursor.at]
        if again:
            await self._journal.ask(lambda store: store.forgive(self._name, again))
        self._rejected = {one.index: one for one in known if self._cursor.number(one) <= self._cursor.at}

    async def _offer_again(self) -> None:
        """Offer rows that earlier processes had rejected: somebody may have seen to what was wrong with them."""
        refused = 0
        for one in self.rejected:
            if refused >= GIVE_UP_AFTER:
                break
            try:
                await self._write_again(one)
            except RowRejected:
                refused += 1
            else:
                refused = 0
        self._offered_again = True

    async def _write_again(self, rejection: Rejection) -> None:
        await self._journal.check_owner()
        rows = await self._journal.ask(lambda store: store.records_by_index(rejection.index, 1))
        await self._sink.write([_decode(record) for _, record in rows])
        state = SinkState(self._name, self._cursor.at, dict(await self._sink.commit()))
        await self._journal.ask(lambda store: store.forgive(self._name, [rejection.seq], state))
        del self._rejected[rejection.index]
