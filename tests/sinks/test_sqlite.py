"""The sqlite sink: the contract, one transaction for rows and place, other runs, foreign tables, rejected rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from promptmill.errors import RowRejected, StorageError, UsageError
from promptmill.interfaces import Sink
from promptmill.models import ErrorInfo, Result, Usage
from promptmill.options import BuildContext
from promptmill.sinks.sqlite import SqliteSink, SqliteSinkOptions
from promptmill.testing import SinkContract, result


def ask(path: Path, query: str, *values: object) -> list[Any]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(query, values).fetchall()


class TestSqliteSink(SinkContract):
    options_class = SqliteSinkOptions

    def settings(self) -> Mapping[str, Any]:
        return {"path": "deep/er/answers.db"}

    @property
    def path(self) -> Path:
        return self.folder / "deep" / "er" / "answers.db"

    def rows(self) -> Sequence[tuple[str, str | None]]:
        return ask(self.path, 'SELECT id, "text" FROM results ORDER BY seq')

    def make_foreign(self) -> bool:
        self.path.parent.mkdir(parents=True)
        ask(self.path, "CREATE TABLE results (id TEXT, text TEXT)")
        return True

    def make_unwritable(self) -> Sink:
        (self.folder / "directory").mkdir()
        return SqliteSink(self.folder / "directory")

    def lose(self) -> None:
        ask(self.path, "DROP TABLE results")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "answers.db"


async def write(sink: Sink, *results: Result, position: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    async with sink:
        await sink.start(position)
        await sink.write(results)
        return await sink.commit()


async def test_every_field_is_a_column(path: Path) -> None:
    full = Result(
        id="a",
        index=3,
        status="failed",
        text=None,
        finish_reason="length",
        provider="fast",
        model="m",
        tier="batch",
        attempts=2,
        latency_s=0.25,
        usage=Usage(input_tokens=1, cached_tokens=0, output_tokens=2, reasoning_tokens=None),
        cost_usd=0.5,
        error=ErrorInfo(code="bad_request", message="no", http_status=400, retryable=False),
        meta={"label": "é"},
    )
    await write(SqliteSink(path, run_id="r1"), full)
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        (row,) = connection.execute("SELECT * FROM results").fetchall()
    assert dict(row) == {
        "run_id": "r1",
        "seq": 1,
        "id": "a",
        "index": 3,
        "status": "failed",
        "text": None,
        "finish_reason": "length",
        "provider": "fast",
        "model": "m",
        "tier": "batch",
        "attempts": 2,
        "latency_s": 0.25,
        "input_tokens": 1,
        "cached_tokens": 0,
        "output_tokens": 2,
        "reasoning_tokens": None,
        "cost_usd": 0.5,
        "error_code": "bad_request",
        "error_message": "no",
        "error_http_status": 400,
        "error_retryable": 0,
        "meta": '{"label":"é"}',
    }


async def test_place_and_rows_are_committed_together(path: Path) -> None:
    """Whoever looks between two statements of another process sees both or neither."""
    async with SqliteSink(path, run_id="r1") as sink:
        await sink.start(None)
        for number in range(3):
            await sink.write([result("a", id=f"{number}-{one}") for one in range(number)])
            both = ask(path, "SELECT (SELECT count(*) FROM results), (SELECT max(seq) FROM promptmill_checkpoint)")
            assert both == [((number * (number + 1)) // 2, (await sink.commit())["seq"] or None)]


async def test_rows_delivered_again_are_not_doubled(path: Path) -> None:
    """A process that died after the sink's commit and before the journal's note of it writes the same rows again."""
    first = await write(SqliteSink(path, run_id="r1"), result("a", id="1"))
    await write(SqliteSink(path, run_id="r1"), result("b", id="2"), result("c", id="3"), position=first)
    await write(SqliteSink(path, run_id="r1"), result("b", id="2"), position=first)
    await write(SqliteSink(path, run_id="r1"), result("c", id="3"), position={"seq": 2})
    assert ask(path, "SELECT id, seq FROM results ORDER BY seq") == [("1", 1), ("2", 2), ("3", 3)]


async def test_a_later_result_of_the_same_request_replaces_the_first(path: Path) -> None:
    failed = result(None, id="1", status="failed")
    position = await write(SqliteSink(path), failed, result("b", id="2"))
    await write(SqliteSink(path), failed, result("late", id="1"), position=position)
    assert ask(path, 'SELECT id, "text" FROM results ORDER BY seq') == [("2", "b"), ("1", "late")]


async def test_rows_of_other_runs_are_left_alone(path: Path) -> None:
    await write(SqliteSink(path, run_id="old"), result("old", id="1"), result("old", id="2"))
    await write(SqliteSink(path, run_id="new"), result("lost", id="1"), position={})
    await write(SqliteSink(path, run_id="new"), result("new", id="1"), position={})
    assert ask(path, 'SELECT run_id, id, "text" FROM results ORDER BY run_id, seq') == [
        ("new", "1", "new"),
        ("old", "1", "old"),
        ("old", "2", "old"),
    ]


async def test_tables_of_one_file_do_not_meddle(path: Path) -> None:
    await write(SqliteSink(path, table="a"), result("a"))
    await write(SqliteSink(path, table="b"), result("b"), result("c", id="2"))
    assert ask(path, "SELECT table_name, seq FROM promptmill_checkpoint ORDER BY 1") == [("a", 1), ("b", 2)]


async def test_a_run_that_forgot_what_it_wrote_is_refused(path: Path) -> None:
    await write(SqliteSink(path, run_id="r1"), result("a"))
    with pytest.raises(StorageError, match="1 rows of this run that the run does not know of") as caught:
        await write(SqliteSink(path, run_id="r1"), result("a"))
    assert caught.value.code == "E0610"


async def test_a_lost_table_stays_refused(path: Path) -> None:
    """Refusing must not leave an empty table behind that would pass the next time."""
    position = await write(SqliteSink(path), result("a"))
    ask(path, "DROP TABLE results")
    for _ in range(2):
        with pytest.raises(StorageError, match="has 0 rows of this run, and 1 were written") as caught:
            await write(SqliteSink(path), position=position)
        assert caught.value.code == "E0611"


async def test_strange_position_is_refused(path: Path) -> None:
    for position in ({"bytes": 7}, {"seq": -1}, {"seq": "1"}):
        with pytest.raises(StorageError, match="is not of this sink"):
            await write(SqliteSink(path), position=position)


@pytest.mark.parametrize(
    ("statement", "difference"),
    [
        ("ALTER TABLE results DROP COLUMN tier", "it has no column 'tier'"),
        ("ALTER TABLE results ADD COLUMN mood TEXT", "it has a column 'mood' that is not ours"),
        (
            "ALTER TABLE results DROP COLUMN attempts; ALTER TABLE results ADD COLUMN attempts TEXT",
            "the column 'attempts' is TEXT and should be INTEGER",
        ),
    ],
)
async def test_table_with_other_columns_is_refused(path: Path, statement: str, difference: str) -> None:
    await write(SqliteSink(path))
    for part in statement.split(";"):
        ask(path, part)
    with pytest.raises(StorageError, match=difference) as caught:
        await write(SqliteSink(path))
    assert caught.value.code == "E0614"
    assert caught.value.hint == "name another table in the job's sinks, and it will be made"


async def test_table_without_the_key_is_refused(path: Path) -> None:
    await write(SqliteSink(path))
    ask(path, "CREATE TABLE copy AS SELECT * FROM results")
    types = dict(ask(path, "SELECT name, type FROM pragma_table_info('results')"))
    ask(path, "DROP TABLE copy")
    ask(path, f"CREATE TABLE copy ({', '.join(f'{chr(34)}{name}{chr(34)} {kind}' for name, kind in types.items())})")
    with pytest.raises(StorageError, match="cannot be written: ON CONFLICT") as caught:
        await write(SqliteSink(path, table="copy"))
    assert caught.value.hint == "it needs the primary key (run_id, id); name another table, and it will be made"


async def test_a_row_the_database_refuses_is_named(path: Path) -> None:
    """Whatever place in the group it has, and nothing of the group is written."""
    await write(SqliteSink(path))
    ask(
        path,
        "CREATE TRIGGER polite BEFORE INSERT ON results WHEN new.text = 'rude' "
        "BEGIN SELECT raise(ABORT, 'mind your language'); END",
    )
    async with SqliteSink(path, run_id="r1") as sink:
        await sink.start(None)
        for bad in range(5):
            group = [result("rude" if number == bad else "kind", id=str(number)) for number in range(5)]
            with pytest.raises(RowRejected, match="does not take it: mind your language") as caught:
                await sink.write(group)
            assert caught.value.result_id == str(bad)
            assert ask(path, "SELECT count(*) FROM results") == [(0,)]
        await sink.write([one for one in group if one.text == "kind"])
        assert await sink.commit() == {"seq": 4}
    assert ask(path, "SELECT seq, id FROM results") == [(1, "0"), (2, "1"), (3, "2"), (4, "3")]


async def test_a_number_too_large_is_rejected(path: Path) -> None:
    async with SqliteSink(path) as sink:
        await sink.start(None)
        with pytest.raises(RowRejected, match="the input_tokens 18446744073709551616 is not an integer of 64 bits"):
            await sink.write([result(), result(id="2", usage=Usage(input_tokens=2**64))])
        await sink.write([result(usage=Usage(input_tokens=2**63 - 1))])
    assert ask(path, "SELECT input_tokens FROM results") == [(2**63 - 1,)]


async def test_a_locked_file_is_a_storage_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("promptmill.sinks.sqlite._BUSY_SECONDS", 0.01)
    async with SqliteSink(path) as sink:
        await sink.start(None)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StorageError, match=r"answers\.db' cannot be used: database is locked") as caught:
                await sink.write([result()])
            assert not isinstance(caught.value, RowRejected)
        await sink.write([result()])
    assert ask(path, "SELECT count(*) FROM results") == [(1,)]


async def test_a_file_that_is_no_database_is_left_as_it_is(path: Path) -> None:
    path.write_bytes(b"my notes\n" * 100)
    with pytest.raises(StorageError, match="file is not a database"):
        await write(SqliteSink(path), result())
    assert path.read_bytes() == b"my notes\n" * 100


@pytest.mark.parametrize("name", ["", "a b", 'a"b', "a;DROP TABLE x", "1a", "a" * 64, "a\n", "é", "a.b", "a'", "a?"])
def test_table_names_are_checked(name: str) -> None:
    with pytest.raises(ValidationError, match="table"):
        SqliteSinkOptions(path="x.db", table=name)
    with pytest.raises(UsageError, match="a table cannot be called"):
        SqliteSink(Path("x.db"), table=name)


@given(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,10}", fullmatch=True))
def test_any_name_that_passes_is_one_name_to_the_database(name: str) -> None:
    """Keywords included: names are quoted."""
    assume(not name.lower().startswith("sqlite_"))
    SqliteSinkOptions(path="x.db", table=name)
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(SqliteSink(Path("x.db"), table=name)._sql("CREATE TABLE {results} (a)"))
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [(name,)]


def test_values_are_bound() -> None:
    statement = SqliteSink(Path("x.db")).upsert("VALUES (?)")
    assert statement.startswith('INSERT INTO "results" ("run_id", "seq", "id", "index", "status", "text"')
    assert 'ON CONFLICT ("run_id", "id") DO UPDATE SET "seq" = excluded."seq", "index"' in statement


def test_built_for_its_run(tmp_path: Path) -> None:
    context = BuildContext(name="sink 1", base_dir=tmp_path, run_id="r7")
    sink = SqliteSinkOptions(path="x.db", table="t").build(context)
    assert (sink.path, sink.table, sink._run_id) == (tmp_path / "x.db", "t", "r7")
