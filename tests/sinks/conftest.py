"""A PostgreSQL server of the tests' own, from what the system has installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


class PostgresServer:
    """A new cluster in a directory of its own, reached by a Unix socket there. Can be stopped and started again."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs = programs
        self._folder = folder
        # PostgreSQL does not run as root.
        self._user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        self._schemas = 0

    def create(self) -> None:
        if self._user:
            shutil.chown(self._folder, "postgres")
        self._call("initdb", "-D", self._data, "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8")

    def start(self) -> None:
        options = f"-k {self._folder} -c listen_addresses='' -c fsync=off"
        self._call("pg_ctl", "-D", self._data, "-w", "-l", str(self._folder / "log"), "-o", options, "start")

    def stop(self) -> None:
        """As a crash does it: connections break, nothing is finished."""
        self._call("pg_ctl", "-D", self._data, "-w", "-m", "immediate", "stop")

    def new_schema(self) -> str:
        """The connection string of an empty place."""
        self._schemas += 1
        name = f"place_{self._schemas}"
        dsn = f"host={self._folder} user=postgres dbname=postgres"
        self.ask(dsn, f"CREATE SCHEMA {name}")
        return f"{dsn} options='-c search_path={name}'"

    def ask(self, dsn: str, query: str, *values: object) -> list[Any]:
        import psycopg

        with psycopg.connect(dsn, autocommit=True) as connection:
            cursor = connection.execute(query.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    @property
    def _data(self) -> str:
        return str(self._folder / "data")

    def _call(self, program: str, *arguments: str) -> None:
        # Its output goes to a file: a server that is started would hold a pipe open.
        with (self._folder.parent / f"{self._folder.name}.out").open("w+") as output:
            command = [*self._user, str(self._programs / program), *arguments]
            done = subprocess.run(command, stdout=output, stderr=output, cwd="/", check=False)
            output.seek(0)
            assert done.returncode == 0, output.read()


def programs_of_postgres() -> Path | None:
    found = shutil.which("initdb")
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return Path(found or installed[-1]).resolve().parent if found or installed else None


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    programs = programs_of_postgres()
    if programs is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    if os.geteuid() == 0 and not shutil.which("runuser"):
        pytest.skip("PostgreSQL does not run as root, and there is no runuser")
    # Directories of pytest are closed to other users, and their names may be too long for a socket.
    with tempfile.TemporaryDirectory(prefix="pm-pg-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        place = Path(folder) / "s"
        place.mkdir()
        server = PostgresServer(programs, place)
        server.create()
        server.start()
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture
def dsn(postgres_server: PostgresServer) -> str:
    return postgres_server.new_schema()
