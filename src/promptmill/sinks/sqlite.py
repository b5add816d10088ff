"""Sink ``sqlite``: a table in an SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from pydantic import Field

from promptmill.files import make_place
from promptmill.hookspecs import hookimpl
from promptmill.options import BuildContext, SinkOptions
from promptmill.sinks._columns import Kind
from promptmill.sinks._probing import FilePath, refuse_unwritable
from promptmill.sinks._tables import NAME, Connection, Row, TableSink

if TYPE_CHECKING:
    from promptmill.options import Register

_BUSY_SECONDS: Final = 10.0
"""How long another program may hold the file before that counts as a failure, and is tried again later."""


class SqliteSink(TableSink):
    """Booleans are 0 and 1, ``meta`` is the text of a JSON object. The journal mode of the file is left as it is."""

    types: ClassVar[Mapping[Kind, str]] = {
        "text": "TEXT",
        "integer": "INTEGER",
        "real": "REAL",
        "boolean": "INTEGER",
        "json": "TEXT",
    }
    begin = "BEGIN IMMEDIATE"

    def __init__(self, path: Path, *, table: str = "results", run_id: str = "") -> None:
        super().__init__(f"the database {str(path)!r}", table, run_id)
        self.path = path

    def exists(self) -> bool:
        refuse_unwritable(self.path)
        return self.path.exists()

    def connect(self) -> Connection:
        make_place(self.path)
        connection = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    def columns_of(self, connection: Connection, table: str) -> dict[str, str]:
        rows = connection.execute("SELECT name, type FROM pragma_table_info(?)", (table,)).fetchall()
        return dict(rows)

    def insert(self, connection: Connection, rows: Sequence[Row]) -> None:
        statement = self.upsert(f"VALUES ({self.marks()})")
        for row in rows:
            connection.execute(statement, row)

    def failures(self) -> tuple[type[Exception], tuple[type[Exception], ...]]:
        return sqlite3.Error, (sqlite3.IntegrityError, sqlite3.DataError)


class SqliteSinkOptions(SinkOptions):
    path: FilePath = Field(min_length=1, description="The file of the database, relative to the job file.")
    table: str = Field("results", pattern=f"^{NAME}$", description="The table to write; it is made when absent.")

    def build(self, context: BuildContext) -> SqliteSink:
        return SqliteSink(context.base_dir / self.path, table=self.table, run_id=context.run_id)


@hookimpl
def register_sink(register: Register) -> None:
    register("sqlite", SqliteSinkOptions)
