"""The database of the journal: epochs, versions, damage."""

from __future__ import annotations

import random
import sqlite3
import zlib
from pathlib import Path

import pytest

from promptmill._journal import schema
from promptmill._journal.shards import ShardRecord, ShardState
from promptmill._journal.store import INLINE_BYTES, Finished, SinkState, Store
from promptmill.errors import PromptmillError, RunLocked, StorageError


def finished(index: int, status: str = "ok", record: bytes = b"", body: bytes = b"") -> Finished:
    return Finished(index, f"id-{index}", bytes(16), status, record or b'{"id": "%d"}' % index, body)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


def test_results_come_back_in_both_orders(path: Path) -> None:
    store = Store.open(path)
    long = b"x" * (INLINE_BYTES + 1)
    store.append([finished(2), finished(0, record=long, body=b"raw")])
    store.append([finished(1, "failed")])
    assert [seq for seq, _ in store.records(0, 10)] == [1, 2, 3]
    assert [record for _, record in store.records(1, 1)] == [long]
    assert [index for index, _ in store.records_by_index(0, 10)] == [0, 1, 2]
    assert store.bodies(1, 1) == [(2, long, b"raw")]
    assert sorted(store.finished_indexes()) == [0, 1, 2]
    assert store.finished_among([1, 2, 7]) == {1, 2}
    assert store.counts() == {"ok": 2, "failed": 1}
    store.close()
    again = Store.open(path)
    assert again.last_seq == 3
    again.close()


def test_a_second_result_for_a_row_is_refused(path: Path) -> None:
    store = Store.open(path)
    store.append([finished(0)])
    with pytest.raises(StorageError, match="UNIQUE"):
        store.append([finished(1), finished(0)])
    assert (store.last_seq, sorted(store.finished_indexes())) == (1, [0])
    with pytest.raises(StorageError, match="failed before"):
        store.append([finished(2)])
    store.close()


def test_superseded_results_make_room_and_sinks_start_over(path: Path) -> None:
    store = Store.open(path)
    store.append([finished(0, "failed"), finished(1)], [SinkState("a", 2, {"bytes": 9})])
    assert store.supersede_failed() == 1
    assert store.sink("a") == SinkState("a", 0, {})
    store.append([finished(0)])
    assert [seq for seq, _ in store.records(0, 10)] == [2, 3]
    store.put_sink(SinkState("a", 3, {"bytes": 5}))
    assert store.supersede_failed() == 0
    assert store.sink("a") == SinkState("a", 3, {"bytes": 5})
    store.close()


def test_an_earlier_writer_can_write_nothing_any_more(path: Path) -> None:
    old = Store.open(path)
    old.append([finished(0)])
    new = Store.open(path)
    for attempt in (
        lambda: old.append([finished(1)]),
        lambda: old.put_sink(SinkState("a", 1, {})),
        lambda: old.put_meta("job", {}),
        lambda: old.reject("a", 0, "no"),
        old.supersede_failed,
        old.check_owner,
    ):
        with pytest.raises(RunLocked) as caught:
            attempt()
        assert (caught.value.code, caught.value.exit_code) == ("E0701", 7)
    new.append([finished(1)])
    assert sorted(new.finished_indexes()) == [0, 1]
    old.close()
    new.close()


