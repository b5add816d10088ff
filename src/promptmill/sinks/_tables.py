"""Sinks that write into a table of a database: rows and the place behind them in one transaction."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, ClassVar, Final, Protocol, TypeAlias

from anyio import to_thread

from promptmill.errors import RowRejected, StorageError, UsageError
from promptmill.interfaces import Position, Sink
from promptmill.models import Result
from promptmill.sinks._altered import Altered
from promptmill.sinks._columns import COLUMNS, Cell, Kind, flatten

CHECKPOINT: Final = "promptmill_checkpoint"
"""The table that says how far each run has come."""

NAME: Final = r"[A-Za-z_][A-Za-z0-9_]{0,62}"
"""What a table may be called: 63 characters are what PostgreSQL keeps of a name."""

_OWN: Final[dict[str, Kind]] = {"run_id": "text", "seq": "integer"}
"""The columns before those of the record: the run, and the number of the row in the order this run wrote them."""

_KEY: Final = ("run_id", "id")

Row: TypeAlias = list[Cell]


class Connection(Protocol):
    """What the drivers have in common. Transactions are begun and ended by statements."""

    def execute(self, statement: Any, values: Any = ..., /) -> Any: ...

    def close(self) -> None: ...


class TableSink(Sink):
    """Adds to a table, in which rows of other runs may be too and are left alone; creates it when absent.

    Each group is a transaction of its own, so nothing is locked while the next one is waited for. What was written
    behind the position the run goes on from is deleted by its number; a row that comes again replaces the first.

    Args:
        place: the database, for messages.
        table: the name of the table, see :data:`NAME`.
        run_id: the run whose rows these are.
        schema: where the tables are; None leaves it to the database.

    Raises:
        UsageError: ``table`` or ``schema`` is no such name.
    """

    types: ClassVar[Mapping[Kind, str]]
    """What the database calls the types of columns."""
    mark: ClassVar[str] = "?"
    """What stands for a value in a statement."""
    begin: ClassVar[str] = "BEGIN"
    nul: ClassVar[bool] = True
    """Whether texts may have NUL characters in them."""

    def __init__(self, place: str, table: str, run_id: str, schema: str | None = None) -> None:
        for name in (table, *([] if schema is None else [schema])):
            if not re.fullmatch(NAME, name):
                raise UsageError(
                    f"a table cannot be called {name!r}: use letters, digits and _, 63 at most", code="E0209"
                )
        self.table = table
        self._place = place
        self._altered = Altered(place)
        self._run_id = run_id
        self._schema = schema
        self._connection: Any = None
        self._seq = 0

    async def start(self, position: Position | None) -> None:
        """Find or make the tables and delete what is behind ``position``.

        Raises:
            StorageError: the table is not like ours (E0614), this run has written what it does not know of (E0610),
                what it has written is gone (E0611), or the database fails (E0613).
        """
        await to_thread.run_sync(self._start, position)

    async def probe(self, position: Position | None) -> None:
        await to_thread.run_sync(self._probe, position)

    async def write(self, results: Sequence[Result]) -> None:
        if results:
            await to_thread.run_sync(self._write, results)

    async def commit(self) -> Position:
        """``{"seq": n}``: the number of the last row. Every write is a commit already."""
        return {"seq": self._seq}

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await to_thread.run_sync(self._close, connection)

    @abstractmethod
    def connect(self) -> Connection:
        """Open the database, committing each statement outside a transaction. Raises what the driver raises."""

    @abstractmethod
    def columns_of(self, connection: Connection, table: str) -> dict[str, str]:
        """Names and types of the columns of a table; empty when there is no such table."""

    @abstractmethod
    def insert(self, connection: Connection, rows: Sequence[Row]) -> None:
        """Insert or replace rows; no id occurs twice in them. :meth:`upsert` has the statement."""

    @abstractmethod
    def failures(self) -> tuple[type[Exception], tuple[type[Exception], ...]]:
        """Every error of the driver, and those among them that one row is to blame for."""

    def upsert(self, source: str) -> str:
        """The statement that takes rows from ``source``, such as ``VALUES (?, ?)``, and replaces those it has."""
        columns = ", ".join(quoted(name) for name in self._types())
        changed = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in self._types() if name not in _KEY)
        key = ", ".join(quoted(name) for name in _KEY)
        into = self.named(self.table)
        return f"INSERT INTO {into} ({columns}) {source} ON CONFLICT ({key}) DO UPDATE SET {changed}"

    def marks(self) -> str:
        """A mark for each column."""
        return ", ".join(self.mark for _ in self._types())

    def column_types(self) -> list[str]:
        """The type of each column, in order."""
        return list(self._types().values())

    def _types(self) -> dict[str, str]:
        record: dict[str, Kind] = {column.name: column.kind for column in COLUMNS}
        return {name: self.types[kind] for name, kind in {**_OWN, **record}.items()}

    def named(self, table: str) -> str:
        """A table of ours as statements write it."""
        return quoted(table) if self._schema is None else f"{quoted(self._schema)}.{quoted(table)}"

    def _sql(self, statement: str) -> str:
        """Statements are written with ``?`` for a value and ``{results}`` and ``{checkpoint}`` for the tables."""
        tables = {"results": self.named(self.table), "checkpoint": self.named(CHECKPOINT)}
        return statement.format(**tables).replace("?", self.mark)

    def exists(self) -> bool:
        """Whether there is a database, so that connecting would make none. Raises StorageError when none can be."""
        return True

    def _probe(self, position: Position | None) -> None:
        reached, present = None, 0
        if self.exists():
            with self._naming():
                connection = self.connect()
                try:
                    if found := self.columns_of(connection, self.table):
                        _check_columns(self.table, self._place, found, self._types())
                    reached = self._reached(connection) if self.columns_of(connection, CHECKPOINT) else None
                    present = self._present(connection, position) if found else 0
                finally:
                    self._close(connection)
        self._refuse(position, reached, present)

    def _refuse(self, position: Position | None, reached: int | None, present: int) -> None:
        """Refuse a table that is not as this run left it: it has come as far as ``reached``, and up to the position
        ``present`` of its rows are there."""
        at = _seq_of(position, self._place)
        if position is None and reached is not None:
            raise self._unknown(reached)
        if at > min(reached or 0, present):
            raise self._lost(at, min(reached or 0, present))

    def _present(self, connection: Connection, position: Position | None) -> int:
        query = self._sql("SELECT count(*) FROM {results} WHERE run_id = ? AND seq <= ?")
        rows = connection.execute(query, (self._run_id, _seq_of(position, self._place))).fetchall()
        return int(rows[0][0])

    def _start(self, position: Position | None) -> None:
        at = _seq_of(position, self._place)
        with self._naming():
            self._connection = connection = self.connect()
            with self._transaction(connection):
                self._prepare(connection)
                reached = self._reached(connection)
                self._refuse(position, reached, self._present(connection, position))
                if reached is not None and at < reached:
                    self._go_back(connection, at)
        self._seq = at

    def _prepare(self, connection: Connection) -> None:
        """Make the tables that are absent, check those that are there."""
        wanted = self._types()
        keys = {"run_id": self.types["text"], "table_name": self.types["text"], "seq": self.types["integer"]}
        self._table(connection, self.table, wanted, _KEY)
        self._table(connection, CHECKPOINT, keys, ("run_id", "table_name"))
        try:
            nothing = ", ".join(f"CAST(NULL AS {kind})" for kind in wanted.values())
            connection.execute(self.upsert(f"SELECT {nothing} WHERE 1 = 0"))
        except self.failures()[0] as error:
            raise StorageError(
                f"the table {self.table!r} of {self._place} cannot be written: {_first_line(error)}",
                code="E0614",
                hint=f"it needs the primary key ({', '.join(_KEY)}); name another table, and it will be made",
            ) from error

    def _table(self, connection: Connection, table: str, wanted: Mapping[str, str], key: Sequence[str]) -> None:
        if found := self.columns_of(connection, table):
            _check_columns(table, self._place, found, wanted)
            return
        columns = ", ".join(f"{quoted(name)} {kind}" for name, kind in wanted.items())
        primary = ", ".join(quoted(name) for name in key)
        connection.execute(f"CREATE TABLE IF NOT EXISTS {self.named(table)} ({columns}, PRIMARY KEY ({primary}))")

    def _reached(self, connection: Connection) -> int | None:
        query = self._sql("SELECT seq FROM {checkpoint} WHERE run_id = ? AND table_name = ?")
        rows = connection.execute(query, (self._run_id, self.table)).fetchall()
        return int(rows[0][0]) if rows else None

    def _go_back(self, connection: Connection, seq: int) -> None:
        connection.execute(self._sql("DELETE FROM {results} WHERE run_id = ? AND seq > ?"), (self._run_id, seq))
        self._put_reached(connection, seq)

    def _put_reached(self, connection: Connection, seq: int) -> None:
        statement = (
            "INSERT INTO {checkpoint} (run_id, table_name, seq) VALUES (?, ?, ?) "
            "ON CONFLICT (run_id, table_name) DO UPDATE SET seq = excluded.seq"
        )
        connection.execute(self._sql(statement), (self._run_id, self.table, seq))

    def _write(self, results: Sequence[Result]) -> None:
        last = {result.id: result for result in results}  # a statement cannot change a row twice
        rows = [
            [self._run_id, seq, *flatten(one, self._altered, nul=self.nul)]
            for seq, one in enumerate(last.values(), start=self._seq + 1)
        ]
        connection = self._opened()
        with self._naming():
            try:
                with self._transaction(connection):
                    self.insert(connection, rows)
                    self._put_reached(connection, self._seq + len(rows))
            except self.failures()[1] as error:
                raise self._culprit(connection, list(zip(last, rows, strict=True))) from error
        self._seq += len(rows)

    def _culprit(self, connection: Connection, rows: list[tuple[str, Row]]) -> StorageError:
        """Find the row that is to blame by halves."""
        while len(rows) > 1:
            half = len(rows) // 2
            rows = rows[:half] if self._refusal(connection, rows[:half]) else rows[half:]
        reason = self._refusal(connection, rows)
        if reason is None:
            return StorageError(f"{self._place} refuses rows together that it takes alone", code="E0613")
        return RowRejected(f"{self._place} does not take it: {_first_line(reason)}", result_id=rows[0][0])

    def _refusal(self, connection: Connection, rows: Sequence[tuple[str, Row]]) -> Exception | None:
        connection.execute(self.begin)
        try:
            self.insert(connection, [row for _, row in rows])
        except self.failures()[1] as error:
            return error
        finally:
            connection.execute("ROLLBACK")
        return None

    @contextmanager
    def _transaction(self, connection: Connection) -> Iterator[None]:
        connection.execute(self.begin)
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            with suppress(*self._any_failure()):
                connection.execute("ROLLBACK")
            raise

    @contextmanager
    def _naming(self) -> Iterator[None]:
        """Turn an error of the driver into a StorageError that says which database it was."""
        try:
            yield
        except self._any_failure() as error:
            raise StorageError(
                f"{self._place} cannot be used: {_first_line(error)}",
                code="E0613",
                hint="see to the database, then run the same command again: what was committed is kept",
            ) from error

    def _any_failure(self) -> tuple[type[Exception], ...]:
        return (self.failures()[0],)

    def _opened(self) -> Connection:
        if self._connection is None:
            raise RuntimeError("start() comes before write() and commit()")
        connection: Connection = self._connection
        return connection

    def _close(self, connection: Connection) -> None:
        with suppress(*self._any_failure()):  # nothing is lost: every write was committed
            connection.close()

    def _unknown(self, there: int) -> StorageError:
        return StorageError(
            f"the table {self.table!r} of {self._place} has {there} rows of this run that the run does not know of",
            code="E0610",
            hint=f"delete the rows with the run_id {self._run_id!r} there and in {CHECKPOINT}, or name another table",
        )

    def _lost(self, seq: int, there: int) -> StorageError:
        return StorageError(
            f"the table {self.table!r} of {self._place} has {there} rows of this run, and {seq} were written: "
            "it was changed since",
            code="E0611",
            hint="bring the table back, or name another and write it anew from the journal with `promptmill export`",
        )


def quoted(name: str) -> str:
    """A name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def _check_columns(table: str, place: str, found: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    differences = [f"it has no column {name!r}" for name in wanted if name not in found]
    differences += [f"it has a column {name!r} that is not ours" for name in found if name not in wanted]
    differences += [
        f"the column {name!r} is {found[name]} and should be {kind}"
        for name, kind in wanted.items()
        if name in found and found[name].lower() != kind.lower()
    ]
    if differences:
        raise StorageError(
            f"the table {table!r} of {place} is not one of ours: {'; '.join(differences)}",
            code="E0614",
            hint="name another table in the job's sinks, and it will be made",
        )


def by_column(rows: Sequence[Row]) -> list[list[Cell]]:
    """The cells of each column, for drivers that take arrays."""
    return [list(cells) for cells in zip(*rows, strict=True)]


def _seq_of(position: Position | None, place: str) -> int:
    seq = position.get("seq") if position else 0
    if not isinstance(seq, int) or seq < 0:
        raise StorageError(f"the position kept for {place} is not of this sink: {position!r}", code="E0611")
    return seq


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
