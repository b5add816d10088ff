"""Sink ``postgres``: a table in a PostgreSQL database."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

from pydantic import Field

from promptmill.errors import PluginError, UsageError
from promptmill.hookspecs import hookimpl
from promptmill.options import BuildContext, SecretRef, SinkOptions
from promptmill.secrets import Secret
from promptmill.sinks._columns import Kind
from promptmill.sinks._tables import NAME, Connection, Row, TableSink, by_column

if TYPE_CHECKING:
    from promptmill.options import Register

_UNLESS_SAID: Final = {
    "application_name": "promptmill",
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
"""Settings of the connection: a server that went away without a word is noticed within a minute.
Source: PostgreSQL 15, libpq, parameter key words; seconds, but ``tcp_user_timeout`` is in milliseconds."""

_FITTING: Final = {"host": re.compile("[^@]*"), "dbname": re.compile("[^@]*"), "port": re.compile("[0-9,]*")}

_COLUMNS: Final = (
    "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
    "WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped"
)


class PostgresSink(TableSink):
    """``meta`` is jsonb. PostgreSQL cannot hold NUL characters: they are stored as U+FFFD, in an id they are refused.

    Args:
        dsn: the connection string, ``postgresql://...`` or ``host=... dbname=...``.
        table: ``table`` or ``schema.table``.
        run_id: the run whose rows these are.

    Raises:
        PluginError: psycopg is not installed.
        UsageError: the connection string cannot be read.
    """

    types: ClassVar[Mapping[Kind, str]] = {
        "text": "text",
        "integer": "bigint",
        "real": "double precision",
        "boolean": "boolean",
        "json": "jsonb",
    }
    mark = "%s"
    nul = False
    begin = "BEGIN; SET LOCAL lock_timeout = '10s'"  # a lock held for longer is a failure, and tried again later

    def __init__(self, dsn: Secret, *, table: str = "results", run_id: str = "") -> None:
        self._psycopg = _load_psycopg()
        settings = self._settings_of(dsn)
        place = f"the PostgreSQL database {settings.get('dbname', 'of the user')!r}"
        if "host" in settings:
            place += f" on {settings['host']!r}"
        schema, _, name = table.rpartition(".")
        super().__init__(place, name, run_id, schema or None)
        self._dsn = dsn

    def connect(self) -> Connection:
        settings = {**_UNLESS_SAID, **self._settings_of(self._dsn)}
        # Statements are not kept prepared in the server: poolers give each transaction another connection.
        connection: Connection = self._psycopg.connect(**settings, autocommit=True, prepare_threshold=None)
        return connection

    def columns_of(self, connection: Connection, table: str) -> dict[str, str]:
        return dict(connection.execute(_COLUMNS, (self.named(table),)).fetchall())

    def insert(self, connection: Connection, rows: Sequence[Row]) -> None:
        # One statement with an array for each column: planned once and sent once, whatever the number of rows.
        arrays = ", ".join(f"%s::{kind}[]" for kind in self.column_types())
        connection.execute(self.upsert(f"SELECT * FROM unnest({arrays})"), by_column(rows))  # noqa: S608 - types only

    def failures(self) -> tuple[type[Exception], tuple[type[Exception], ...]]:
        driver, errors = self._psycopg, self._psycopg.errors
        at_fault = (driver.DataError, driver.IntegrityError, errors.ProgramLimitExceeded, errors.RaiseException)
        return driver.Error, at_fault

    def _settings_of(self, dsn: Secret) -> dict[str, str]:
        try:
            settings: dict[str, str] = self._psycopg.conninfo.conninfo_to_dict(dsn.reveal())
        except self._psycopg.Error:
            settings = {}
        # Neither the text nor the driver's message is quoted: both may show the password, or what is left of one
        # with an @ or / in it, which would be taken for a host, port or database.
        if not settings or any(not fits.fullmatch(settings.get(name, "")) for name, fits in _FITTING.items()):
            raise UsageError(
                "the connection string of the postgres sink cannot be read",
                code="E0115",
                hint="write postgresql://user:password@host/database, with @ : / in a password as %40 %3A %2F",
            ) from None
        return settings


class PostgresSinkOptions(SinkOptions):
    dsn: SecretRef = Field(description="Where the connection string is, e.g. env:DATABASE_URL.")
    table: str = Field(
        "results",
        pattern=rf"^({NAME}\.)?{NAME}$",
        description="The table to write, also as schema.table; it is made when absent.",
    )

    def build(self, context: BuildContext) -> PostgresSink:
        return PostgresSink(self.dsn.resolve(context.base_dir), table=self.table, run_id=context.run_id)

    def identity(self) -> dict[str, Any]:
        """Two databases are two sinks, so the reference counts here; the secret is not in it."""
        return {**super().identity(), "dsn": str(self.dsn)}


@hookimpl
def register_sink(register: Register) -> None:
    register("postgres", PostgresSinkOptions)


def _load_psycopg() -> Any:
    try:
        import psycopg
    except ImportError as error:
        raise PluginError(
            f"the postgres sink needs psycopg, which does not load: {error}",
            hint="pip install 'promptmill[postgres]'",
        ) from error
    return psycopg
