"""What a run has spent is known to the next process: after its end, after any kill, and after kills of its recovery."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from promptmill._journal import Journal
from promptmill._journal import journal as journals
from promptmill._journal.spending import Sent, Spending, Spent, pack_sent, pack_spent
from promptmill._journal.store import Store
from promptmill._journal.tail import RECEIVED, SENT, SETTLED, SPENT, Tail, frames_of, tails_in
from promptmill.clock import SystemClock
from promptmill.errors import StorageError
from promptmill.files import MappedFile
from promptmill.models import Request, Result
from promptmill.testing.records import request, result

BOTH = ("run", "route 2")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "state" / "job"


def asked(index: int) -> Request:
    return request(f"prompt {index}", id=f"id-{index}", index=index)


def answered(index: int) -> Result:
    return result(f"answer {index}", id=f"id-{index}", index=index)


def send(journal: Journal, index: int, reserved: float, scopes: Sequence[str] = ("run",), attempt: int = 1) -> None:
    journal.sending(asked(index), attempt, "fast", reserved, scopes)


def answer(journal: Journal, index: int) -> None:
    journal.received(asked(index), answered(index), b"")


async def opened(directory: Path, **options: Any) -> Journal:
    journal = Journal(directory, SystemClock(), **options)
    await journal.aopen()
    return journal


def die(journal: Journal) -> None:
    """What the system does with the files and locks of a killed process; nothing of the journal's own runs."""
    journal._lock.release()
    journal._tail.close()
    journal._store._connection.close()


async def spent_before(directory: Path) -> dict[str, float]:
    async with Journal(directory, SystemClock()) as journal:
        return journal.spent_before


async def test_totals_are_there_again_after_an_end(directory: Path) -> None:
    async with Journal(directory, SystemClock()) as journal:
        assert journal.spent_before == {}
        journal.spent({"run": 0.1, "route 2": 0.3})
    assert tails_in(directory / "run") == []
    assert await spent_before(directory) == {"run": 0.1, "route 2": 0.3}
    assert await spent_before(directory) == {"run": 0.1, "route 2": 0.3}


