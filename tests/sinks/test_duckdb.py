"""The duckdb sink against real files: the contract, types, rejected rows, other runs and foreign tables."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from promptmill.errors import PluginError, RowRejected, StorageError
from promptmill.interfaces import Sink
from promptmill.models import ErrorInfo, Result, Usage
from promptmill.options import BuildContext
from promptmill.sinks.duckdb import DuckdbSink, DuckdbSinkOptions
from promptmill.testing import SinkContract, result

duckdb = pytest.importorskip("duckdb")


def ask(path: Path, query: str, *values: object) -> list[Any]:
    with duckdb.connect(str(path)) as connection:
        return connection.execute(query, values).fetchall()


class TestDuckdbSink(SinkContract):
    options_class = DuckdbSinkOptions

    def settings(self) -> Mapping[str, Any]:
        return {"path": "deep/answers.duckdb"}

    @property
    def path(self) -> Path:
        return self.folder / "deep" / "answers.duckdb"

    def rows(self) -> Sequence[tuple[str, str | None]]:
        return ask(self.path, 'SELECT id, "text" FROM results ORDER BY seq')

    def make_foreign(self) -> bool:
        self.path.parent.mkdir(parents=True)
        ask(self.path, "CREATE TABLE results (id TEXT, text TEXT)")
        return True

    def make_unwritable(self) -> Sink:
        (self.folder / "directory").mkdir()
        return DuckdbSink(self.folder / "directory")

    def lose(self) -> None:
        ask(self.path, "DROP TABLE results")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "answers.duckdb"


async def write(sink: Sink, *results: Result, position: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    async with sink:
        await sink.start(position)
        await sink.write(results)
        return await sink.commit()


async def test_every_field_has_its_type(path: Path) -> None:
    full = Result(
        id="a",
        index=3,
        status="failed",
        provider="fast",
        attempts=2,
        latency_s=0.25,
        usage=Usage(input_tokens=2**40),
        cost_usd=0.5,
        error=ErrorInfo(code="bad_request", message="no", http_status=400, retryable=True),
        meta={"label": "é", "n": [1, None]},
    )
    await write(DuckdbSink(path, run_id="r1"), full)
    with duckdb.connect(str(path)) as connection:
        found = connection.execute("SELECT * FROM results")
        names = [column[0] for column in found.description]
        row = dict(zip(names, found.fetchone(), strict=True))
        assert connection.execute("SELECT meta->>'$.n[0]' FROM results").fetchone() == ("1",)
    assert {name: value for name, value in row.items() if value is not None} == {
        "run_id": "r1",
        "seq": 1,
        "id": "a",
        "index": 3,
        "status": "failed",
        "provider": "fast",
        "attempts": 2,
        "latency_s": 0.25,
        "input_tokens": 2**40,
        "cost_usd": 0.5,
        "error_code": "bad_request",
        "error_message": "no",
        "error_http_status": 400,
        "error_retryable": True,
        "meta": '{"label":"é","n":[1,null]}',
    }
    assert names[:6] == ["run_id", "seq", "id", "index", "status", "text"]


async def test_rows_delivered_again_are_not_doubled(path: Path) -> None:
    """And those of another run are left alone."""
    await write(DuckdbSink(path, run_id="old"), result("old", id="1"))
    first = await write(DuckdbSink(path, run_id="new"), result("a", id="1"))
    await write(DuckdbSink(path, run_id="new"), result("b", id="2"), result("c", id="3"), position=first)
    await write(DuckdbSink(path, run_id="new"), result("b", id="2"), result("d", id="1"), position=first)
    assert ask(path, 'SELECT run_id, id, "text" FROM results ORDER BY 1, seq') == [
        ("new", "2", "b"),
        ("new", "1", "d"),
        ("old", "1", "old"),
    ]


async def test_a_row_the_database_refuses_is_named(path: Path) -> None:
    """Whatever place in the group it has; nothing of the group is written, and what was before it stays."""
    await write(DuckdbSink(path))
    columns = ask(path, "SELECT sql FROM duckdb_tables() WHERE table_name = 'results'")[0][0]
    ask(path, "DROP TABLE results")
    ask(path, columns.replace("PRIMARY KEY", "CHECK (\"text\" <> 'rude'), PRIMARY KEY"))
    async with DuckdbSink(path) as sink:
        await sink.start(None)
        await sink.write([result("first", id="first")])
        for bad in range(4):
            group = [result("rude" if number == bad else "kind", id=str(number)) for number in range(4)]
            with pytest.raises(RowRejected, match="CHECK constraint failed") as caught:
                await sink.write(group)
            assert caught.value.result_id == str(bad)
        await sink.write(group[:3])
        assert await sink.commit() == {"seq": 4}
    assert ask(path, "SELECT id FROM results ORDER BY seq") == [("first",), ("0",), ("1",), ("2",)]


async def test_table_with_other_columns_is_refused(path: Path) -> None:
    await write(DuckdbSink(path))
    ask(path, "ALTER TABLE results ADD COLUMN mood VARCHAR")
    with pytest.raises(StorageError, match="it has a column 'mood' that is not ours") as caught:
        await write(DuckdbSink(path))
    assert caught.value.code == "E0614"


async def test_table_without_the_key_is_refused(path: Path) -> None:
    await write(DuckdbSink(path))
    ask(path, "CREATE TABLE copy AS SELECT * FROM results")
    with pytest.raises(StorageError, match=r"table 'copy' of .* cannot be written") as caught:
        await write(DuckdbSink(path, table="copy"))
    assert caught.value.code == "E0614"


async def test_a_file_another_process_has_is_a_storage_error(path: Path) -> None:
    program = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('ready', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"ready\n"
        with pytest.raises(StorageError, match="cannot be used") as caught:
            await write(DuckdbSink(path), result())
        assert caught.value.code == "E0613"
        other.communicate()
    await write(DuckdbSink(path), result("a"))
    assert ask(path, 'SELECT "text" FROM results') == [("a",)]


async def test_a_file_that_is_no_database_is_left_as_it_is(path: Path) -> None:
    path.write_bytes(b"my notes\n" * 1000)
    with pytest.raises(StorageError, match="not a valid DuckDB"):
        await write(DuckdbSink(path), result())
    assert path.read_bytes() == b"my notes\n" * 1000


@pytest.mark.parametrize("table", ["", "a.b", 'a"b', "a;b", "a\n"])
def test_table_names_are_checked(table: str) -> None:
    with pytest.raises(ValidationError, match="table"):
        DuckdbSinkOptions(path="x.duckdb", table=table)


def test_without_duckdb_the_way_to_get_it_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(PluginError, match="the duckdb sink needs duckdb") as caught:
        DuckdbSinkOptions(path="x.duckdb").build(BuildContext(name="sink 1", base_dir=tmp_path))
    assert caught.value.hint == "pip install 'promptmill[duckdb]'"
