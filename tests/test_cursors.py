"""What a cursor makes of a journal that is being written in another thread."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from promptmill._cursors import CommitOrder
from promptmill._journal import Finished, Journal
from promptmill.clock import SystemClock
from promptmill.jsontext import encode
from promptmill.testing import result


def finished(*indexes: int) -> Sequence[Finished]:
    rows = [result(id=str(index), index=index) for index in indexes]
    return [Finished(index=row.index, id=row.id, digest=b"", status="ok", record=encode(row)) for row in rows]


class Glimpsed:
    """A journal whose last number is looked at in the middle of a transaction that will be rolled back."""

    def __init__(self, journal: Journal) -> None:
        self.ask = journal.ask
        self._journal = journal
        self._uncommitted = [3, 3]

    @property
    def last_seq(self) -> int:
        return self._uncommitted.pop() if self._uncommitted else self._journal.last_seq


async def test_results_that_were_rolled_back_are_not_passed_over(tmp_path: Path) -> None:
    async with Journal(tmp_path, SystemClock()) as journal:
        await journal.ask(lambda store: store.append(finished(0)))
        cursor = CommitOrder(cast("Journal", Glimpsed(journal)))
        cursor.at = 1
        assert await cursor.next() == []
        await journal.ask(lambda store: store.append(finished(1, 2)))
        assert [seq for seq, _ in await cursor.next()] == [2, 3]
