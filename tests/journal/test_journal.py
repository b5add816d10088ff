"""The journal as its run sees it: kills, full disks, takeovers, starting over."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from promptmill._journal import DATABASE, Journal
from promptmill._journal import ballast as ballasts
from promptmill._journal import journal as journals
from promptmill._journal.store import SinkState, Store
from promptmill._journal.tail import Tail, frames_of, tails_in
from promptmill.clock import SystemClock
from promptmill.errors import RunLocked, StorageError
from promptmill.files import MappedFile
from promptmill.models import Request, Result
from promptmill.testing.records import request, result


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "state" / "job"


def make(directory: Path, **options: Any) -> Journal:
    return Journal(directory, SystemClock(), **options)


def asked(index: int) -> Request:
    return request(f"prompt {index}", id=f"id-{index}", index=index)


def answered(index: int, **fields: Any) -> Result:
    return result(f"answer {index}", id=f"id-{index}", index=index, **fields)


def receive(journal: Journal, *indexes: int) -> list[Result]:
    """What the engine does when answers come."""
    for index in indexes:
        journal.sending(asked(index), 1, "fast")
        journal.received(asked(index), answered(index), b"raw")
    return [answered(index) for index in indexes]


def die(journal: Journal) -> None:
    """What the system does with the files and locks of a killed process; nothing of the journal's own runs."""
    journal._lock.release()
    journal._tail.close()
    journal._store._connection.close()


async def indexes_of(directory: Path) -> list[int]:
    async with make(directory) as journal:
        return await journal.ask(lambda store: sorted(store.finished_indexes()))


async def test_committed_results_are_there_again(directory: Path) -> None:
    async with make(directory) as journal:
        await journal.write(receive(journal, 0, 1))
        assert await journal.commit() == {"seq": 2}
    assert tails_in(directory / "run") == []
    assert not (directory / "ballast").exists()
    assert await indexes_of(directory) == [0, 1]


async def test_received_results_survive_a_kill(directory: Path) -> None:
    journal = make(directory)
    await journal.aopen()
    await journal.write(receive(journal, 0))
    receive(journal, 1, 2)
    journal.sending(asked(3), 1, "fast")
    journal.sending(asked(4), 1, "fast")
    journal.refused(asked(4))
    die(journal)
    async with make(directory) as again:
        assert again.unknown == [3]
        bodies = await again.ask(lambda store: store.bodies(0, 10))
        assert [(seq, body) for seq, _, body in bodies] == [(1, b"raw"), (2, b"raw"), (3, b"raw")]
    assert await indexes_of(directory) == [0, 1, 2]


