"""The journal's database: SQLite in WAL mode, every commit synced. All of it blocks: call it in a worker thread."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from promptmill._journal import schema
from promptmill._journal.foreign import make_database, refuse_foreign_database
from promptmill._journal.shards import ShardRecord, put_shard, read_shards
from promptmill.errors import RunLocked, StorageError
from promptmill.files import fsync_dir
from promptmill.jsontext import JSON, decode, encode

INLINE_BYTES: Final = 64 * 1024
"""Longer records are kept apart, so that looking through the table stays cheap."""

_PAGE_BYTES: Final = 16 * 1024
_CHECKPOINT_PAGES: Final = 4000

_ROWS_AT_ONCE: Final = 256
_STATEMENTS_KEPT: Final = 16
"""Those for many rows are large, and there is one for each number of rows."""

_TRY_AGAIN: Final = frozenset({"SQLITE_FULL", "SQLITE_BUSY"})
"""Errors after which the same transaction may be tried again. After any other nobody knows what is on the disk."""

_DAMAGED: Final = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_FORMAT")

_RESTART_SINKS: Final = "UPDATE sink SET seq = 0, position = '{}'"

Row = tuple[int, bytes]


class Finished(msgspec.Struct, frozen=True):
    """One result as the journal keeps it. ``record`` is the line of the jsonl sink; ``body`` the raw reply."""

    index: int
    id: str
    digest: bytes
    status: str
    record: bytes
    body: bytes = b""


class SinkState(msgspec.Struct, frozen=True):
    """How far a sink has come: everything up to ``seq`` is behind ``position``."""

    name: str
    seq: int
    position: dict[str, JSON]


class Rejection(msgspec.Struct, frozen=True):
    """A result that a sink does not take."""

    seq: int
    index: int
    id: str
    reason: str


class Store:
    """One connection that writes. Each writer has an epoch; a later one makes every write of an earlier one fail."""

    def __init__(self, path: Path, connection: sqlite3.Connection, *, writer: bool) -> None:
        self.path = path
        self.is_full = False
        """Whether the last transaction failed for want of space."""
        self._connection = connection
        self._broken = False
        self.epoch = self._claim() if writer else 0
        self.last_seq: int = connection.execute("SELECT coalesce(max(seq), 0) FROM result").fetchone()[0]

    @classmethod
    def open(cls, path: Path) -> Store:
        """Open to write, creating the database when absent. Raises StorageError."""
        make_database(path)
        with _storage_errors(path):
            connection = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, cached_statements=_STATEMENTS_KEPT
            )
            try:
                connection.execute("PRAGMA trusted_schema = OFF")
                connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
                schema.prepare(connection, str(path))
                store = cls(path, connection, writer=True)
                fsync_dir(path.parent)
            except BaseException:
                connection.close()
                raise
        return store

    @classmethod
    def read(cls, path: Path) -> Store:
        """Open to look, also while another process writes. Raises StorageError."""
        refuse_foreign_database(path)
        with _storage_errors(path):
            connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False)
            connection.execute("PRAGMA trusted_schema = OFF")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if not 1 <= version <= schema.VERSION:
                raise StorageError(
                    f"the journal {str(path)!r} has format {version}, and this promptmill reads 1 to {schema.VERSION}",
                    code="E0641",
                )
            return cls(path, connection, writer=False)

    def append(
        self, results: Sequence[Finished], sinks: Sequence[SinkState] = (), meta: Mapping[str, JSON] | None = None
    ) -> None:
        """Commit results, sink positions and ``meta`` together. Raises StorageError, or RunLocked when another took
        over."""
        with self._transaction() as run:
            self._insert(run, results)
            for sink in sinks:
                self._put_sink(run, sink)
            for key, value in (meta or {}).items():
                self._put_meta(run, key, value)

    def put_sink(self, sink: SinkState) -> None:
        """Commit how far a sink has come."""
        with self._transaction() as run:
            self._put_sink(run, sink)

    def put_shard(self, shard: ShardRecord) -> None:
        """Commit how far a shard has come."""
        with self._transaction() as run:
            put_shard(run, shard)

    def shards(self) -> list[ShardRecord]:
        """All shards of the run that a provider has heard of, or may have."""
        with _storage_errors(self.path):
            try:
                return read_shards(self._connection)
            except ValueError as error:
                raise damaged(self.path, str(error)) from error

    def reject(self, sink: str, index: int, reason: str) -> None:
        """Note that a sink does not take the result of the input row ``index``."""
        query = "INSERT OR REPLACE INTO rejected SELECT ?, seq, ? FROM result WHERE idx = ? AND NOT superseded"
        with self._transaction() as run:
            run.execute(query, (sink, reason, index))

    def rejections(self, sink: str) -> list[Rejection]:
        """The rows a sink does not take, in the order of their commits."""
        query = (
            "SELECT seq, idx, id, reason FROM rejected JOIN result USING (seq) "
            "WHERE sink = ? AND NOT superseded ORDER BY seq"
        )
        return [Rejection(*row) for row in self._rows(query, (sink,))]

    def forgive(self, sink: str, seqs: Sequence[int], state: SinkState | None = None) -> None:
        """Forget that a sink did not take these results; ``state`` is how far it has come with them."""
        with self._transaction() as run:
            run.executemany("DELETE FROM rejected WHERE sink = ? AND seq = ?", [(sink, seq) for seq in seqs])
            if state is not None:
                self._put_sink(run, state)

    def count_behind(self, number: int, *, by_index: bool) -> int:
        """Results that come after ``number``: the one of their commit, or the 1-based one of their row."""
        query = "SELECT count(*) FROM result WHERE seq > ? AND NOT superseded"
        if by_index:
            query = "SELECT count(*) FROM result WHERE idx >= ? AND NOT superseded"
        return int(self._rows(query, (number,))[0][0])

    def supersede_failed(self) -> int:
        """Make failed requests pending again, and all sinks start over without them. Returns how many there were."""
        with self._transaction() as run:
            count = run.execute("UPDATE result SET superseded = 1 WHERE status = 'failed' AND superseded = 0").rowcount
            if count:
                run.execute(_RESTART_SINKS)
        return count

    def restart_sinks(self) -> None:
        """Make all sinks start over."""
        with self._transaction() as run:
            run.execute(_RESTART_SINKS)

    def put_meta(self, key: str, value: JSON) -> None:
        with self._transaction() as run:
            self._put_meta(run, key, value)

    def check_owner(self) -> None:
        """Raise RunLocked when another process has taken the run over."""
        if self.meta("epoch") != self.epoch:
            raise RunLocked(
                "another process has taken this run over; what this one had in flight is not recorded", code="E0701"
            )

    def meta(self, key: str) -> JSON:
        """The value kept under ``key``; None when there is none."""
        rows = self._rows("SELECT value FROM meta WHERE key = ?", (key,))
        return decode(rows[0][0]) if rows else None

    def sink(self, name: str) -> SinkState | None:
        rows = self._rows("SELECT seq, position FROM sink WHERE name = ?", (name,))
        return SinkState(name, rows[0][0], decode(rows[0][1])) if rows else None

    def records(self, after: int, limit: int) -> list[Row]:
        """Sequence numbers and records behind ``after``, in the order of their commits."""
        rows = self._rows(
            "SELECT seq, idx, coalesce(result.record, payload.record), crc FROM result LEFT JOIN payload USING (seq) "
            "WHERE seq > ? AND NOT superseded ORDER BY seq LIMIT ?",
            (after, limit),
        )
        return [(seq, self._sound(index, record, crc)) for seq, index, record, crc in rows]

    def records_by_index(self, first: int, limit: int) -> list[Row]:
        """Indexes and records from index ``first`` on, in the order of the input."""
        rows = self._rows(
            "SELECT idx, coalesce(result.record, payload.record), crc FROM result LEFT JOIN payload USING (seq) "
            "WHERE idx >= ? AND NOT superseded ORDER BY idx LIMIT ?",
            (first, limit),
        )
        return [(index, self._sound(index, record, crc)) for index, record, crc in rows]

    def bodies(self, after: int, limit: int) -> list[tuple[int, bytes, bytes | None]]:
        """Sequence numbers, records and raw replies behind ``after``."""
        rows = self._rows(
            "SELECT seq, idx, coalesce(result.record, payload.record), crc, body "
            "FROM result LEFT JOIN payload USING (seq) WHERE seq > ? AND NOT superseded ORDER BY seq LIMIT ?",
            (after, limit),
        )
        return [(seq, self._sound(index, record, crc), body) for seq, index, record, crc, body in rows]

    def finished(self) -> Iterator[tuple[int, str, bytes, str]]:
        """Index, id, digest and status of everything that counts as finished."""
        return self._each("SELECT idx, id, digest, status FROM result WHERE NOT superseded")

    def answers(self) -> Iterator[tuple[bytes, bytes]]:
        """Digest and record of everything that counts as finished."""
        rows = self._each(
            "SELECT digest, idx, coalesce(result.record, payload.record), crc "
            "FROM result LEFT JOIN payload USING (seq) WHERE NOT superseded"
        )
        return ((digest, self._sound(index, record, crc)) for digest, index, record, crc in rows)

    def finished_indexes(self) -> Iterator[int]:
        """The input positions of everything that counts as finished."""
        return (index for (index,) in self._each("SELECT idx FROM result WHERE NOT superseded"))

    def finished_among(self, indexes: Iterable[int]) -> set[int]:
        """Those of ``indexes`` that count as finished."""
        query = "SELECT 1 FROM result WHERE idx = ? AND NOT superseded LIMIT 1"
        return {index for index in indexes if self._rows(query, (index,))}

    def counts(self) -> dict[str, int]:
        """Finished requests by status."""
        return dict(
            self._connection.execute("SELECT status, count(*) FROM result WHERE NOT superseded GROUP BY status")
        )

    def error_counts(self) -> dict[str, int]:
        """Failed requests by the code of their error."""
        query = (
            "SELECT json_extract(CAST(coalesce(result.record, payload.record) AS TEXT), '$.error.code') AS code, "
            "count(*) FROM result LEFT JOIN payload USING (seq) "
            "WHERE status = 'failed' AND NOT superseded GROUP BY code"
        )
        return dict(self._connection.execute(query))

    def sinks(self) -> list[SinkState]:
        """How far each sink has come."""
        rows = self._rows("SELECT name, seq, position FROM sink ORDER BY name")
        return [SinkState(name, seq, decode(position)) for name, seq, position in rows]

    def rejected(self, sink: str) -> dict[str, str]:
        """The rows a sink does not take: ids and reasons."""
        query = "SELECT id, reason FROM rejected JOIN result USING (seq) WHERE sink = ? AND NOT superseded"
        return dict(self._rows(query, (sink,)))

    def close(self) -> None:
        with _storage_errors(self.path):
            self._connection.close()

    def _rows(self, query: str, values: tuple[object, ...] = ()) -> list[Any]:
        with _storage_errors(self.path):
            return self._connection.execute(query, values).fetchall()

    def _each(self, query: str) -> Iterator[Any]:
        with _storage_errors(self.path):
            for row in self._connection.execute(query):  # noqa: UP028 - it would close the cursor, maybe after its time
                yield row

    def _sound(self, index: int, record: bytes | None, crc: int) -> bytes:
        if record is None or _checksum(index, record) != crc:
            raise damaged(self.path, f"the record of row {index + 1} is not what was written")
        return record

    def _claim(self) -> int:
        run = self._connection
        run.execute("BEGIN IMMEDIATE")
        row = run.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
        epoch = 1 + (0 if row is None else int(decode(row[0])))
        run.execute("INSERT OR REPLACE INTO meta VALUES ('epoch', ?)", (encode(epoch),))
        run.execute("COMMIT")
        return epoch

    def _insert(self, run: sqlite3.Connection, results: Sequence[Finished]) -> None:
        rows, payloads = [], []
        for seq, one in enumerate(results, self.last_seq + 1):
            apart = len(one.record) > INLINE_BYTES
            record = None if apart else one.record
            rows.append((seq, one.index, one.id, one.digest, one.status, record, _checksum(one.index, one.record)))
            if apart or one.body:
                payloads.append((seq, one.record if apart else None, one.body or None))
        self.last_seq += len(rows)
        _insert_many(run, "INSERT INTO result (seq, idx, id, digest, status, record, crc) VALUES ", rows)
        _insert_many(run, "INSERT INTO payload (seq, record, body) VALUES ", payloads)

    def _put_meta(self, run: sqlite3.Connection, key: str, value: JSON) -> None:
        run.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, encode(value)))

    def _put_sink(self, run: sqlite3.Connection, sink: SinkState) -> None:
        run.execute("INSERT OR REPLACE INTO sink VALUES (?, ?, ?)", (sink.name, sink.seq, encode(sink.position)))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit all or nothing. After an error of the disk nothing is ever tried again: what a failed sync left
        unwritten may be reported as written the next time."""
        if self._broken:
            message = f"the journal {str(self.path)!r} failed before and is not written any more"
            raise StorageError(message, code="E0640")
        last, self.is_full = self.last_seq, False
        with _storage_errors(self.path):
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                self.check_owner()
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException as error:
                self.last_seq = last
                if isinstance(error, sqlite3.Error):
                    name = getattr(error, "sqlite_errorname", "")
                    self.is_full = name == "SQLITE_FULL"
                    self._broken = name not in _TRY_AGAIN
                if self._connection.in_transaction:
                    with contextlib.suppress(sqlite3.Error):
                        self._connection.execute("ROLLBACK")
                raise


