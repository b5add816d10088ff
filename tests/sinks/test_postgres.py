"""The postgres sink against a real PostgreSQL: the contract, rejected rows, outages, secrets."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from promptmill.errors import PluginError, RowRejected, StorageError, UsageError
from promptmill.interfaces import Sink
from promptmill.models import ErrorInfo, Result, Usage
from promptmill.options import BuildContext, SecretRef
from promptmill.secrets import Secret
from promptmill.sinks.postgres import PostgresSink, PostgresSinkOptions
from promptmill.testing import SinkContract, result
from promptmill.testing.sinks import HOSTILE


class TestPostgresSink(SinkContract):
    options_class = PostgresSinkOptions

    @pytest.fixture(autouse=True)
    def _take_server(self, postgres_server: Any, dsn: str, tmp_path: Path) -> None:
        self.server, self.dsn = postgres_server, dsn
        (tmp_path / "dsn").write_text(dsn, encoding="utf-8")

    def settings(self) -> Mapping[str, Any]:
        return {"dsn": "file:dsn"}

    def rows(self) -> Sequence[tuple[str, str | None]]:
        return self.server.ask(self.dsn, 'SELECT id, "text" FROM results ORDER BY seq')

    def make_foreign(self) -> bool:
        self.server.ask(self.dsn, 'CREATE TABLE results (id text, "text" text)')
        return True

    def make_unwritable(self) -> Sink:
        return PostgresSink(Secret(f"host={self.folder} connect_timeout=1"))

    def lose(self) -> None:
        self.server.ask(self.dsn, "DROP TABLE results")

    async def test_hostile_text_comes_back(self) -> None:
        """All but NUL, which PostgreSQL cannot hold."""
        await self._run([result(text, id=str(number)) for number, text in enumerate(HOSTILE)])
        stored = [text.replace("\x00", "\ufffd") for text in HOSTILE]
        assert list(self.rows()) == [(str(number), text) for number, text in enumerate(stored)]


async def write(sink: Sink, *results: Result, position: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    async with sink:
        await sink.start(position)
        await sink.write(results)
        return await sink.commit()


async def test_every_field_has_its_type(postgres_server: Any, dsn: str) -> None:
    full = Result(
        id="a",
        index=3,
        status="failed",
        provider="fast",
        attempts=2,
        latency_s=0.25,
        usage=Usage(input_tokens=2**40),
        cost_usd=0.5,
        error=ErrorInfo(code="bad_request", message="no %s", http_status=400, retryable=True),
        meta={"label": "é", "n": [1, None]},
    )
    await write(PostgresSink(Secret(dsn), run_id="r1"), full)
    ((row,),) = postgres_server.ask(dsn, "SELECT to_jsonb(results) FROM results")
    assert row == {
        "run_id": "r1",
        "seq": 1,
        "id": "a",
        "index": 3,
        "status": "failed",
        "text": None,
        "finish_reason": None,
        "provider": "fast",
        "model": None,
        "tier": None,
        "attempts": 2,
        "latency_s": 0.25,
        "input_tokens": 2**40,
        "cached_tokens": None,
        "output_tokens": None,
        "reasoning_tokens": None,
        "cost_usd": 0.5,
        "error_code": "bad_request",
        "error_message": "no %s",
        "error_http_status": 400,
        "error_retryable": True,
        "meta": {"label": "é", "n": [1, None]},
    }


async def test_rows_delivered_again_are_not_doubled(postgres_server: Any, dsn: str) -> None:
    """And those of another run are left alone."""
    await write(PostgresSink(Secret(dsn), run_id="old"), result("old", id="1"))
    first = await write(PostgresSink(Secret(dsn), run_id="new"), result("a", id="1"))
    await write(PostgresSink(Secret(dsn), run_id="new"), result("b", id="2"), result("c", id="3"), position=first)
    await write(PostgresSink(Secret(dsn), run_id="new"), result("b", id="2"), result("d", id="1"), position=first)
    assert postgres_server.ask(dsn, 'SELECT run_id, id, "text" FROM results ORDER BY 1, seq') == [
        ("new", "2", "b"),
        ("new", "1", "d"),
        ("old", "1", "old"),
    ]


async def test_table_in_a_schema(postgres_server: Any, dsn: str) -> None:
    name = postgres_server.new_schema().rpartition("=")[2].strip("'")
    await write(PostgresSink(Secret(dsn), table=f"{name}.Answers"), result("a"))
    assert postgres_server.ask(dsn, f'SELECT "text" FROM {name}."Answers"') == [("a",)]
    assert postgres_server.ask(dsn, f"SELECT table_name, seq FROM {name}.promptmill_checkpoint") == [("Answers", 1)]


async def test_table_with_other_columns_is_refused(postgres_server: Any, dsn: str) -> None:
    await write(PostgresSink(Secret(dsn)))
    postgres_server.ask(dsn, "ALTER TABLE results DROP COLUMN tier, ADD COLUMN mood text, ALTER meta TYPE json")
    with pytest.raises(StorageError) as caught:
        await write(PostgresSink(Secret(dsn)))
    assert caught.value.code == "E0614"
    assert caught.value.message.endswith(
        "is not one of ours: it has no column 'tier'; it has a column 'mood' that is not ours; "
        "the column 'meta' is json and should be jsonb"
    )


async def test_table_without_the_key_is_refused(postgres_server: Any, dsn: str) -> None:
    await write(PostgresSink(Secret(dsn)))
    postgres_server.ask(dsn, "CREATE TABLE copy (LIKE results)")
    with pytest.raises(StorageError, match="there is no unique or exclusion constraint") as caught:
        await write(PostgresSink(Secret(dsn), table="copy"))
    assert caught.value.code == "E0614"


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (result("x", id="bad \x00"), "cannot contain NUL"),
        (result("rude", id="bad"), 'violates check constraint "polite"'),
        (result("x", id="bad", usage=Usage(output_tokens=2**63)), "the output_tokens 9223372036854775808"),
    ],
)
async def test_a_row_the_database_refuses_is_named(postgres_server: Any, dsn: str, bad: Result, reason: str) -> None:
    await write(PostgresSink(Secret(dsn)))
    postgres_server.ask(dsn, "ALTER TABLE results ADD CONSTRAINT polite CHECK (\"text\" <> 'rude')")
    good = [result("kind", id=str(number)) for number in range(6)]
    async with PostgresSink(Secret(dsn)) as sink:
        await sink.start(None)
        await sink.write(good[:1])
        with pytest.raises(RowRejected, match=reason) as caught:
            await sink.write([*good[1:4], bad, *good[4:]])
        assert caught.value.result_id == bad.id
        await sink.write(good[1:])
        assert await sink.commit() == {"seq": 6}
    assert postgres_server.ask(dsn, "SELECT array_agg(id ORDER BY seq) FROM results") == [(list("012345"),)]


async def test_a_locked_table_is_a_storage_error(
    postgres_server: Any, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psycopg

    monkeypatch.setattr(PostgresSink, "begin", PostgresSink.begin.replace("10s", "10ms"))
    async with PostgresSink(Secret(dsn)) as sink:
        await sink.start(None)
        with psycopg.connect(dsn) as other:
            other.execute("LOCK TABLE results")
            with pytest.raises(StorageError, match="lock timeout") as caught:
                await sink.write([result()])
            assert not isinstance(caught.value, RowRejected)
        await sink.write([result()])
    assert postgres_server.ask(dsn, "SELECT count(*) FROM results") == [(1,)]


async def test_an_outage_is_a_storage_error_and_the_sink_opens_again(postgres_server: Any, dsn: str) -> None:
    sink = PostgresSink(Secret(dsn))
    async with sink:
        await sink.start(None)
        await sink.write([result("a", id="1")])
        position = await sink.commit()
        postgres_server.stop()
        try:
            with pytest.raises(StorageError) as caught:
                await sink.write([result("b", id="2")])
            assert not isinstance(caught.value, RowRejected)
            await sink.aclose()
            with pytest.raises(StorageError, match=r"the PostgreSQL database 'postgres' on .* cannot be used"):
                await sink.start(position)
        finally:
            postgres_server.start()
    await write(sink, result("b", id="2"), position=position)
    assert postgres_server.ask(dsn, 'SELECT "text" FROM results ORDER BY seq') == [("a",), ("b",)]


@pytest.mark.parametrize(
    "dsn",
    [
        "hunter2 is my password",
        "postgresql://me:hunter2@x@127.0.0.1/db",
        "postgresql://me:12/hunter2@127.0.0.1/db",
        "postgresql://me:hunter2/@127.0.0.1/db",
        "",
    ],
)
def test_no_message_shows_the_connection_string(dsn: str) -> None:
    """A password with an @ or / in it ends up in the wrong part."""
    pytest.importorskip("psycopg")
    with pytest.raises(UsageError, match="cannot be read") as caught:
        PostgresSink(Secret(dsn))
    assert "hunter2" not in repr(caught.value) + str(caught.value.__cause__) + str(caught.value.hint)
    assert caught.value.__suppress_context__


def test_a_connection_string_is_never_written_into_the_job() -> None:
    with pytest.raises(ValidationError, match="never as itself") as caught:
        PostgresSinkOptions(dsn="postgresql://me:hunter2@127.0.0.1/db")
    assert "hunter2" not in str(caught.value)


def test_two_databases_are_two_sinks() -> None:
    one, other = (PostgresSinkOptions(dsn=SecretRef(f"env:{name}")) for name in ("ONE", "OTHER"))
    assert one.identity() == {"dsn": "env:ONE"}
    assert one.identity() != other.identity()


@pytest.mark.parametrize("table", ["a.b.c", ".a", "a.", 'a"b', "a b", "a" * 64, "a\n", ""])
def test_table_names_are_checked(table: str) -> None:
    with pytest.raises(ValidationError, match="table"):
        PostgresSinkOptions(dsn="env:X", table=table)


def test_without_psycopg_the_way_to_get_it_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.setenv("SOME_DSN", "host=x")
    options = PostgresSinkOptions(dsn="env:SOME_DSN")
    with pytest.raises(PluginError, match="the postgres sink needs psycopg") as caught:
        options.build(BuildContext(name="sink 1", base_dir=tmp_path))
    assert caught.value.hint == "pip install 'promptmill[postgres]'"
