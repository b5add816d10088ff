"""Cursors: every result once, in their order, from memory or from the journal."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import cast

import pytest

from promptmill import _cursors
from promptmill._cursors import CommitOrder, Cursor, InputOrder
from promptmill._journal import Finished, Journal, Store
from promptmill.clock import SystemClock
from promptmill.jsontext import encode
from promptmill.models import Result, Status
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


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    async with Journal(tmp_path, SystemClock()) as opened:
        yield opened


def answered(index: int, status: Status = "ok") -> Result:
    return result(f"answer {index}", id=str(index), index=index, status=status)


async def commit(journal: Journal, cursor: Cursor, *indexes: int) -> None:
    group = [answered(index) for index in indexes]
    await journal.write(group)
    cursor.offer(group, journal.last_seq)


async def taken(cursor: Cursor) -> list[int]:
    """Everything there is for now, as a projection takes it."""
    found = []
    while group := await cursor.next():
        found += [one.index for _, one in group]
        cursor.at = group[-1][0]
    return found


async def test_commit_order(journal: Journal) -> None:
    cursor = CommitOrder(journal)
    await commit(journal, cursor, 4, 2)
    await commit(journal, cursor, 0)
    assert await taken(cursor) == [4, 2, 0]
    assert cursor.at == 3
    assert await taken(cursor) == []
    await commit(journal, cursor, 1)
    assert await taken(cursor) == [1]


async def test_results_offered_while_a_group_is_written(journal: Journal) -> None:
    cursor = CommitOrder(journal)
    await commit(journal, cursor, 0, 1)
    group = await cursor.next()
    await commit(journal, cursor, 2)
    cursor.at = group[-1][0]
    await commit(journal, cursor, 3)
    assert await taken(cursor) == [2, 3]


async def test_commit_order_from_the_journal_alone(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cursors, "READ_ROWS", 2)
    cursor = CommitOrder(journal)
    for index in range(5):
        await journal.write([answered(index)])
    assert await taken(cursor) == [0, 1, 2, 3, 4]


async def test_a_cursor_that_lags_keeps_little_in_memory(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cursors, "FRESH_ROWS", 3)
    cursor = CommitOrder(journal)
    for index in range(10):
        await commit(journal, cursor, index)
    assert len(cursor._fresh) == 3
    assert await taken(cursor) == list(range(10))


async def test_after_forgetting_the_journal_has_it_all(journal: Journal) -> None:
    cursor = CommitOrder(journal)
    await commit(journal, cursor, 0, 1)
    assert await taken(cursor) == [0, 1]
    await commit(journal, cursor, 2)
    cursor.forget()
    cursor.at = 1
    assert await taken(cursor) == [1, 2]


async def test_superseded_results_are_passed_over(journal: Journal) -> None:
    cursor = CommitOrder(journal)
    await journal.write([answered(0), answered(1, "failed"), answered(2, "failed")])
    await journal.ask(Store.supersede_failed)
    assert await taken(cursor) == [0]
    assert cursor.at == 3
    await commit(journal, cursor, 2, 1)
    assert await taken(cursor) == [2, 1]


async def test_input_order_waits_for_what_is_missing(journal: Journal) -> None:
    cursor = InputOrder(journal)
    await commit(journal, cursor, 2, 1)
    assert await taken(cursor) == []
    await commit(journal, cursor, 0, 4)
    assert await taken(cursor) == [0, 1, 2]
    assert cursor.at == 3
    await commit(journal, cursor, 3)
    assert await taken(cursor) == [3, 4]


async def test_input_order_goes_on_where_it_was(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cursors, "READ_ROWS", 2)
    await journal.write([answered(index) for index in (3, 1, 0, 2, 4)])
    cursor = InputOrder(journal)
    cursor.at = 2
    cursor.forget()
    assert await taken(cursor) == [2, 3, 4]