async def test_totals_are_committed_with_the_results(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one transaction: a power cut that takes the tail leaves both or none."""
    journal = await opened(directory)
    send(journal, 0, 1.0)
    answer(journal, 0)
    journal.spent({"run": 0.25})
    commits = []
    append = Store.append

    def counted(self: Store, *args: Any, **more: Any) -> None:
        commits.append(1)
        append(self, *args, **more)

    monkeypatch.setattr(Store, "append", counted)
    await journal.write([answered(0)])
    assert commits == [1]
    die(journal)
    for path in tails_in(directory / "run"):
        path.unlink()
    assert await spent_before(directory) == {"run": 0.25}


async def test_without_money_nothing_is_written(directory: Path) -> None:
    journal = await opened(directory)
    journal.sending(asked(0), 1, "fast")
    answer(journal, 0)
    journal.sending(asked(1), 1, "fast")
    await journal.write([answered(0)])
    assert [kind for kind, _ in frames_of(journal._tail.path)] == [SENT, RECEIVED, SENT]
    assert await journal.meta("spent") is None
    die(journal)
    async with Journal(directory, SystemClock()) as again:
        assert (again.unknown, again.spent_before) == ([1], {})
        assert await again.meta("spent") is None


async def test_calls_nobody_knows_the_end_of_count_as_spent(directory: Path) -> None:
    journal = await opened(directory)
    send(journal, 0, 1.0, BOTH)  # no answer
    send(journal, 1, 2.0)  # refused for nothing
    journal.refused(asked(1))
    send(journal, 2, 4.0)  # answered, and in the totals
    answer(journal, 2)
    journal.spent({"run": 0.5})
    send(journal, 3, 8.0)  # answered, and not in the totals
    answer(journal, 3)
    send(journal, 4, 16.0)  # refused, then no answer
    journal.refused(asked(4))
    send(journal, 4, 32.0, attempt=2)
    die(journal)
    async with Journal(directory, SystemClock()) as again:
        assert again.unknown == [0, 4]
        assert again.spent_before == {"run": 0.5 + 1 + 8 + 32, "route 2": 1.0}


async def test_calls_cancelled_at_the_end_count_as_spent(directory: Path) -> None:
    async with Journal(directory, SystemClock()) as journal:
        journal.spent({"run": 0.5})
        send(journal, 0, 1.0)
    assert await spent_before(directory) == {"run": 1.5}
    assert await spent_before(directory) == {"run": 1.5}


async def test_each_kill_adds_its_own_unknown_calls(directory: Path) -> None:
    for number in range(1, 4):
        journal = await opened(directory)
        assert journal.spent_before.get("run", 0.0) == number - 1
        send(journal, 0, 1.0)
        die(journal)
    assert await spent_before(directory) == {"run": 3.0}


@pytest.mark.parametrize("moment", ["remove", "fsync_dir"])
async def test_a_killed_recovery_adds_them_once(directory: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    journal = await opened(directory)
    journal.spent({"run": 0.5})
    send(journal, 0, 1.0)
    die(journal)

    def killed(path: Path) -> None:
        raise KeyboardInterrupt

    for _ in range(3):
        with monkeypatch.context() as patch:
            patch.setattr(journals, moment, killed)
            if tails_in(directory / "run"):
                with pytest.raises(KeyboardInterrupt):
                    await Journal(directory, SystemClock()).aopen()
    assert await spent_before(directory) == {"run": 1.5}


async def test_a_recovery_that_cannot_commit_them_keeps_the_tails(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = await opened(directory)
    send(journal, 0, 1.0)
    die(journal)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "_put_meta", lambda *args: (_ for _ in ()).throw(StorageError("input/output error")))
        with pytest.raises(StorageError):
            await Journal(directory, SystemClock()).aopen()
    assert await spent_before(directory) == {"run": 1.0}


async def test_a_renewed_tail_knows_all_that_is_not_committed(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = await opened(directory)
    journal.spent({"run": 0.5})
    send(journal, 0, 1.0)
    send(journal, 1, 2.0)
    answer(journal, 1)
    with monkeypatch.context() as patch:
        patch.setattr(Tail, "drop", lambda self: None)  # killed between the two tails, or after the old one is gone
        journal._renew_tail()
    die(journal)
    tails = tails_in(directory / "run")
    kept = {path: path.read_bytes() for path in tails}
    assert await spent_before(directory) == {"run": 3.5}
    tails[1].write_bytes(kept[tails[1]])
    (directory / "run" / "journal.db").unlink()
    Store.open(directory / "run" / "journal.db").close()
    assert await spent_before(directory) == {"run": 3.5}


async def test_totals_that_fit_into_no_tail_are_committed(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = await opened(directory)
    told: list[StorageError] = []
    journal.on_full = told.append

    def full(self: MappedFile, data: bytes) -> None:
        raise StorageError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(MappedFile, "write", full)
        journal.spent({"run": 0.5})
    assert len(told) == 1
    await journal.aclose()
    assert await spent_before(directory) == {"run": 0.5}


async def test_totals_that_cannot_be_committed_stay_in_the_tail(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = await opened(directory)
    journal.spent({"run": 0.5})
    with monkeypatch.context() as patch:
        patch.setattr(Store, "_put_meta", lambda *args: (_ for _ in ()).throw(StorageError("input/output error")))
        await journal.aclose()
    assert len(tails_in(directory / "run")) == 1
    assert await spent_before(directory) == {"run": 0.5}


async def test_starting_over_has_spent_nothing(directory: Path) -> None:
    async with Journal(directory, SystemClock()) as journal:
        journal.spent({"run": 0.5})
    async with Journal(directory, SystemClock(), fresh=True) as fresh:
        assert fresh.spent_before == {}


def test_frames_of_earlier_versions_are_read() -> None:
    old = msgspec.msgpack.encode((7, 2, "fast"))
    assert pack_sent(Sent(7, 2, "fast")) == old
    assert msgspec.msgpack.decode(old, type=Sent) == Sent(7, 2, "fast")
    spending = Spending({"run": 1.0})
    spending.take(SENT, old)
    assert spending.with_unknown() == {"run": 1.0}


def test_a_call_told_of_twice_is_one_call() -> None:
    spending = Spending({})
    for _ in range(2):
        spending.take(SENT, pack_sent(Sent(1, 1, "fast", 2.0, ("run",))))
    assert spending.with_unknown() == {"run": 2.0}
    assert spending.with_unknown([1]) == {}
    spending.take(SPENT, pack_spent(Spent({"run": 5.0})))
    assert spending.with_unknown() == {"run": 7.0}
    spending.take(SETTLED, msgspec.msgpack.encode(1))
    assert spending.with_unknown() == {"run": 5.0}


def test_totals_never_fall() -> None:
    spending = Spending({"run": 3.0})
    spending.take(SPENT, pack_spent(Spent({"run": 2.0, "route 1": 1.0})))
    assert spending.totals == {"run": 3.0, "route 1": 1.0}
