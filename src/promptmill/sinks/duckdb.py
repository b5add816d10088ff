"""Sink ``duckdb``: a table in a DuckDB file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from pydantic import Field

from promptmill.errors import PluginError
from promptmill.files import make_place
from promptmill.hookspecs import hookimpl
from promptmill.options import BuildContext, SinkOptions
from promptmill.sinks._columns import Kind
from promptmill.sinks._probing import FilePath, refuse_unwritable
from promptmill.sinks._tables import NAME, Connection, Row, TableSink, by_column

if TYPE_CHECKING:
    from promptmill.options import Register

_COLUMNS: Final = (
    "SELECT column_name, data_type FROM information_schema.columns "
    "WHERE lower(table_name) = lower(?) AND table_schema = current_schema()"
)


class DuckdbSink(TableSink):
    """``meta`` is JSON. DuckDB lets one process have the file: others can read it when the run is over.

    Raises:
        PluginError: duckdb is not installed.
    """

    types: ClassVar[Mapping[Kind, str]] = {
        "text": "VARCHAR",
        "integer": "BIGINT",
        "real": "DOUBLE",
        "boolean": "BOOLEAN",
        "json": "JSON",
    }

    def __init__(self, path: Path, *, table: str = "results", run_id: str = "") -> None:
        super().__init__(f"the database {str(path)!r}", table, run_id)
        self.path = path
        self._duckdb = _load_duckdb()

    def exists(self) -> bool:
        refuse_unwritable(self.path)
        return self.path.exists()

    def connect(self) -> Connection:
        make_place(self.path)
        connection: Connection = self._duckdb.connect(str(self.path))
        return connection

    def columns_of(self, connection: Connection, table: str) -> dict[str, str]:
        return dict(connection.execute(_COLUMNS, (table,)).fetchall())

    def insert(self, connection: Connection, rows: Sequence[Row]) -> None:
        # One statement with a list for each column: a statement for each row takes a hundred times as long.
        lists = ", ".join(f"unnest(CAST(? AS {kind}[]))" for kind in self.column_types())
        connection.execute(self.upsert(f"SELECT {lists}"), by_column(rows))

    def failures(self) -> tuple[type[Exception], tuple[type[Exception], ...]]:
        return self._duckdb.Error, (self._duckdb.DataError, self._duckdb.IntegrityError)


class DuckdbSinkOptions(SinkOptions):
    path: FilePath = Field(min_length=1, description="The file of the database, relative to the job file.")
    table: str = Field("results", pattern=f"^{NAME}$", description="The table to write; it is made when absent.")

    def build(self, context: BuildContext) -> DuckdbSink:
        return DuckdbSink(context.base_dir / self.path, table=self.table, run_id=context.run_id)


@hookimpl
def register_sink(register: Register) -> None:
    register("duckdb", DuckdbSinkOptions)


def _load_duckdb() -> Any:
    try:
        import duckdb
    except ImportError as error:
        raise PluginError(
            f"the duckdb sink needs duckdb, which does not load: {error}",
            hint="pip install 'promptmill[duckdb]'",
        ) from error
    return duckdb