async def test_recovery_killed_after_its_commit_takes_nothing_in_twice(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = make(directory)
    await journal.aopen()
    receive(journal, *range(7))
    die(journal)
    monkeypatch.setattr(journals, "RECOVERED_ROWS", 3)

    def killed(path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(journals, "remove", killed)
        with pytest.raises(KeyboardInterrupt):
            await make(directory).aopen()
    assert await indexes_of(directory) == list(range(7))


async def test_a_failed_commit_keeps_its_results_in_the_tail(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The group is not tried again by this process, nothing later is either, and the next one has it all."""
    journal = make(directory)
    await journal.aopen()
    calls = []

    def broken(self: Store, run: Any, rows: Any) -> None:
        calls.append([row.index for row in rows])
        raise journals.StorageError("input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "_insert", broken)
        with pytest.raises(StorageError):
            await journal.write(receive(journal, 0, 1))
    assert journal.failed
    assert journal.last_seq == 0
    assert calls == [[0, 1]]
    await journal.aclose()
    assert len(tails_in(directory / "run")) == 1
    assert await indexes_of(directory) == [0, 1]


async def test_the_tail_stays_short_while_results_keep_coming(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "TAIL_BYTES", 2000)
    journal = make(directory)
    journal._longest_tail = 2000
    await journal.aopen()
    longest = 0
    for index in range(0, 400, 4):
        group = receive(journal, index, index + 1)
        receive(journal, index + 2)  # there is always one that is not committed yet
        journal.sending(asked(index + 3), 1, "fast")
        await journal.write(group)
        await journal.write([answered(index + 2)])
        longest = max(longest, journal._tail.size())
        journal.refused(asked(index + 3))
    assert longest < 4000
    assert len(tails_in(directory / "run")) == 1
    receive(journal, 2000)
    journal.sending(asked(2001), 2, "fast")
    die(journal)
    async with make(directory) as again:
        assert again.unknown == [2001]
        assert 2000 in set(await again.ask(lambda store: list(store.finished_indexes())))


async def test_renewing_the_tail_loses_neither_results_nor_intents(directory: Path) -> None:
    journal = make(directory)
    await journal.aopen()
    receive(journal, 0)
    journal.sending(asked(1), 1, "fast")
    journal._renew_tail()
    die(journal)
    async with make(directory) as again:
        assert again.unknown == [1]
        assert again.last_seq == 1


async def test_a_kill_between_two_tails_finds_both(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = make(directory)
    await journal.aopen()
    receive(journal, 0, 1)
    monkeypatch.setattr(Tail, "drop", lambda self: None)
    journal._renew_tail()
    assert len(tails_in(directory / "run")) == 2
    monkeypatch.undo()
    die(journal)
    assert await indexes_of(directory) == [0, 1]


async def test_a_full_disk_stops_the_next_call_and_keeps_what_is_paid(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tail is full, then has room again on the ballast."""
    journal = make(directory)
    await journal.aopen()
    told: list[str] = []
    journal.on_full = lambda error: told.append(error.code)
    journal.sending(asked(0), 1, "fast")
    write = MappedFile.write

    def full(self: MappedFile, data: bytes) -> None:
        if (directory / "ballast").exists():
            self._broken = True
            raise StorageError("no space left on device", code="E0602")
        write(self, data)

    monkeypatch.setattr(MappedFile, "write", full)
    with pytest.raises(StorageError):
        journal.sending(asked(1), 1, "fast")
    assert told == ["E0602"]
    assert not (directory / "ballast").exists()
    journal.received(asked(0), answered(0), b"")
    assert [kind for kind, _ in frames_of(journal._tail.path)] == [1, 2]
    die(journal)
    monkeypatch.undo()
    async with make(directory) as again:
        assert (again.last_seq, again.unknown) == (1, [])
        assert (directory / "ballast").stat().st_size > 0


async def test_results_that_fit_nowhere_are_named(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = make(directory)
    await journal.aopen()
    journal.sending(asked(0), 1, "fast")
    journal.sending(asked(1), 1, "fast")

    def full(self: MappedFile, data: bytes) -> None:
        self._broken = True
        raise StorageError("no space left on device", code="E0602")

    monkeypatch.setattr(MappedFile, "write", full)
    journal.received(asked(0), answered(0), b"")
    journal.received(asked(1), answered(1), b"")
    with pytest.raises(StorageError) as caught:
        await journal.aclose()
    assert caught.value.code == "E0645"
    assert caught.value.message == "2 results that are paid for could not be stored anywhere: 'id-0', 'id-1'"
    monkeypatch.undo()
    async with make(directory) as again:
        assert again.unknown == [0, 1]


async def test_results_only_in_memory_are_safe_once_committed(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = make(directory)
    await journal.aopen()

    def full(self: MappedFile, data: bytes) -> None:
        raise StorageError("no space left on device", code="E0602")

    journal.sending(asked(0), 1, "fast")
    with monkeypatch.context() as patch:
        patch.setattr(MappedFile, "write", full)
        journal.received(asked(0), answered(0), b"")
    await journal.write([answered(0)])
    await journal.aclose()
    assert await indexes_of(directory) == [0]


async def test_a_commit_on_a_full_disk_lives_on_the_ballast(directory: Path) -> None:
    """SQLite's own limit on the pages stands in for the disk's."""
    journal = make(directory)
    await journal.aopen()
    told: list[StorageError] = []
    journal.on_full = told.append
    connection = journal._store._connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    drop = journal._ballast.drop

    def give_up() -> None:
        drop()
        connection.execute("PRAGMA max_page_count = 100000")

    journal._ballast.drop = give_up  # type: ignore[method-assign]  # the space it gives back
    results = [answered(index, meta={"long": "x" * 5000}) for index in range(50)]
    await journal.write(results)
    assert [error.code for error in told] == ["E0640"]
    assert not journal.failed
    assert not (directory / "ballast").exists()
    journal._ballast.drop = drop  # type: ignore[method-assign]
    await journal.aclose()
    assert await indexes_of(directory) == list(range(50))


async def test_no_room_at_the_start_sends_nothing(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(ballasts, "_allocate", full)
    with pytest.raises(StorageError) as caught:
        await make(directory).aopen()
    assert (caught.value.code, caught.value.exit_code) == ("E0642", 6)
    assert "nothing was sent" in caught.value.message
    monkeypatch.undo()
    assert await indexes_of(directory) == []


async def test_where_nothing_can_be_reserved_zeros_are_written(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*args: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "posix_fallocate", unsupported, raising=False)
    monkeypatch.setattr(ballasts, "BALLAST_BYTES", 3_000_000)
    async with make(directory):
        assert (directory / "ballast").stat().st_size >= 3_000_000


async def test_a_process_that_lost_the_run_writes_nowhere(directory: Path) -> None:
    """Somebody removed the lock file: the old owner finds out with its next commit, and its tail is its own."""
    old = make(directory)
    await old.aopen()
    await old.write(receive(old, 0))
    receive(old, 1)
    (directory / "lock").unlink()
    async with make(directory) as new:
        assert await new.ask(lambda store: sorted(store.finished_indexes())) == [0, 1]
        receive(new, 5)
        with pytest.raises(RunLocked) as caught:
            await old.write(receive(old, 2))
        assert caught.value.code == "E0701"
        with pytest.raises(RunLocked):
            await old.put_sink(SinkState("a", 1, {}))
        with pytest.raises(RunLocked):
            await old.check_owner()
        await new.check_owner()
        await old.aclose()
        tails = [path for path in tails_in(directory / "run") if path == new._tail.path]
        assert tails, "the new owner's tail is untouched"
        assert len(list(frames_of(tails[0]))) == 2
        await new.write([answered(5)])
    assert set(await indexes_of(directory)) >= {0, 1, 5}


async def test_a_second_owner_is_refused(directory: Path) -> None:
    async with make(directory):
        with pytest.raises(RunLocked) as caught:
            await make(directory).aopen()
    assert caught.value.exit_code == 7
    assert f"process {os.getpid()} on " in caught.value.message


async def test_starting_over_keeps_the_old_files_together(directory: Path) -> None:
    journal = make(directory)
    await journal.aopen()
    await journal.write(receive(journal, 0))
    receive(journal, 1)
    die(journal)
    async with make(directory, fresh=True) as fresh:
        assert fresh.last_seq == 0
        assert fresh.unknown == []
    aside = directory / "set-aside-1"
    assert {path.name for path in aside.iterdir()} >= {"journal.db", "tail-1-1"}
    async with make(directory, fresh=True):
        assert (directory / "set-aside-2").is_dir()
    (directory / "old").mkdir()
    aside.rename(directory / "old" / "run")
    assert await indexes_of(directory / "old") == [0, 1]


async def test_starting_over_needs_no_journal_that_can_be_read(directory: Path) -> None:
    async with make(directory):
        pass
    (directory / DATABASE).write_bytes(b"damaged " * 10_000)
    with pytest.raises(StorageError) as caught:
        await make(directory).aopen()
    assert caught.value.code == "E0644"
    async with make(directory, fresh=True) as journal:
        assert journal.last_seq == 0
    assert (directory / "set-aside-1" / "journal.db").read_bytes().startswith(b"damaged ")


@pytest.mark.parametrize("how", ["deleted", "emptied"])
async def test_a_tail_without_its_database_is_damage(directory: Path, how: str) -> None:
    journal = make(directory)
    await journal.aopen()
    receive(journal, 0)
    die(journal)
    if how == "deleted":
        (directory / DATABASE).unlink()
    else:
        (directory / DATABASE).write_bytes(b"")
    with pytest.raises(StorageError) as caught:
        await make(directory).aopen()
    assert caught.value.code == "E0644"
    assert tails_in(directory / "run"), "what is paid for is still there"


async def test_after_a_failed_opening_the_run_is_free(directory: Path) -> None:
    async with make(directory):
        pass
    (directory / DATABASE).write_bytes(b"damaged " * 10_000)
    for _ in range(2):
        with pytest.raises(StorageError):
            await make(directory).aopen()
        assert not (directory / "ballast").exists()