def _insert_many(run: sqlite3.Connection, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
    """Insert rows, as many with each statement as can be: for each the interpreter's lock is let go of and waited for,
    and as long as this thread waits for it, every call of the system in the event loop's thread takes longer."""
    if not rows:
        return
    width = len(rows[0])
    most = max(min(_ROWS_AT_ONCE, run.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER) // width), 1)
    row = f"({', '.join('?' * width)})"
    for start in range(0, len(rows), most):
        group = rows[start : start + most]
        run.execute(statement + ", ".join([row] * len(group)), list(itertools.chain.from_iterable(group)))


def _checksum(index: int, record: bytes) -> int:
    return zlib.crc32(record, index & 0xFFFFFFFF)


@contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorname", "").startswith(_DAMAGED):
            raise damaged(path, str(error)) from error
        raise StorageError(
            f"the journal {str(path)!r} failed: {error}",
            code="E0640",
            hint="see to the disk, then run the same command again: what was committed is kept",
        ) from error


def damaged(path: Path, reason: str) -> StorageError:
    """The journal cannot be trusted: never go on as if nothing were there."""
    return StorageError(
        f"the journal {str(path)!r} is damaged: {reason}",
        code="E0644",
        hint="put back a copy of its directory, or start over with `--fresh`, which keeps this one aside",
    )