def test_a_newer_journal_is_refused_and_not_touched(path: Path) -> None:
    Store.open(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 9")
    connection.close()
    before = path.read_bytes()
    for opening in (Store.open, Store.read):
        with pytest.raises(StorageError) as caught:
            opening(path)
        assert caught.value.code == "E0641"
    assert path.read_bytes() == before
    with pytest.raises(StorageError) as caught:
        Store.open(path)
    assert caught.value.message == f"the journal {str(path)!r} has format 9, and this promptmill knows 2 at most"
    assert caught.value.hint == "upgrade promptmill; the journal was not touched and nothing was sent"


def test_an_older_journal_is_brought_up_to_date(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store.open(path)
    store.append([finished(0)])
    store.close()
    now = schema.VERSION
    monkeypatch.setattr(schema, "VERSION", now + 2)
    monkeypatch.setattr(
        schema,
        "_STEPS",
        {now: "ALTER TABLE result ADD COLUMN tier TEXT;", now + 1: "CREATE TABLE batch (id TEXT PRIMARY KEY);"},
    )
    store = Store.open(path)
    assert [record for _, record in store.records(0, 10)] == [b'{"id": "0"}']
    store.close()
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT tier FROM result").fetchall() == [(None,)]
    assert connection.execute("SELECT * FROM batch").fetchall() == []
    assert connection.execute("PRAGMA user_version").fetchone() == (now + 2,)
    connection.close()


FORMAT_1 = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE result (
    seq INTEGER PRIMARY KEY,
    idx INTEGER NOT NULL,
    id TEXT NOT NULL,
    digest BLOB NOT NULL,
    status TEXT NOT NULL,
    record BLOB,
    crc INTEGER NOT NULL,
    superseded INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX result_idx ON result (idx) WHERE NOT superseded;
CREATE TABLE payload (seq INTEGER PRIMARY KEY, record BLOB, body BLOB);
CREATE TABLE sink (name TEXT PRIMARY KEY, seq INTEGER NOT NULL, position BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE rejected (sink TEXT, seq INTEGER, reason TEXT NOT NULL, PRIMARY KEY (sink, seq)) WITHOUT ROWID;
PRAGMA user_version = 1;
"""
"""What the first version made, to the letter."""


def test_a_journal_of_format_1_is_read_and_then_written(path: Path) -> None:
    record = b'{"id": "17"}'
    connection = sqlite3.connect(path)
    connection.executescript(FORMAT_1)
    connection.execute(
        "INSERT INTO result VALUES (1, 16, '17', x'00', 'ok', ?, ?, 0)", (record, zlib.crc32(record, 16))
    )
    connection.commit()
    connection.close()
    reader = Store.read(path)
    assert list(reader.records(0, 10)) == [(1, record)]
    reader.close()
    store = Store.open(path)
    assert list(store.records(0, 10)) == [(1, record)]
    assert store.shards() == []
    store.put_shard(shard("a"))
    store.append([finished(0)])
    store.close()
    again = Store.open(path)
    assert again.shards() == [shard("a")]
    assert again.last_seq == 2
    again.close()


def shard(tag: str, state: ShardState = "submitting", handle: str | None = None) -> ShardRecord:
    return ShardRecord(
        tag=tag,
        provider="bulk",
        state=state,
        handle=handle,
        requests=3,
        bytes=400,
        tokens=50,
        operation="chat",
        model=None,
    )


def test_a_shard_is_kept_as_it_last_was(path: Path) -> None:
    store = Store.open(path)
    store.put_shard(shard("b"))
    store.put_shard(shard("a"))
    store.put_shard(shard("b", "submitted", "batch_1"))
    store.close()
    store = Store.open(path)
    assert store.shards() == [shard("a"), shard("b", "submitted", "batch_1")]
    assert [one.is_open for one in store.shards()] == [True, True]
    store.put_shard(shard("a", "dropped"))
    store.put_shard(shard("b", "collected", "batch_1"))
    assert [one.is_open for one in store.shards()] == [False, False]
    store.close()


def test_a_process_that_lost_the_run_writes_no_shard(path: Path) -> None:
    old, new = Store.open(path), Store.open(path)
    with pytest.raises(RunLocked):
        old.put_shard(shard("a"))
    assert new.shards() == []
    old.close()
    new.close()


def test_an_upgrade_that_fails_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Store.open(path).close()
    with monkeypatch.context() as patch:
        patch.setattr(schema, "VERSION", schema.VERSION + 1)
        patch.setattr(schema, "_STEPS", {schema.VERSION - 1: "ALTER TABLE result ADD COLUMN tier TEXT; nonsense;"})
        with pytest.raises(StorageError):
            Store.open(path)
    store = Store.open(path)
    store.append([finished(0)])
    store.close()


def test_reading_writes_nothing(path: Path) -> None:
    writer = Store.open(path)
    writer.append([finished(0)])
    reader = Store.read(path)
    assert reader.counts() == {"ok": 1}
    writer.append([finished(1)])
    assert reader.counts() == {"ok": 2}
    with pytest.raises(PromptmillError):
        reader.put_meta("a", 1)
    assert writer.meta("a") is None
    reader.close()
    writer.close()


def test_what_is_no_database_is_called_damaged(path: Path) -> None:
    path.write_bytes(b"this is text " * 1000)
    with pytest.raises(StorageError) as caught:
        Store.open(path)
    assert caught.value.code == "E0644"
    assert "--fresh" in (caught.value.hint or "")


def test_a_changed_record_is_noticed(path: Path) -> None:
    store = Store.open(path)
    store.append([finished(0), finished(1)])
    store.close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE result SET record = ? WHERE idx = 1", (b'{"id": "7"}',))
    connection.commit()
    connection.close()
    store = Store.open(path)
    for look in (
        lambda: store.records(0, 10),
        lambda: store.records_by_index(0, 10),
        lambda: store.bodies(0, 10),
        lambda: list(store.answers()),
    ):
        with pytest.raises(StorageError) as caught:
            look()
        assert caught.value.code == "E0644"
        assert "row 2" in caught.value.message
    store.close()


@pytest.mark.parametrize("kind", ["flip", "cut", "zero"])
def test_damage_is_reported_or_harmless(path: Path, tmp_path: Path, kind: str) -> None:
    """None of many damaged journals gives a record that was not written, or raises anything else."""
    store = Store.open(path)
    truth = {index: b'{"id": "%d", "text": "%s"}' % (index, b"answer " * 40) for index in range(300)}
    for start in range(0, 300, 50):
        store.append([finished(at, record=truth[at]) for at in range(start, start + 50)])
    store.close()
    pristine = path.read_bytes()
    chance = random.Random(kind)
    reported = 0
    for trial in range(120):
        damaged = tmp_path / f"damaged-{trial % 2}.db"
        for left in tmp_path.glob(f"{damaged.name}*"):
            left.unlink()
        damaged.write_bytes(spoiled(pristine, kind, chance))
        try:
            store = Store.open(damaged)
        except StorageError:
            reported += 1
            continue
        try:
            list(store.finished_indexes())
            records = store.records_by_index(0, 1000)
            assert all(truth[index] == record for index, record in records)
            assert all(record in truth.values() for _, record in store.records(0, 1000))
        except StorageError:
            reported += 1
        store.close()
    assert reported > 10


def spoiled(data: bytes, kind: str, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    if kind == "flip":
        return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]
    if kind == "cut":
        return data[:at]
    page = at // 512 * 512
    return data[:page] + bytes(512) + data[page + 512 :]
