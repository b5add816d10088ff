"""The journal's database: SQLite in WAL mode, every commit synced. All of it blocks: call it in a worker thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from promptmill._journal import schema
from promptmill.errors import RunLocked, StorageError
from promptmill.files import fsync_dir
from promptmill.jsontext import JSON, decode, encode

INLINE_BYTES: Final = 64 * 1024
"""Longer records are kept apart, so that looking through the table stays cheap."""

_PAGE_BYTES: Final = 16 * 1024
_CHECKPOINT_PAGES: Final = 4000


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


class Store:
    """One connection that writes. Each writer has an epoch; a later one makes every write of an earlier one fail."""

    def __init__(self, path: Path, connection: sqlite3.Connection, *, writer: bool) -> None:
        self.path = path
        self.is_full = False
        """Whether the last transaction failed for want of space."""
        self._connection = connection
        self._epoch = self._claim() if writer else 0
        self.last_seq: int = connection.execute("SELECT coalesce(max(seq), 0) FROM result").fetchone()[0]

    @classmethod
    def open(cls, path: Path) -> Store:
        """Open to write, creating the database when absent. Raises StorageError."""
        new = not path.exists()
        with _storage_errors(path):
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            if new:
                connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
            schema.prepare(connection, str(path))
            store = cls(path, connection, writer=True)
        if new:
            fsync_dir(path.parent)
        return store

    @classmethod
    def read(cls, path: Path) -> Store:
        """Open to look, also while another process writes. Raises StorageError."""
        with _storage_errors(path):
            connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False)
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version != schema.VERSION:
                raise StorageError(
                    f"the journal {str(path)!r} has format {version}, not {schema.VERSION}", code="E0641"
                )
            return cls(path, connection, writer=False)

    def append(self, results: Sequence[Finished], sinks: Sequence[SinkState] = ()) -> None:
        """Commit results and sink positions together. Raises StorageError, or RunLocked when another took over."""
        with self._transaction() as run:
            for result in results:
                self.last_seq += 1
                apart = len(result.record) > INLINE_BYTES
                run.execute(
                    "INSERT INTO result (seq, idx, id, digest, status, record) VALUES (?, ?, ?, ?, ?, ?)",
                    (
                        self.last_seq,
                        result.index,
                        result.id,
                        result.digest,
                        result.status,
                        None if apart else result.record,
                    ),
                )
                if apart or result.body:
                    payload = (self.last_seq, result.record if apart else None, result.body or None)
                    run.execute("INSERT INTO payload (seq, record, body) VALUES (?, ?, ?)", payload)
            for sink in sinks:
                self._put_sink(run, sink)

    def put_sink(self, sink: SinkState) -> None:
        """Commit how far a sink has come."""
        with self._transaction() as run:
            self._put_sink(run, sink)

    def reject(self, sink: str, seq: int, reason: str) -> None:
        """Note that a sink does not take a row."""
        with self._transaction() as run:
            run.execute("INSERT OR REPLACE INTO rejected VALUES (?, ?, ?)", (sink, seq, reason))

    def supersede_failed(self) -> int:
        """Make failed requests pending again, and all sinks start over without them. Returns how many there were."""
        with self._transaction() as run:
            count = run.execute("UPDATE result SET superseded = 1 WHERE status = 'failed' AND superseded = 0").rowcount
            if count:
                run.execute("UPDATE sink SET seq = 0, position = '{}'")
        return count

    def put_meta(self, key: str, value: JSON) -> None:
        with self._transaction() as run:
            run.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, encode(value)))

    def meta(self, key: str) -> JSON:
        """The value kept under ``key``; None when there is none."""
        row = self._connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else decode(row[0])

    def sink(self, name: str) -> SinkState | None:
        row = self._connection.execute("SELECT seq, position FROM sink WHERE name = ?", (name,)).fetchone()
        return None if row is None else SinkState(name, row[0], decode(row[1]))

    def records(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        """Sequence numbers and records behind ``after``, in the order of their commits."""
        query = (
            "SELECT seq, coalesce(result.record, payload.record) FROM result LEFT JOIN payload USING (seq) "
            "WHERE seq > ? AND NOT superseded ORDER BY seq LIMIT ?"
        )
        return self._connection.execute(query, (after, limit)).fetchall()

    def records_by_index(self, first: int, limit: int) -> list[tuple[int, bytes]]:
        """Indexes and records from index ``first`` on, in the order of the input."""
        query = (
            "SELECT idx, coalesce(result.record, payload.record) FROM result LEFT JOIN payload USING (seq) "
            "WHERE idx >= ? AND NOT superseded ORDER BY idx LIMIT ?"
        )
        return self._connection.execute(query, (first, limit)).fetchall()

    def keep_index(self) -> None:
        """Make :meth:`records_by_index` quick; each result costs a little more from then on."""
        self._connection.execute("CREATE INDEX IF NOT EXISTS result_idx ON result (idx) WHERE NOT superseded")

    def bodies(self, after: int, limit: int) -> list[tuple[int, bytes, bytes | None]]:
        """Sequence numbers, records and raw replies behind ``after``."""
        query = (
            "SELECT seq, coalesce(result.record, payload.record), body FROM result LEFT JOIN payload USING (seq) "
            "WHERE seq > ? AND NOT superseded ORDER BY seq LIMIT ?"
        )
        return self._connection.execute(query, (after, limit)).fetchall()

    def finished(self) -> Iterator[tuple[int, str, bytes, str]]:
        """Index, id, digest and status of everything that counts as finished."""
        query = "SELECT idx, id, digest, status FROM result WHERE NOT superseded"
        return iter(self._connection.execute(query))

    def answers(self) -> Iterator[tuple[bytes, bytes]]:
        """Digest and record of everything that counts as finished."""
        query = (
            "SELECT digest, coalesce(result.record, payload.record) FROM result LEFT JOIN payload USING (seq) "
            "WHERE NOT superseded"
        )
        return iter(self._connection.execute(query))

    def finished_indexes(self) -> list[int]:
        """The input positions of everything that counts as finished."""
        return [index for (index,) in self._connection.execute("SELECT idx FROM result WHERE NOT superseded")]

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
        rows = self._connection.execute("SELECT name, seq, position FROM sink ORDER BY name")
        return [SinkState(name, seq, decode(position)) for name, seq, position in rows]

    def rejected(self, sink: str) -> dict[str, str]:
        """The rows a sink does not take: ids and reasons."""
        query = "SELECT id, reason FROM rejected JOIN result USING (seq) WHERE sink = ? AND NOT superseded"
        return dict(self._connection.execute(query, (sink,)))

    def close(self) -> None:
        self._connection.close()

    def _claim(self) -> int:
        run = self._connection
        run.execute("BEGIN IMMEDIATE")
        row = run.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
        epoch = 1 + (0 if row is None else int(decode(row[0])))
        run.execute("INSERT OR REPLACE INTO meta VALUES ('epoch', ?)", (encode(epoch),))
        run.execute("COMMIT")
        return epoch

    def _put_sink(self, run: sqlite3.Connection, sink: SinkState) -> None:
        run.execute("INSERT OR REPLACE INTO sink VALUES (?, ?, ?)", (sink.name, sink.seq, encode(sink.position)))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        last = self.last_seq
        with _storage_errors(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                if self.meta("epoch") != self._epoch:
                    raise RunLocked(
                        "another process has taken this run over; what this one had in flight is not recorded",
                        code="E0701",
                    )
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException as error:
                self.last_seq = last
                self.is_full = getattr(error, "sqlite_errorname", "") == "SQLITE_FULL"
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise


@contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StorageError(
            f"the journal {str(path)!r} failed: {error}",
            code="E0640",
            hint="see to the disk, then run the same command again: what was committed is kept",
        ) from error
