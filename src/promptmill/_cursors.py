"""In what order a sink gets what is in the journal: that of the commits, or that of the input."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import takewhile
from typing import Final, Protocol

import msgspec

from promptmill._journal import Journal, Rejection
from promptmill.models import Result

READ_ROWS: Final = 1000
FRESH_ROWS: Final = 10_000
"""Results kept in memory for a sink that keeps up; one that lags reads them from the journal."""

_decode = msgspec.json.Decoder(Result).decode

Numbered = tuple[int, Result]
"""A result and its number in the order of the cursor."""


class Cursor(Protocol):
    """Walks through the journal. ``at`` is the number of the last result the sink has."""

    at: int

    def offer(self, results: Sequence[Result], last_seq: int) -> None:
        """Take note of results committed just now, the last of them as ``last_seq``."""
        ...

    def forget(self) -> None:
        """Drop what is in memory; what comes next is read from the journal."""
        ...

    async def next(self) -> list[Numbered]:
        """The next results behind ``at``; none when there are no more for now."""
        ...

    async def behind(self) -> int:
        """How many results of the journal come after ``at``."""
        ...

    def number(self, rejection: Rejection) -> int:
        """The number of a result that was rejected."""
        ...


class CommitOrder:
    """The numbers are the journal's own."""

    def __init__(self, journal: Journal) -> None:
        self.at = 0
        self._journal = journal
        self._fresh: deque[Numbered] = deque()

    def offer(self, results: Sequence[Result], last_seq: int) -> None:
        first = last_seq - len(results) + 1
        expected = self._fresh[-1][0] + 1 if self._fresh else self.at + 1
        if first == expected and len(self._fresh) < FRESH_ROWS:
            self._fresh.extend(zip(range(first, last_seq + 1), results, strict=True))

    def forget(self) -> None:
        self._fresh.clear()

    async def next(self) -> list[Numbered]:
        while self._fresh and self._fresh[0][0] <= self.at:
            self._fresh.popleft()
        if self._fresh and self._fresh[0][0] == self.at + 1:
            group = list(self._fresh)
            self._fresh.clear()
            return group
        if self.at >= self._journal.last_seq:
            return []
        # Asked in the writer's thread: here the number may be one of a transaction that will be rolled back.
        rows, last = await self._journal.ask(lambda store: (store.records(self.at, READ_ROWS), store.last_seq))
        if not rows:
            self.at = last  # all that is left before this point has been superseded
        return [(seq, _decode(record)) for seq, record in rows]

    async def behind(self) -> int:
        return await self._journal.ask(lambda store: store.count_behind(self.at, by_index=False))

    def number(self, rejection: Rejection) -> int:
        return rejection.seq


class InputOrder:
    """The numbers are the 1-based positions in the input; a result waits for all before it."""

    def __init__(self, journal: Journal) -> None:
        self.at = 0
        self._journal = journal

    def offer(self, results: Sequence[Result], last_seq: int) -> None:
        pass

    def forget(self) -> None:
        pass

    async def next(self) -> list[Numbered]:
        rows = await self._journal.ask(lambda store: store.records_by_index(self.at, READ_ROWS))
        numbered = enumerate(rows, start=self.at)
        ready = takewhile(lambda row: row[0] == row[1][0], numbered)
        return [(index + 1, _decode(record)) for _, (index, record) in ready]

    async def behind(self) -> int:
        return await self._journal.ask(lambda store: store.count_behind(self.at, by_index=True))

    def number(self, rejection: Rejection) -> int:
        return rejection.index + 1
